"""The window: the events that one worker incarnation was sent and has not finished.

Every event takes the next sequence number, and the place in a ring that belongs to this number (the number modulo the
size of the ring). An acknowledgement frees the place. Events may finish in any order, and an event that takes an hour
delays none behind it: when the ring comes round to its place, the numbers of this place are skipped. Such an event is
called a straggler.

Only events that carry data count against the limits (the column `credit` of the table in shared/wire/events.py). The
ring has more places than the window has events, because closes and commands must not wait for the window. The window
keeps the data of an event until the event has finished, so that it can be sent again if the worker dies before it
begins.
"""

from __future__ import annotations

from zwoole.reactor.core.connection import Connection
from zwoole.shared.wire.batches import WireError
from zwoole.shared.wire.events import BY_KIND, CLOSE

FOR_CLOSES = 1024  # places of the ring that messages leave free for CLOSE, BUFFER_FULL and BUFFER_EMPTY
FOR_COMMANDS = 64  # places that these three leave free for the few commands that are sent without a check
_FOR_CLOSES = FOR_CLOSES  # these are C integers in the compiled module
_FOR_COMMANDS = FOR_COMMANDS

_NOTHING = 255  # marks a free place in the ring
_CREDIT = bytearray(256)  # by kind of event: whether it counts against the limits
for _event, _row in BY_KIND.items():
    _CREDIT[_event] = _row.credit


class Outstanding:
    """One event that a worker was sent and has not finished.

    Attributes:
        sequence: its sequence number.
        connection: the connection that it belongs to; None if it belongs to none.
        event: its kind; BINARY_MESSAGE for a message with opcode 2.
        data: its data.
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
        next_sequence: the sequence number of the next event.
        oldest: the lowest number of an unfinished event; next_sequence if all have finished.
        places: the number of unfinished events of all kinds.
        events: the number of unfinished events that count against the limits.
        bytes: the size of their data.
        max_events: the limit for `events`.
        max_bytes: the limit for `bytes`.
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
        """Create an empty window.

        Args:
            max_events: how many events that carry data may be unfinished.
            max_bytes: how many bytes of data may be unfinished.
            ring: how many events of all kinds may be unfinished; a power of two.
        """
        self.max_events = max_events
        self.max_bytes = max_bytes
        self._ring = ring
        self._connections: list[Connection | None] = [None] * ring
        self._events = bytearray([_NOTHING]) * ring
        self._data: list[bytes | None] = [None] * ring
        self._stragglers: dict[int, int] = {}  # by place: the number of an unfinished event from an earlier round
        self.next_sequence = 0
        self.oldest = 0
        self.places = 0
        self.events = 0
        self.bytes = 0

    def has_room(self, size: int) -> bool:
        """Tell whether an event of `size` bytes may be sent; any size may be if no event that counts is unfinished."""
        if self.places >= self._ring - _FOR_CLOSES:
            return False
        return self.events == 0 or (self.events < self.max_events and self.bytes + size <= self.max_bytes)

    def has_place(self) -> bool:
        """Tell whether the ring has a place for a close or another event that does not count against the limits."""
        return self.places < self._ring - _FOR_COMMANDS

    def is_taken(self) -> bool:
        """Tell whether an unfinished event occupies the place of the next number."""
        return self._events[self.next_sequence & (self._ring - 1)] != _NOTHING

    def skip_taken(self) -> None:
        """Skip the next numbers as long as their places are taken."""
        at = self.next_sequence & (self._ring - 1)
        while self._events[at] != _NOTHING:
            self._stragglers.setdefault(at, self.next_sequence - self._ring)
            self.next_sequence += 1
            at = self.next_sequence & (self._ring - 1)

    def enter(self, connection: Connection | None, event: int, data: bytes) -> int:
        """Add an event and return its sequence number. The place of that number must be free (`is_taken`).

        Args:
            connection: the connection that it belongs to, or None.
            event: its kind; BINARY_MESSAGE for a message with opcode 2.
            data: its data.
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
        """Remove an event that is acknowledged; return its connection, None if it belongs to none.

        Raises:
            WireError: no event with this number is unfinished.
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
                if self.next_sequence - sequence > self._ring:  # the event was the last straggler
                    sequence = self.next_sequence - self._ring
                while sequence < self.next_sequence and self._events[sequence & (self._ring - 1)] == _NOTHING:
                    sequence += 1
                self.oldest = sequence
        return connection

    def unfinished(self) -> list[Outstanding]:
        """Return all unfinished events, the oldest first."""
        found = []
        begin = self.next_sequence - min(self._ring, self.next_sequence)
        for sequence in [*sorted(self._stragglers.values()), *range(begin, self.next_sequence)]:
            at = sequence & (self._ring - 1)
            if self._events[at] != _NOTHING and self._stragglers.get(at, sequence) == sequence:
                found.append(Outstanding(sequence, self._connections[at], self._events[at], self._data[at] or b""))
        return found

    def _check_straggler(self, at: int, sequence: int) -> None:
        """Check that the place has the event that is acknowledged, not another one whose number has the same place."""
        straggler = self._stragglers.get(at)
        if straggler == sequence:
            del self._stragglers[at]
        elif straggler is not None or self.next_sequence - sequence > self._ring:
            raise WireError(f"acknowledgement of event {sequence}, which is not outstanding")
