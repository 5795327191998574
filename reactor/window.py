"""The window: what one worker incarnation was sent and has not finished.

Every event sent down takes the next sequence number and a place in a ring; an acknowledgement gives it back. Only
events that carry somebody's data (open, message, a message from another worker) count against the limits. The ring has
room for more than the window, because closes and commands are never held back by it. What an event carries is kept
until it is finished, so that it can be sent again if its worker dies before it began.
"""

from __future__ import annotations

from zwoole.reactor.connection import Connection
from zwoole.shared.wire import WireError

# What an event in the ring is; a data message stands with its opcode, 1 or 2.
EVENT_OPEN = 0
EVENT_HANDSHAKE = 3
EVENT_PIPE = 4
EVENT_CLOSE = 8
EVENT_ADOPT = 9
EVENT_COMMAND = 10

_NOTHING = -1


class Outstanding:
    """One event that a worker was sent and has not finished.

    Attributes:
        sequence: its number.
        connection: whose it is; None for a command.
        event: one of the constants above, or a message's opcode.
        data: what it carries.
    """

    __slots__ = ("connection", "data", "event", "sequence")

    def __init__(self, sequence: int, connection: Connection | None, event: int, data: bytes) -> None:
        self.sequence = sequence
        self.connection = connection
        self.event = event
        self.data = data


class Window:
    """Counts the events between the master and one worker.

    Attributes:
        next_sequence: the number of the next event.
        oldest: the lowest number that has not finished; next_sequence where all have.
        events: events that count and have not finished.
        bytes: their payloads' size.
    """

    __slots__ = (
        "_connections",
        "_data",
        "_events",
        "_ring",
        "bytes",
        "events",
        "max_bytes",
        "max_events",
        "next_sequence",
        "oldest",
    )

    def __init__(self, max_events: int, max_bytes: int, ring: int) -> None:
        """Open an empty window.

        Args:
            max_events: most events that may be unfinished.
            max_bytes: most payload bytes that may be unfinished.
            ring: most events of any kind that may be unfinished; a power of two.
        """
        self.max_events = max_events
        self.max_bytes = max_bytes
        self._ring = ring
        self._connections: list[Connection | None] = [None] * ring
        self._events: list[int] = [_NOTHING] * ring
        self._data: list[bytes | None] = [None] * ring
        self.next_sequence = 0
        self.oldest = 0
        self.events = 0
        self.bytes = 0

    def has_room(self, size: int) -> bool:
        """Tell whether an event with `size` bytes may be sent; one always may when nothing is unfinished."""
        if self.next_sequence - self.oldest >= self._ring - 1024:  # these places only closes and commands may take
            return False
        return self.events == 0 or (self.events < self.max_events and self.bytes + size <= self.max_bytes)

    def has_place(self) -> bool:
        """Tell whether a close or a command has a place in the ring."""
        return self.next_sequence - self.oldest < self._ring

    def enter(self, connection: Connection | None, event: int, data: bytes) -> int:
        """Count an event in and return its sequence number.

        Args:
            connection: whose event it is, or None.
            event: one of the EVENT_ constants, or a message's opcode.
            data: what it carries.
        """
        sequence = self.next_sequence
        at = sequence & (self._ring - 1)
        self._connections[at] = connection
        self._events[at] = event
        self._data[at] = data
        self.next_sequence = sequence + 1
        if event < 8:
            self.events += 1
            self.bytes += len(data)
        if connection is not None and event != 8:
            connection.outstanding += 1
            connection.outstanding_bytes += len(data)
        return sequence

    def finish(self, sequence: int) -> Connection | None:
        """Take an acknowledgement; return whose event it was.

        Raises:
            WireError: no such event is unfinished.
        """
        at = sequence & (self._ring - 1)
        if sequence >= self.next_sequence or sequence < self.oldest or self._events[at] == -1:
            raise WireError(f"acknowledgement of event {sequence}, which is not outstanding")
        connection = self._connections[at]
        event = self._events[at]
        data = self._data[at]
        size = 0 if data is None else len(data)
        self._connections[at] = None
        self._events[at] = -1
        self._data[at] = None
        if event < 8:
            self.events -= 1
            self.bytes -= size
        if connection is not None and event != 8:
            connection.outstanding -= 1
            connection.outstanding_bytes -= size
        while self.oldest < self.next_sequence and self._events[self.oldest & (self._ring - 1)] == -1:
            self.oldest += 1
        return connection

    def unfinished(self) -> list[Outstanding]:
        """Return all that has not finished, oldest first."""
        found = []
        for sequence in range(self.oldest, self.next_sequence):
            at = sequence & (self._ring - 1)
            if self._events[at] != -1:
                found.append(Outstanding(sequence, self._connections[at], self._events[at], self._data[at] or b""))
        return found
