"""The window of one worker, compared with a dictionary."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.window import FOR_CLOSES, FOR_COMMANDS, Outstanding, Window
from zwoole.shared.wire.batches import WireError
from zwoole.shared.wire.events import ADOPT, BINARY_MESSAGE, CLOSE, DRAIN, HANDSHAKE, MESSAGE, OPEN, PIPE_MESSAGE

RING = 2048
COUNTED = (OPEN, HANDSHAKE, PIPE_MESSAGE, MESSAGE, BINARY_MESSAGE)
EVENTS = (*COUNTED, CLOSE, ADOPT, DRAIN)


Entered = tuple[Connection | None, int, bytes]


def new_connection(fd: int = 1) -> Connection:
    return Connection(fd, -1, "127.0.0.1", 40000)


class WindowMachine(RuleBasedStateMachine):
    """Enters and finishes events; the model is the unfinished events by sequence number."""

    MAX_EVENTS = 700
    MAX_BYTES = 100_000

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(self.MAX_EVENTS, self.MAX_BYTES, RING)
        self.connections = [new_connection(fd) for fd in (1, 2, 3)]
        self.unfinished: dict[int, Entered] = {}
        self.next_sequence = 0

    @property
    def oldest(self) -> int:
        return min(self.unfinished, default=self.next_sequence)

    @property
    def counted(self) -> list[int]:
        """Sizes of the events that use credit."""
        return [len(data) for _, event, data in self.unfinished.values() if event in COUNTED]

    @rule(
        event=st.sampled_from(EVENTS),
        size=st.integers(0, 40_000),
        whose=st.sampled_from([None, 0, 1, 2]),
        times=st.sampled_from([1, 1, 2, 500]),
    )
    def enter(self, event: int, size: int, whose: int | None, times: int) -> None:
        connection = None if whose is None else self.connections[whose]
        data = b"x" * size if event in COUNTED else b""
        for _ in range(times):
            if not (self.window.has_room(size) if event in COUNTED else self.window.has_place()):
                break
            taken = {sequence % RING for sequence in self.unfinished}
            assert self.window.is_taken() == (self.next_sequence % RING in taken)
            while self.next_sequence % RING in taken:
                self.next_sequence += 1
            self.window.skip_taken()
            assert self.window.enter(connection, event, data) == self.next_sequence
            self.unfinished[self.next_sequence] = connection, event, data
            self.next_sequence += 1

    @precondition(lambda self: self.unfinished)
    @rule(data=st.data(), times=st.sampled_from([1, 1, 400]))
    def finish(self, data: st.DataObject, times: int) -> None:
        start = data.draw(st.integers(0, len(self.unfinished) - 1))
        for sequence in list(self.unfinished)[start : start + times]:
            connection, _, _ = self.unfinished.pop(sequence)
            assert self.window.finish(sequence) is connection

    @precondition(lambda self: self.unfinished)
    @rule(kept=st.integers(0, 3))
    def finish_all_but_the_oldest(self, kept: int) -> None:
        """All others overtake events that take long."""
        for sequence in sorted(self.unfinished)[kept:]:
            self.window.finish(sequence)
            del self.unfinished[sequence]

    @rule(behind=st.integers(0, 2 * RING), ahead=st.booleans())
    def finish_what_is_not_outstanding(self, behind: int, ahead: bool) -> None:
        sequence = self.next_sequence + behind if ahead else max(self.next_sequence - behind, 0)
        if sequence not in self.unfinished:
            with pytest.raises(WireError, match=str(sequence)):
                self.window.finish(sequence)

    @invariant()
    def counts_what_is_unfinished(self) -> None:
        assert self.window.next_sequence == self.next_sequence
        assert self.window.oldest == self.oldest
        assert self.window.events == len(self.counted)
        assert self.window.bytes == sum(self.counted)
        assert [entered(item) for item in self.window.unfinished()] == list(self.unfinished.items())
        for connection in self.connections:
            sizes = [len(e[2]) for e in self.unfinished.values() if e[0] is connection and e[1] != CLOSE]
            assert (connection.outstanding, connection.outstanding_bytes) == (len(sizes), sum(sizes))

    @invariant()
    def has_room_within_its_limits(self) -> None:
        places = len(self.unfinished)
        assert self.window.places == places
        events, size = len(self.counted), sum(self.counted)
        assert self.window.has_place() == (places < RING - FOR_COMMANDS)
        for more in (0, 1, self.MAX_BYTES - size, self.MAX_BYTES - size + 1):
            within = not events or (events < self.MAX_EVENTS and size + more <= self.MAX_BYTES)
            assert self.window.has_room(more) == (within and places < RING - FOR_CLOSES)


def entered(item: Outstanding) -> tuple[int, Entered]:
    return item.sequence, (item.connection, item.event, item.data)


WindowMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestWindow = WindowMachine.TestCase


def test_one_event_of_any_size_has_room_when_nothing_is_unfinished() -> None:
    window = Window(10, 100, RING)
    assert window.has_room(1_000_000)
    window.enter(None, BINARY_MESSAGE, bytes(1_000_000))
    assert not window.has_room(0)


@pytest.mark.parametrize(("event", "outstanding"), [(CLOSE, 0), (ADOPT, 50), (DRAIN, 50)])
def test_events_without_credit_take_none(event: int, outstanding: int) -> None:
    connection = new_connection()
    window = Window(1, 1, RING)
    for _ in range(50):
        window.enter(connection, event, b"")
    assert (window.events, window.bytes) == (0, 0)
    assert (connection.outstanding, connection.outstanding_bytes) == (outstanding, 0)
    assert window.has_room(1_000_000)


def test_closes_have_a_place_where_messages_have_none_and_commands_where_closes_have_none() -> None:
    window = Window(8192, 1 << 30, RING)
    for _ in range(RING - FOR_CLOSES):
        assert window.has_room(1)
        window.enter(None, MESSAGE, b"a")
    assert not window.has_room(1)
    for _ in range(FOR_CLOSES - FOR_COMMANDS):
        assert window.has_place()
        window.enter(None, CLOSE, b"")
    assert not window.has_place()
    for _ in range(FOR_COMMANDS):
        assert not window.is_taken()
        window.enter(None, DRAIN, b"")


def test_an_event_that_takes_long_holds_up_none_behind_it() -> None:
    connection = new_connection()
    window = Window(10, 100, RING)
    long = [window.enter(connection, MESSAGE, b"long") for _ in range(2)]
    for _ in range(3 * RING):
        assert window.has_room(1)
        window.skip_taken()
        assert window.finish(window.enter(None, MESSAGE, b"short")) is None
        assert window.oldest == 0
    assert [item.sequence for item in window.unfinished()] == long
    last = window.enter(None, MESSAGE, b"last")
    assert window.finish(long[0]) is window.finish(long[1]) is connection
    assert window.oldest == last
    window.finish(last)
    assert window.oldest == window.next_sequence
    assert window.places == connection.outstanding == 0


def test_an_event_finishes_once() -> None:
    connection = new_connection()
    window = Window(10, 100, RING)
    first, second = window.enter(connection, MESSAGE, b"hello"), window.enter(connection, OPEN, b"record")
    assert window.finish(second) is connection
    for sequence in (second, second, first + RING, second + 1, (1 << 64) - 1):
        with pytest.raises(WireError, match=str(sequence)):
            window.finish(sequence)
    assert (window.events, window.bytes, connection.outstanding) == (1, 5, 1)


def test_an_event_that_finished_a_ring_ago_is_not_taken_for_the_one_in_its_place() -> None:
    window = Window(10, 100, RING)
    for sequence in range(RING):
        window.enter(None, CLOSE, b"")
        window.finish(sequence)
    window.enter(None, MESSAGE, b"hello")
    with pytest.raises(WireError):
        window.finish(0)
    assert (window.events, window.oldest) == (1, RING)
