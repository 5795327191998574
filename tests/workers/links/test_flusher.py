"""The thread that sends output while a callback runs: when output is due, and which thread may use the links."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.process.waiting import wait_for
from zwoole.shared.process.descriptors import is_open
from zwoole.workers.links.flusher import DUE_S, IDLE_LOOKS, Flusher

MOMENT_S = 1e-6  # more than the rounding error of a sum of floats


@pytest.fixture
def flusher() -> Iterator[Flusher]:
    flusher = Flusher()
    yield flusher
    flusher.stop()


def in_thread(function: Callable[[], object]) -> object:
    """Return what a function returns in another thread."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def note(flusher: Flusher) -> tuple[float, float]:
    """Record output; return the times before and after."""
    before = monotonic()
    flusher.note()
    return before, monotonic()


def test_output_is_the_flushers_when_it_is_due(flusher: Flusher) -> None:
    before, after = note(flusher)
    assert flusher.look(before) >= DUE_S - MOMENT_S
    assert flusher.look(before + DUE_S - 2 * MOMENT_S) > 0
    assert flusher.look(after) <= DUE_S + MOMENT_S
    assert flusher.look(after + DUE_S + MOMENT_S) == 0
    assert flusher.look(after + 2 * DUE_S) == 0


def test_output_is_as_old_as_the_first_that_was_noted(flusher: Flusher) -> None:
    _, after = note(flusher)
    while monotonic() <= after:
        pass
    note(flusher)
    assert flusher.look(after + DUE_S + MOMENT_S) == 0


def test_output_that_is_noted_after_a_send_is_new(flusher: Flusher) -> None:
    for _ in range(3):
        before, after = note(flusher)
        assert flusher.look(before + DUE_S / 2) > 0
        assert flusher.look(after + 2 * DUE_S) == 0
        flusher.sent()
        assert not flusher.waiting
        assert flusher.look(after + 2 * DUE_S) == DUE_S


def test_without_output_it_only_ever_has_parking_to_do(flusher: Flusher) -> None:
    assert [flusher.look(0.0) for _ in range(IDLE_LOOKS)] == [DUE_S] * (IDLE_LOOKS - 1) + [0]


def test_one_thread_at_a_time_has_the_links(flusher: Flusher) -> None:
    sent: list[bool] = []

    def send() -> None:
        flusher.sent()
        sent.append(flusher.is_sending())

    flusher.start(send)
    before = flusher.enter()
    nested = flusher.enter()
    flusher.note()
    in_thread(flusher.act)
    flusher.leave(nested)
    in_thread(flusher.act)
    assert sent == []
    flusher.leave(before)
    flusher.note()
    wait_for(lambda: sent, "the flusher to send")
    assert all(sent)
    wait_for(lambda: not flusher.is_sending(), "it to give the links back")


def test_the_own_thread_waits_for_the_links(flusher: Flusher) -> None:
    sending, may_end = threading.Event(), threading.Event()
    order: list[str] = []

    def send() -> None:
        flusher.sent()
        sending.set()
        may_end.wait()
        order.append("sent")

    flusher.start(send)
    flusher.note()
    assert sending.wait(60)
    threading.Timer(0.05, may_end.set).start()
    before = flusher.enter()
    order.append("entered")
    flusher.leave(before)
    assert order == ["sent", "entered"]


def test_a_send_that_fails_is_logged_and_the_links_are_given_back(
    flusher: Flusher, log: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        flusher.sent()
        raise OSError("broken")

    flusher.start(fail)
    for count in range(1, 3):
        flusher.note()
        wait_for(lambda: log.text.count("OSError: broken") == count, "the failure in the log")  # noqa: B023
    before = flusher.enter()
    flusher.leave(before)


def test_it_wakes_when_output_is_noted_while_it_is_parked(flusher: Flusher) -> None:
    sent: list[int] = []

    def send() -> None:
        flusher.sent()
        sent.append(1)

    flusher.start(send)
    for count in range(1, 4):
        wait_for(flusher.is_parked, "the flusher to park")
        flusher.note()
        wait_for(lambda: len(sent) == count, "the flusher to send")  # noqa: B023


def test_it_ends_parked_or_not() -> None:
    for parked in (False, True):
        flusher = Flusher()
        flusher.start(lambda: None)
        if parked:
            wait_for(flusher.is_parked, "the flusher to park")
        flusher.stop()
        flusher.stop()
        assert not any(thread.name == "flusher" for thread in threading.enumerate())


def test_it_knows_the_thread_that_made_it(flusher: Flusher) -> None:
    assert flusher.is_own_thread()
    assert in_thread(flusher.is_own_thread) is False


def test_in_a_forked_child_no_thread_is_its_own(flusher: Flusher) -> None:
    flusher.abandon()
    assert not flusher.is_own_thread()


def descriptors() -> set[int]:
    """Return the open descriptors, without the one that lists them."""
    found = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    return {number for number in found if is_open(number)}


def test_a_child_that_is_forked_after_its_end_keeps_what_has_the_descriptor_by_then() -> None:
    flusher = Flusher()
    with Path(os.devnull).open("rb") as file:
        before = descriptors()
        flusher.start(lambda: None)
        (own,) = descriptors() - before
        flusher.stop()
        assert not is_open(own)
        os.dup2(file.fileno(), own)
        flusher.abandon()
        os.close(own)  # raises an error if it was closed
