"""Parks accepted messages that may not be sent down yet. They wait on their connections; one account counts them all.

The account counts memory, not payload, because a flood of empty messages costs objects. It includes the bytes that were
read from a socket behind the last parked message.

Operations: park a message; take the first one; discard messages or put them back; keep bytes that were read and not
parsed; tell whether a connection may be read.
"""

from __future__ import annotations

from collections import deque

from zwoole.reactor.core.connection import Connection

MESSAGE_COST = 128  # bytes of memory that a parked message takes in addition to its payload
QUEUE_COST = 768  # bytes of memory that the queue of a connection's messages takes


class Parking:
    """The account of the parked messages of all connections.

    Attributes:
        bytes: how much memory they take.
    """

    __slots__ = ("_max_bytes", "_max_messages", "_total", "bytes")

    def __init__(self, max_messages: int, max_bytes: int, total: int) -> None:
        """Create with nothing parked.

        Args:
            max_messages: a connection with that many parked messages is not read.
            max_bytes: a connection with that many bytes of parked payload is not read.
            total: no connection with parked messages is read if all parked messages take that many bytes of memory.
        """
        self.bytes = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._total = total

    def is_full(self) -> bool:
        """Tell whether all connections together have reached the limit."""
        return self.bytes >= self._total

    def may_read(self, connection: Connection) -> bool:
        """Tell whether the limits of one connection and of all allow that this connection is read."""
        if connection.parked is None:
            return True
        return (
            len(connection.parked) < self._max_messages
            and connection.parked_bytes < self._max_bytes
            and self.bytes < self._total
        )

    def park(self, connection: Connection, event: int, data: bytes) -> None:
        """Park an event behind the parked events of its connection; see `Window.enter` for `event`."""
        if connection.parked is None:
            connection.parked = deque()
            self.bytes += QUEUE_COST
        connection.parked.append((event, data))
        self._count(connection, 1, len(data))

    def take(self, connection: Connection) -> tuple[int, bytes]:
        """Remove and return the first parked (event, data); there must be one."""
        parked: deque[tuple[int, bytes]] = connection.parked  # type: ignore[assignment]
        first = parked.popleft()
        self._count(connection, -1, -len(first[1]))
        if not parked:
            connection.parked = None
            self.bytes -= QUEUE_COST
        return first

    def put_back(self, connection: Connection, events: list[tuple[int, bytes]]) -> None:
        """Park (event, data) pairs, in order, before the parked events of their connection."""
        if connection.parked is None:
            connection.parked = deque()
            self.bytes += QUEUE_COST
        connection.parked.extendleft(reversed(events))
        self._count(connection, len(events), sum(len(data) for _, data in events))

    def discard(self, connection: Connection) -> None:
        """Discard the parked events of a connection."""
        if connection.parked is not None:
            self._count(connection, -len(connection.parked), -connection.parked_bytes)
            connection.parked = None
            self.bytes -= QUEUE_COST

    def keep_unread(self, connection: Connection, rest: bytes) -> None:
        """Keep bytes that were read from a connection that must wait; they replace any that were kept before."""
        self.bytes += len(rest) - len(connection.unread)
        connection.unread = rest

    def take_unread(self, connection: Connection) -> bytes:
        """Remove and return the bytes that were kept; b"" if there are none."""
        rest = connection.unread
        connection.unread = b""
        self.bytes -= len(rest)
        return rest

    def _count(self, connection: Connection, messages: int, size: int) -> None:
        connection.parked_bytes += size
        self.bytes += size + messages * MESSAGE_COST
