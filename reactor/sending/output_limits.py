"""What waits to be sent: to one client, and to all. A client that does not read costs a bounded amount of memory.

One client's limit counts what waits and the message that is to join it, so that one message cannot pass it by far.
What happens at the limit has a name, the setting `slow_reader`:

- close: the connection is closed with 1013 (the default: a stream with a hole is worse than none);
- drop_newest: the message is dropped and counted;
- drop_oldest: the oldest messages that have not begun to leave are dropped and counted, until the new one fits.

At the limit for all, the connections with the most waiting are cut off, since only that frees the memory at once. That
limit counts memory: of a chunk that a slow reader has begun to take, the whole is held until the rest has left.
"""

from __future__ import annotations

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.life import Life
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.stages import STAGE_GONE, STAGE_OPEN
from zwoole.reactor.routing.router import Router
from zwoole.shared.process.log import get_logger
from zwoole.shared.settings import Settings

log = get_logger("output limits")


class OutputLimits:
    """Keeps the account of what waits to be sent.

    Attributes:
        total: memory held for what waits for all connections, as of their last flush.
        dropped: messages dropped by a drop policy.
        limit: bytes that may wait for one connection.
        kicked: connections closed for what waited for them.
    """

    def __init__(self, registry: Registry, router: Router, closing: Closing, life: Life, settings: Settings) -> None:
        self.total = 0
        self.dropped = 0
        self.kicked = 0
        self._registry = registry
        self._router = router
        self._closing = closing
        self._policy = settings.slow_reader
        self.limit = settings.output_limit
        self._total_limit = settings.output_total_bytes
        self._high = settings.buffer_high_watermark or self.limit * 8 // 10
        self._low = settings.buffer_low_watermark
        # For a coroutine handler, whose `send` waits in between: what is on its way to us must find room as well.
        self._handler_high = min(self._high, self.limit // 8)
        self._handler_low = min(max(self._low, self.limit // 32), self._handler_high - 1)
        life.dropped.append(self.note)

    def room(self) -> int:
        """Return how many bytes may be queued before the total has to be looked at: all connections flushed first."""
        return max(self._total_limit - self.total, self._total_limit // 64)

    def admit(self, connection: Connection, size: int) -> bool:
        """Tell whether a message of `size` bytes may join what waits for a connection; apply the policy if not.

        Where each frame is a chunk of its own (`drop_oldest`), what the chunks take counts too.
        """
        waiting = (
            connection.output.held()
            if connection.output.framed
            else connection.output.queued + connection.output.pending
        )
        if waiting + size <= self.limit:
            return True
        if self._policy == "drop_newest":
            self.dropped += 1
            return False
        if self._policy == "drop_oldest":
            self.dropped += connection.output.drop_oldest(waiting + size - self.limit)
            if connection.output.held() + size <= self.limit:
                return True
            self.dropped += 1
            return False
        self.kicked += 1
        self._closing.too_slow(connection)
        return False

    def note(self, connection: Connection) -> None:
        """Take a connection's queue into account, after a flush or a drop."""
        queued = connection.output.queued + connection.output.pending
        held = connection.output.held()
        grown = held > connection.output.noted
        self.total += held - connection.output.noted
        connection.output.noted = held
        if connection.stage < STAGE_GONE:
            self._registry.table.set_queued(connection.fd, queued)
        if connection.output.full:
            if queued <= (self._handler_low if connection.handler else self._low):
                connection.output.full = False
                self._router.notify(connection)
        elif queued >= (self._handler_high if connection.handler else self._high):
            connection.output.full = True
            self._router.notify(connection)
        if grown and self.total > self._total_limit:
            self._relieve()

    def _relieve(self) -> None:
        """Cut off those with the most waiting until a tenth of the limit is free again."""
        waiting = [connection for connection in self._registry if connection.output.noted]
        largest = sorted(waiting, key=lambda connection: connection.output.noted, reverse=True)
        log.warning("%d bytes are held to be sent: cutting off the connections with the most", self.total)
        for connection in largest:
            if self.total <= self._total_limit * 9 // 10:
                return
            self.kicked += 1
            if connection.stage == STAGE_OPEN:
                self._closing.force(connection)
            else:
                self._closing.cut(connection)
