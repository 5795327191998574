"""Timeouts, on a clock that the tests advance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zwoole.reactor.core.deadlines import LATE_S, MOST_ENDS, NEVER, SPARE_TICKS, TICK_S, Clock, Deadlines, Wheel


class Monotonic:
    """Monotonic time that advances only when the test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Loop:
    """A clock, the time it measures, and one kind of timeout of 10 seconds."""

    def __init__(self) -> None:
        self.monotonic = Monotonic()
        self.clock = Clock(self.monotonic)
        self.expired: list[int] = []
        self.deadlines = Deadlines(self.clock, 10.0, self.expired.append)

    def turn(self, seconds: float, late: float = 0.0) -> list[int]:
        """Begin a turn that was expected in `seconds`; return the owners of the timeouts that expired."""
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
    assert loop.deadlines.next_end() == NEVER


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


# Timeouts of different lengths.


class WheelLoop:
    """A clock, the time it measures, and a wheel that records expiries."""

    def __init__(self) -> None:
        self.monotonic = Monotonic()
        self.clock = Clock(self.monotonic)
        self.expired: list[tuple[int, float]] = []
        self.wheel = Wheel(self.clock, lambda fd: self.expired.append((fd, self.clock.now)))

    def pass_time(self, seconds: float) -> None:
        """Turn as a loop would: whenever the wheel says so, and at the end."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            next_end = self.wheel.next_end()
            self.monotonic.time = max(self.monotonic.time, min(next_end, end))
            self.clock.turn(self.monotonic.time)
            self.wheel.run()


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("start"), st.integers(1, 5), st.floats(0, 30)),
            st.tuples(st.just("restart"), st.integers(1, 5), st.floats(0, 30)),
            st.tuples(st.just("stop"), st.integers(1, 5), st.just(0.0)),
            st.tuples(st.just("pass"), st.just(0), st.floats(0.001, 20)),
        ),
        max_size=40,
    )
)
def test_a_timeout_of_the_wheel_runs_out_at_most_a_tick_late_and_never_early(
    steps: list[tuple[str, int, float]],
) -> None:
    loop = WheelLoop()
    ends: dict[int, float] = {}
    many = SPARE_TICKS + 5  # so many that the wheel forgets empty ones
    for what, fd, seconds in [*steps, ("pass", 0, 31.0 + many * TICK_S)]:
        if what in ("start", "restart"):
            ticks = many if what == "restart" else 0
            for tick in range(ticks, -1, -1):
                loop.wheel.start(fd, seconds + tick * TICK_S)
            ends[fd] = loop.clock.now + seconds
        elif what == "stop":
            loop.wheel.stop(fd)
            ends.pop(fd, None)
        else:
            loop.pass_time(seconds)
            for expired, at in loop.expired:
                assert -1e-6 <= at - ends.pop(expired) <= TICK_S + 1e-6
            loop.expired.clear()
            assert all(end > loop.clock.now - TICK_S - 1e-6 for end in ends.values())
        assert len(loop.wheel) == len(ends)
    assert ends == {}
    assert loop.wheel.next_end() == NEVER


def test_timeouts_that_are_restarted_again_and_again_leave_few_ticks_behind() -> None:
    loop = WheelLoop()
    for _ in range(1_000):
        loop.wheel.start(1, 86_400)
        loop.wheel.start(2, 43_200)
        loop.pass_time(2 * TICK_S)
    assert len(loop.wheel) == 2
    ends = []
    while (end := loop.wheel.next_end()) != NEVER:
        ends.append(end)
        loop.pass_time(end - loop.clock.now + TICK_S / 2)
    assert len(ends) <= 2 * 2 + SPARE_TICKS + 1
    assert [fd for fd, _ in loop.expired] == [2, 1]


def test_what_runs_out_may_restart_so_many_timeouts_that_ticks_are_forgotten() -> None:
    loop = WheelLoop()
    expired = []

    def end(fd: int) -> None:
        expired.append(fd)
        if len(expired) < 5:
            for tick in range(2 * SPARE_TICKS):
                loop.wheel.start(fd, 1.0 + tick)

    loop.wheel = Wheel(loop.clock, end)
    loop.wheel.start(1, 1.0)
    loop.pass_time(1_000.0)
    assert expired == [1, 1, 1, 1, 1]
    assert loop.wheel.next_end() == NEVER


def test_a_wheel_is_looked_at_only_when_one_of_its_ticks_ends() -> None:
    loop = WheelLoop()
    assert loop.wheel.next_end() == NEVER
    loop.wheel.start(1, 100.0)
    loop.wheel.start(2, 7.0)
    next_end = loop.wheel.next_end()
    assert 1007.0 < next_end < 1007.0 + 1.01 * TICK_S


def test_what_runs_out_of_a_wheel_may_start_and_stop_others_of_its_tick() -> None:
    monotonic = Monotonic()
    clock = Clock(monotonic)
    expired: list[int] = []

    def end(fd: int) -> None:
        expired.append(fd)
        for other in {1, 2, 3} - {fd}:
            wheel.stop(other)
        wheel.start(fd, 0.0)

    wheel = Wheel(clock, end)
    for fd in (1, 2, 3):
        wheel.start(fd, 1.0)
    monotonic.time += 1.01 + TICK_S
    clock.turn(monotonic.time)
    wheel.run()
    assert len(expired) == len(wheel) == 1  # a timeout that it starts does not expire in the same turn
    monotonic.time += 1.01 * TICK_S
    clock.turn(monotonic.time)
    wheel.run()
    assert expired == expired[:1] * 2


@pytest.mark.parametrize("kind", ["deadlines", "wheel"])
def test_no_turn_ends_more_than_its_share_and_the_next_goes_on_at_once(loop: Loop, kind: str) -> None:
    wheel = Wheel(loop.clock, loop.expired.append)
    timer: Deadlines | Wheel = wheel if kind == "wheel" else loop.deadlines
    count = 2 * MOST_ENDS + 5
    for fd in range(1, count + 1):
        if isinstance(timer, Wheel):
            timer.start(fd, 10.0)
        else:
            timer.start(fd)
    timer.stop(7)
    loop.monotonic.time += 11.0
    loop.clock.turn(loop.clock.now + 11.0)
    ended: list[int] = []
    for left in (count - 1 - MOST_ENDS, count - 1 - 2 * MOST_ENDS, 0):
        loop.expired.clear()
        timer.run()
        ended += loop.expired
        assert len(timer) == left
        end = timer.next_end()
        assert end <= loop.clock.now if left else end == NEVER
    assert sorted(ended) == [fd for fd in range(1, count + 1) if fd != 7]
