"""What waits to be sent: to one client, and to all. A client that does not read costs a bounded amount of memory.

One client's limit counts what waits and the message that is to join it, so that one message cannot pass it by far.
What happens at the limit has a name, the setting `slow_reader`:

- close: the connection is closed with 1013 (the default: a stream with a hole is worse than none);
- drop_newest: the message is dropped and counted;
- drop_oldest: the oldest messages that have not begun to leave are dropped and counted, until the new one fits.

At the limit for all, the connections with the most waiting are cut off, since only that frees the memory at once.
"""

from __future__ import annotations

from zwoole.reactor.closing import Closing
from zwoole.reactor.connection import OPEN, Connection
from zwoole.reactor.registry import Registry
from zwoole.reactor.router import Router
from zwoole.shared.log import get_logger
from zwoole.shared.settings import Settings
from zwoole.shared.wire import BUFFER_EMPTY, BUFFER_FULL

log = get_logger("backlog")


class Backlog:
    """Keeps the account of what waits to be sent.

    Attributes:
        total: bytes waiting for all connections, as of their last flush.
        dropped: messages dropped by a drop policy.
        limit: bytes that may wait for one connection.
        kicked: connections closed for what waited for them.
    """

    def __init__(self, registry: Registry, router: Router, closing: Closing, settings: Settings) -> None:
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

    def admit(self, connection: Connection, size: int) -> bool:
        """Tell whether a message of `size` bytes may join what waits for a connection; apply the policy if not."""
        if connection.queued + connection.pending + size <= self.limit:
            return True
        if self._policy == "drop_newest":
            self.dropped += 1
            return False
        if self._policy == "drop_oldest":
            self.dropped += connection.drop_oldest(connection.queued + connection.pending + size - self.limit)
            if connection.queued + connection.pending + size <= self.limit:
                return True
            self.dropped += 1
            return False
        self.kicked += 1
        self._closing.too_slow(connection)
        return False

    def note(self, connection: Connection) -> None:
        """Take a connection's queue into account, after a flush or a drop."""
        queued = connection.queued + connection.pending
        self.total += queued - connection.noted
        connection.noted = queued
        if connection.stage < 5:
            self._registry.table.set_queued(connection.fd, queued)
        if connection.full:
            if queued <= self._low:
                connection.full = False
                self._router.notify(connection, BUFFER_EMPTY)
        elif queued >= self._high:
            connection.full = True
            self._router.notify(connection, BUFFER_FULL)
        if self.total > self._total_limit:
            self._relieve()

    def _relieve(self) -> None:
        """Cut off those with the most waiting until a tenth of the limit is free again."""
        largest = sorted(self._registry, key=lambda connection: connection.noted, reverse=True)
        log.warning("%d bytes wait to be sent: cutting off the connections with the most", self.total)
        for connection in largest:
            if self.total <= self._total_limit * 9 // 10:
                return
            self.kicked += 1
            if connection.stage == OPEN:
                self._closing.force(connection)
            else:
                self._closing.cut(connection)
