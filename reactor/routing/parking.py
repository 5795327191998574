"""Where accepted messages wait that may not go down yet: on their connections, with one account for all.

The account counts memory, not payload: a flood of empty messages costs objects, and what was read from the socket
behind the last message that was parked is held as well.

Operations: park a message; take the first; forget or put back some; keep what was read and not parsed; tell whether a
connection may be read on.
"""

from __future__ import annotations

from collections import deque

from zwoole.reactor.core.connection import Connection

MESSAGE_COST = 128  # bytes of memory that a parked message takes beside its payload
LINE_COST = 768  # those of the line that a connection's messages stand in


class Parking:
    """What is parked on all connections.

    Attributes:
        bytes: how much memory it takes.
    """

    __slots__ = ("_max_bytes", "_max_messages", "_total", "bytes")

    def __init__(self, max_messages: int, max_bytes: int, total: int) -> None:
        """Begin with nothing parked.

        Args:
            max_messages: messages of one connection, at which it is not read on.
            max_bytes: their payload, likewise.
            total: bytes of memory for all connections, likewise.
        """
        self.bytes = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._total = total

    def is_full(self) -> bool:
        """Tell whether all connections together have parked what they may."""
        return self.bytes >= self._total

    def may_read(self, connection: Connection) -> bool:
        """Tell whether a connection may be read on, as far as its own allowance and that of all go."""
        if connection.parked is None:
            return True
        return (
            len(connection.parked) < self._max_messages
            and connection.parked_bytes < self._max_bytes
            and self.bytes < self._total
        )

    def park(self, connection: Connection, event: int, data: bytes) -> None:
        """Let an event wait behind those of its connection that wait already; see `Window.enter` for `event`."""
        if connection.parked is None:
            connection.parked = deque()
            self.bytes += LINE_COST
        connection.parked.append((event, data))
        self._count(connection, 1, len(data))

    def take(self, connection: Connection) -> tuple[int, bytes]:
        """Take the first message that waits; there must be one."""
        parked: deque[tuple[int, bytes]] = connection.parked  # type: ignore[assignment]
        first = parked.popleft()
        self._count(connection, -1, -len(first[1]))
        if not parked:
            connection.parked = None
            self.bytes -= LINE_COST
        return first

    def put_back(self, connection: Connection, events: list[tuple[int, bytes]]) -> None:
        """Put messages in front of those that wait."""
        if connection.parked is None:
            connection.parked = deque()
            self.bytes += LINE_COST
        connection.parked.extendleft(reversed(events))
        self._count(connection, len(events), sum(len(data) for _, data in events))

    def discard(self, connection: Connection) -> None:
        """Forget what waits of a connection."""
        if connection.parked is not None:
            self._count(connection, -len(connection.parked), -connection.parked_bytes)
            connection.parked = None
            self.bytes -= LINE_COST

    def keep_unread(self, connection: Connection, rest: bytes) -> None:
        """Keep what was read from a connection that must wait now."""
        self.bytes += len(rest) - len(connection.unread)
        connection.unread = rest

    def take_unread(self, connection: Connection) -> bytes:
        """Take what was kept."""
        rest = connection.unread
        connection.unread = b""
        self.bytes -= len(rest)
        return rest

    def _count(self, connection: Connection, messages: int, size: int) -> None:
        connection.parked_bytes += size
        self.bytes += size + messages * MESSAGE_COST
