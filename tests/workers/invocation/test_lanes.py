"""The order of events that wait for their callbacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.worker_parts import Master
from zwoole.shared.wire.events import MESSAGE
from zwoole.workers.invocation.lanes import Job, Lanes, job_of


@pytest.fixture(scope="module")
def link() -> Iterator[Master]:
    with Master() as master:
        yield master


def job(master: Master, fd: int, number: int) -> Job:
    return job_of(master.link, number, MESSAGE, fd, 1, number)


def test_events_are_taken_in_order(link: Master) -> None:
    lanes = Lanes()
    assert lanes.take() is None
    assert not lanes.waits()
    for number in range(5):
        lanes.add(job(link, number % 2, number))
    assert lanes.waits()
    assert lanes.busy()
    taken = [lanes.take() for _ in range(5)]
    assert [each.body for each in taken if each is not None] == [0, 1, 2, 3, 4]
    assert lanes.take() is None
    assert not lanes.busy()


def test_events_wait_behind_a_suspended_callback_of_their_connection_only(link: Master) -> None:
    lanes = Lanes()
    for number, fd in enumerate((1, 1, 2, 1)):
        lanes.add(job(link, fd, number))
    first = lanes.take()
    assert first is not None
    lanes.suspended(first)
    other = lanes.take()
    assert other is not None
    assert other.body == 2
    lanes.ended(other)
    assert lanes.take() is None
    assert lanes.busy()
    assert not lanes.waits()
    lanes.ended(first)
    second = lanes.take()
    assert second is not None
    assert second.body == 1
    lanes.add(job(link, 1, 4))  # must stay behind the third, which waits in the lane
    assert lanes.take() is None
    lanes.ended(second)
    bodies = []
    while (each := lanes.take()) is not None:
        bodies.append(each.body)
        lanes.ended(each)
    assert bodies == [3, 4]
    assert not lanes.busy()


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "suspend", "end"]), st.integers(0, 2)), max_size=80))
def test_each_connections_events_run_one_at_a_time_in_order(link: Master, steps: list[tuple[str, int]]) -> None:
    lanes, number = Lanes(), 0
    suspended: dict[int, Job] = {}
    began: dict[int, list[int]] = {0: [], 1: [], 2: []}
    added: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for what, fd in [*steps, *[("end", 0), ("end", 1), ("end", 2), ("take", 0)] * 80]:
        if what == "add":
            lanes.add(job(link, fd, number))
            added[fd].append(number)
            number += 1
        elif what == "end" and fd in suspended:
            lanes.ended(suspended.pop(fd))
        elif what in ("take", "suspend"):
            taken = lanes.take()
            if taken is not None:
                assert taken.fd not in suspended
                began[taken.fd].append(taken.body)
                if what == "suspend":
                    lanes.suspended(taken)
                    suspended[taken.fd] = taken
                else:
                    lanes.ended(taken)
    assert began == added
    assert not lanes.busy()
