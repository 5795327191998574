"""Timeouts, on a clock that the tests turn."""

from __future__ import annotations

import pytest

from zwoole.reactor.deadlines import LATE_S, Clock, Deadlines


class Monotonic:
    """Monotonic time that goes when it is told to."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Loop:
    """A clock, the time behind it, and one kind of timeout of 10 seconds."""

    def __init__(self) -> None:
        self.monotonic = Monotonic()
        self.clock = Clock(self.monotonic)
        self.expired: list[int] = []
        self.deadlines = Deadlines(self.clock, 10.0, self.expired.append)

    def turn(self, seconds: float, late: float = 0.0) -> list[int]:
        """Begin a turn that was expected in `seconds`; return whose timeouts it ended."""
        expected = self.clock.now + seconds
        self.monotonic.time += seconds + late
        self.clock.turn(expected)
        self.expired.clear()
        self.deadlines.run()
        return self.expired.copy()


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_the_clock_stands_still_within_a_turn(loop: Loop) -> None:
    loop.monotonic.time += 5
    assert loop.clock.now == 1000.0
    loop.clock.turn(1005.0)
    assert loop.clock.now == 1005.0


@pytest.mark.parametrize("late", [-5.0, 0.0, 0.5, LATE_S])
def test_a_turn_that_is_early_or_a_little_late_is_the_time(loop: Loop, late: float) -> None:
    loop.turn(6.0, late)
    assert loop.clock.now == loop.monotonic.time


@pytest.mark.parametrize("late", [LATE_S + 0.5, 60.0, 86400.0])
def test_a_turn_that_is_late_begins_when_it_was_expected(loop: Loop, late: float) -> None:
    loop.turn(6.0, late)
    assert loop.clock.now == 1006.0


def test_pauses_add_up(loop: Loop) -> None:
    loop.turn(1.0, 100.0)
    loop.turn(1.0, 0.5)
    loop.turn(1.0, 200.0)
    loop.turn(10.0, -9.0)
    assert loop.clock.now == 1004.5
    assert loop.monotonic.time == 1304.5


def test_a_timeout_runs_out_at_its_end_and_not_before(loop: Loop) -> None:
    loop.deadlines.start(1)
    assert loop.deadlines.next_end() == 1010.0
    assert loop.turn(9.5) == []
    assert loop.turn(0.5) == [1]
    assert loop.turn(100.0) == []
    assert loop.deadlines.next_end() is None


def test_a_pause_of_the_whole_process_ends_no_timeout_but_delays_it(loop: Loop) -> None:
    loop.deadlines.start(1)
    assert loop.turn(5.0, late=3600.0) == []
    assert loop.turn(4.5) == []
    assert loop.turn(0.5) == [1]


def test_timeouts_end_in_the_order_they_began(loop: Loop) -> None:
    for fd in (3, 1, 2):
        loop.deadlines.start(fd)
        loop.turn(1.0)
    assert loop.deadlines.next_end() == 1010.0
    assert [loop.turn(7.0), loop.turn(1.0), loop.turn(1.0)] == [[3], [1], [2]]


def test_all_that_ran_out_end_in_one_turn(loop: Loop) -> None:
    for fd in (3, 1, 2):
        loop.deadlines.start(fd)
    assert len(loop.deadlines) == 3
    assert loop.turn(10.0) == [3, 1, 2]
    assert len(loop.deadlines) == 0


def test_a_timeout_that_is_stopped_does_not_run_out(loop: Loop) -> None:
    loop.deadlines.start(1)
    loop.deadlines.start(2)
    loop.deadlines.stop(1)
    loop.deadlines.stop(99)
    assert loop.turn(10.0) == [2]


def test_a_timeout_that_is_started_again_runs_from_then_on_behind_the_others(loop: Loop) -> None:
    loop.deadlines.start(1)
    loop.deadlines.start(2)
    loop.turn(4.0)
    loop.deadlines.start(1)
    assert len(loop.deadlines) == 2
    assert loop.turn(6.0) == [2]
    assert loop.turn(4.0) == [1]


def test_what_runs_out_may_start_and_stop_timeouts() -> None:
    monotonic = Monotonic()
    clock = Clock(monotonic)
    expired = []

    def end(fd: int) -> None:
        expired.append(fd)
        deadlines.stop(2)
        deadlines.start(fd)

    deadlines = Deadlines(clock, 1.0, end)
    for fd in (1, 2, 3):
        deadlines.start(fd)
    monotonic.time += 1.0
    clock.turn(monotonic.time)
    deadlines.run()
    assert expired == [1, 3]
    assert len(deadlines) == 2
    assert deadlines.next_end() == clock.now + 1.0
