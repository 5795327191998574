"""A worker's counters: kinds of events, times, and their presentation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Time
from tests.workers.worker_parts import AsyncMaster, Master, closing, in_loop, message, opening, settle
from zwoole.shared.memory.stats import TIME_BOUNDS
from zwoole.shared.wire import events
from zwoole.shared.wire.events import CALLBACKS
from zwoole.workers.callbacks import EVENTS
from zwoole.workers.core.counts import KINDS, Counts


def test_every_kind_that_has_a_callback_has_a_place_and_the_name_of_its_event() -> None:
    assert set(CALLBACKS) < set(range(KINDS))
    assert set(CALLBACKS.values()) < set(EVENTS)
    assert all(getattr(events, name.upper()) == kind for kind, name in CALLBACKS.items())


@given(st.lists(st.floats(0, 100)))
def test_every_time_is_in_the_first_bucket_whose_bound_it_does_not_exceed(times: list[float]) -> None:
    counts = Counts()
    for seconds in times:
        counts.ran(seconds)
    expected = [0] * (len(TIME_BOUNDS) + 1)
    for seconds in times:
        expected[next((i for i, bound in enumerate(TIME_BOUNDS) if seconds <= bound), len(TIME_BOUNDS))] += 1
    assert counts.as_dict()["callback_times"] == expected
    assert counts.as_dict()["callback_seconds"] == pytest.approx(sum(times), abs=1e-5)


def test_the_bounds_are_where_they_are_said_to_be() -> None:
    assert (TIME_BOUNDS[0], TIME_BOUNDS[-1]) == (0.0001, 10.0)
    assert list(TIME_BOUNDS) == sorted(TIME_BOUNDS)


def fail(server: object, frame: object) -> None:
    raise ValueError("on purpose")


@pytest.mark.parametrize(("callback", "failures"), [(lambda server, frame: None, {}), (fail, {"message": 3})])
def test_callbacks_are_counted_with_their_failures(
    callback: Callable[..., None], failures: dict[str, int], log: pytest.LogCaptureFixture
) -> None:
    with Master({"message": callback, "close": lambda *_: None}) as master:
        for _ in range(3):
            fd = master.connect()
            master.deliver(opening(fd), message(fd, "x"), closing(fd))
        counts = master.counts
        events = counts.as_dict()["events"]
        assert (events["open"], events["message"], events["close"], counts.total) == (3, 3, 3, 9)
        assert sum(counts.as_dict()["callback_times"]) == 6  # `open` events do not count: nobody waits for them
        assert counts.as_dict()["failures"] == failures
        assert master.counts.finished == 9


@in_loop
async def test_a_coroutine_is_counted_from_its_start_to_its_end(time: Time) -> None:
    gate = asyncio.Event()

    async def slow(server: object, frame: object) -> None:
        await gate.wait()

    with AsyncMaster({"message": slow}) as master:
        fd = master.connect()
        master.deliver(opening(fd), message(fd, "x"))
        await settle()
        counts = master.counts
        assert (counts.total, master.counts.finished, sum(counts.as_dict()["callback_times"])) == (2, 1, 0)
        time.now += 0.03
        gate.set()
        await settle()
        assert (counts.total, master.counts.finished) == (2, 2)
        times = counts.as_dict()["callback_times"]
        assert sum(times) == times[TIME_BOUNDS.index(0.05)] == 1


def test_a_batch_that_takes_long_is_recorded_while_it_runs(time: Time) -> None:
    def slow(_: object, __: object) -> None:
        time.now += 0.002

    with Master({"message": slow}) as master:
        fd = master.connect()
        recorded: list[int] = []
        master.counts.on_record = lambda: recorded.append(master.counts.finished)
        master.counts.record_at = 0.0
        master.deliver(*[message(fd, "x")] * 5)
        assert recorded
        assert recorded[0] < 5
        master.counts.record_at = float("inf")
        recorded.clear()
        master.deliver(*[message(fd, "x")] * 5)
        assert recorded == []
