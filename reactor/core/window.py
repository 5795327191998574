"""The window: what one worker incarnation was sent and has not finished.

Every event sent down takes the next sequence number and the place in a ring that belongs to it; an acknowledgement
gives that back. Events finish in any order, and one that takes an hour holds up none of those behind it: where the ring
comes round to its place, the numbers that fall on it are left out, and it is a straggler from then on.

Only events that carry data (the column `credit` of the table in shared/wire/events.py) count against the limits. The
ring has room for more than the window, because closes and commands are never held back by it. What an event carries is
kept until it is finished, so that it can be sent again if its worker dies before it began.
"""

from __future__ import annotations

from zwoole.reactor.core.connection import Connection
from zwoole.shared.wire.batches import WireError
from zwoole.shared.wire.events import CLOSE, by_kind

FOR_CLOSES = 1024  # places in the ring that messages leave to closes and to word of full and empty buffers
FOR_COMMANDS = 64  # places that closes leave to the few commands that are sent without asking
_FOR_CLOSES = FOR_CLOSES  # C integers in the compiled module
_FOR_COMMANDS = FOR_COMMANDS

_NOTHING = 255  # a place in the ring that is free
_CREDIT = bytearray(256)  # by event: whether it counts against the limits
for _event, _row in by_kind().items():
    _CREDIT[_event] = _row.credit


class Outstanding:
    """One event that a worker was sent and has not finished.

    Attributes:
        sequence: its number.
        connection: whose it is; None for an event that belongs to none.
        event: its kind; BINARY_MESSAGE for a message with opcode 2.
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
        places: events of any kind that have not finished.
        events: events that count and have not finished.
        bytes: their payloads' size.
    """

    __slots__ = (
        "_connections",
        "_data",
        "_events",
        "_ring",
        "_stragglers",
        "bytes",
        "events",
        "max_bytes",
        "max_events",
        "next_sequence",
        "oldest",
        "places",
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
        self._events = bytearray([_NOTHING]) * ring
        self._data: list[bytes | None] = [None] * ring
        self._stragglers: dict[int, int] = {}  # the numbers of those more than a ring behind, by place
        self.next_sequence = 0
        self.oldest = 0
        self.places = 0
        self.events = 0
        self.bytes = 0

    def has_room(self, size: int) -> bool:
        """Tell whether an event with `size` bytes may be sent; one always may when nothing is unfinished."""
        if self.places >= self._ring - _FOR_CLOSES:
            return False
        return self.events == 0 or (self.events < self.max_events and self.bytes + size <= self.max_bytes)

    def has_place(self) -> bool:
        """Tell whether a close, or what else takes no credit, has a place in the ring."""
        return self.places < self._ring - _FOR_COMMANDS

    def is_taken(self) -> bool:
        """Tell whether an event that has not finished has the next number's place."""
        return self._events[self.next_sequence & (self._ring - 1)] != _NOTHING

    def skip_taken(self) -> None:
        """Leave out the numbers whose places are taken."""
        at = self.next_sequence & (self._ring - 1)
        while self._events[at] != _NOTHING:
            self._stragglers.setdefault(at, self.next_sequence - self._ring)
            self.next_sequence += 1
            at = self.next_sequence & (self._ring - 1)

    def enter(self, connection: Connection | None, event: int, data: bytes) -> int:
        """Count an event in and return its sequence number, whose place must be free.

        Args:
            connection: whose event it is, or None.
            event: its kind; BINARY_MESSAGE for a message with opcode 2.
            data: what it carries.
        """
        sequence = self.next_sequence
        at = sequence & (self._ring - 1)
        self._connections[at] = connection
        self._events[at] = event
        self._data[at] = data
        self.next_sequence = sequence + 1
        self.places += 1
        if _CREDIT[event]:
            self.events += 1
            self.bytes += len(data)
        if connection is not None and event != CLOSE:
            connection.outstanding += 1
            connection.outstanding_bytes += len(data)
        return sequence

    def finish(self, sequence: int) -> Connection | None:
        """Take an acknowledgement; return whose event it was.

        Raises:
            WireError: no such event is unfinished.
        """
        at = sequence & (self._ring - 1)
        if self._events[at] == _NOTHING or sequence >= self.next_sequence:
            raise WireError(f"acknowledgement of event {sequence}, which is not outstanding")
        if self._stragglers or self.next_sequence - sequence > self._ring:
            self._check_straggler(at, sequence)
        connection = self._connections[at]
        event = self._events[at]
        data = self._data[at]
        size = 0 if data is None else len(data)
        self._connections[at] = None
        self._events[at] = _NOTHING
        self._data[at] = None
        self.places -= 1
        if _CREDIT[event]:
            self.events -= 1
            self.bytes -= size
        if connection is not None and event != CLOSE:
            connection.outstanding -= 1
            connection.outstanding_bytes -= size
        if sequence == self.oldest:
            if self._stragglers:
                self.oldest = min(self._stragglers.values())
            else:
                if self.next_sequence - sequence > self._ring:  # it was the last straggler
                    sequence = self.next_sequence - self._ring
                while sequence < self.next_sequence and self._events[sequence & (self._ring - 1)] == _NOTHING:
                    sequence += 1
                self.oldest = sequence
        return connection

    def unfinished(self) -> list[Outstanding]:
        """Return all that has not finished, oldest first."""
        found = []
        begin = self.next_sequence - min(self._ring, self.next_sequence)
        for sequence in [*sorted(self._stragglers.values()), *range(begin, self.next_sequence)]:
            at = sequence & (self._ring - 1)
            if self._events[at] != _NOTHING and self._stragglers.get(at, sequence) == sequence:
                found.append(Outstanding(sequence, self._connections[at], self._events[at], self._data[at] or b""))
        return found

    def _check_straggler(self, at: int, sequence: int) -> None:
        """Check that the event in a place is the one that is acknowledged, where there are stragglers."""
        straggler = self._stragglers.get(at)
        if straggler == sequence:
            del self._stragglers[at]
        elif straggler is not None or self.next_sequence - sequence > self._ring:
            raise WireError(f"acknowledgement of event {sequence}, which is not outstanding")
