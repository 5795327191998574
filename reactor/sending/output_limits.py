"""Limits queued output, per client and for all clients: a client that does not read takes a bounded amount of memory.

The limit for one client covers the queued output and the message to be added, so that one message cannot exceed it by
far. The setting `slow_reader` says what happens at this limit:

- close: the connection is closed with 1013 (the default: a stream with a gap is worse than none);
- drop_newest: the message is dropped and counted;
- drop_oldest: the oldest messages that have not begun to leave are dropped and counted, until the new one fits.

At the limit for all clients, the connections with the most queued output are closed without a close frame, since only
that frees the memory at once. This limit counts memory: a chunk that is partly sent is held as a whole until the rest
has left.
"""

from __future__ import annotations

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_life import Life
from zwoole.reactor.core.connection_stages import STAGE_GONE, STAGE_OPEN
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.routing.router import Router
from zwoole.shared.process.log import get_logger
from zwoole.shared.settings import Settings

TOO_SLOW = "you read too slowly: too much output is queued"
TOO_LARGE = "a message is larger than the server's output queue"

log = get_logger("output limits")


class OutputLimits:
    """Keeps the account of queued output.

    Attributes:
        total: bytes of memory that the output queues of all connections held at their last flush.
        dropped: how many messages were dropped by a drop policy.
        limit: how many bytes may be queued for one connection.
        closed: how many connections were closed because of their queued output.
    """

    def __init__(self, registry: Registry, router: Router, closing: Closing, life: Life, settings: Settings) -> None:
        self.total = 0
        self.dropped = 0
        self.closed = 0
        self._registry = registry
        self._router = router
        self._closing = closing
        self._policy = settings.slow_reader
        self.limit = settings.output_limit
        ends = "the connection is closed" if self._policy == "close" else "it is dropped"
        self._too_large = f"is larger than socket_buffer_size ({self.limit}): {ends}"
        self._total_limit = settings.output_total_bytes
        self._high = settings.high_watermark
        self._low = settings.buffer_low_watermark
        # Lower for coroutine handlers: `send` waits between the marks, and messages on the wire need room as well.
        self._handler_high = min(self._high, self.limit // 8)
        self._handler_low = min(max(self._low, self.limit // 32), self._handler_high - 1)
        life.dropped.append(self.note)

    def room(self) -> int:
        """Return how many bytes may be queued before all connections must be flushed to know the total again."""
        return max(self._total_limit - self.total, self._total_limit // 64)

    def admit(self, connection: Connection, size: int) -> bool:
        """Tell whether a message of `size` bytes may be queued for a connection; apply the policy at the limit.

        With `drop_oldest` each frame is a chunk of its own, and the memory for the chunks counts too.
        """
        waiting = (
            connection.output.held()
            if connection.output.framed
            else connection.output.queued + connection.output.pending
        )
        if waiting + size <= self.limit:
            return True
        if size > self.limit:
            log.warning("fd %d: a message of %d bytes %s", connection.fd, size, self._too_large)
        if self._policy == "drop_oldest" and size <= self.limit:
            self.dropped += connection.output.drop_oldest(waiting + size - self.limit)
            if connection.output.held() + size <= self.limit:
                return True
        if self._policy != "close":
            self.dropped += 1
            return False
        self.closed += 1
        self._closing.too_slow(connection, TOO_LARGE if size > self.limit else TOO_SLOW)
        return False

    def note(self, connection: Connection) -> None:
        """Update the account after a connection's queue has changed, and notify its worker if it crossed a mark."""
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
        """Close the connections with the most queued output until a tenth of the limit is free again."""
        waiting = [connection for connection in self._registry if connection.output.noted]
        largest = sorted(waiting, key=lambda connection: connection.output.noted, reverse=True)
        log.warning("%d bytes of output are queued in all: closing the connections with the most", self.total)
        for connection in largest:
            if self.total <= self._total_limit * 9 // 10:
                return
            self.closed += 1
            if connection.stage == STAGE_OPEN:
                self._closing.force(connection)
            else:
                self._closing.cut(connection)
