"""What the end of a process means, without starting any."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

import pytest

from tests.supervisor.process_parts import TestParts
from zwoole.shared.process.signals import SUPERVISOR_SIGNALS
from zwoole.supervisor.core.exit_codes import EXIT_BOOT_FAILED
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.roles import WORKER
from zwoole.supervisor.lifecycle.deaths import BOOT_TRIES

Make = Callable[..., TestParts]


def levels(log: pytest.LogCaptureFixture, process: Process) -> list[int]:
    """Return the log levels of the records about a process."""
    return [record.levelno for record in log.records if str(process) in record.getMessage()]


@pytest.mark.parametrize("status", [3, 0, -9])
def test_three_failures_of_one_worker_end_a_start_though_the_others_serve(make: Make, status: int) -> None:
    parts = make()
    parts.ready(parts.worker(1))
    for _ in range(BOOT_TRIES - 1):
        parts.boot_fails(0, status)
    assert not parts.processes.stopping
    parts.boot_fails(0, status)
    assert parts.processes.stopping
    assert parts.shutdown.exit_code == EXIT_BOOT_FAILED


def test_after_the_start_a_worker_that_does_not_boot_is_tried_for_ever_later_each_time(make: Make) -> None:
    parts = make()
    parts.all_ready()
    parts.worker(0).served = True
    parts.end(parts.worker(0), -9)
    parts.due.clear()
    parts.staffing.start(WORKER, 0)
    waits = []
    for _ in range(20):
        parts.end(parts.worker(0), 3)
        waits += parts.run_due()
    assert waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert waits[-1] == 5.0
    assert not parts.processes.stopping


def test_what_ends_well_before_it_is_ready_is_a_failed_boot_too(make: Make) -> None:
    """Otherwise a script that exits would be restarted in a loop without a pause."""
    parts = make()
    parts.all_ready()
    parts.boot_fails(0)
    parts.due.clear()
    parts.end(parts.worker(0), 0)
    assert [seconds for seconds, _ in parts.due] == pytest.approx([0.2])


def test_a_worker_that_we_end_is_no_crash(make: Make, log: pytest.LogCaptureFixture) -> None:
    parts = make()
    parts.all_ready()
    parts.rollouts.reload()
    failing, other = parts.worker(0), parts.worker(1)
    parts.end(failing, 3)
    assert other.killed == "reload failed"
    parts.end(other, -9)
    assert [event[:2] for event in parts.events] == [("worker_error", 0)]
    assert f"{other} was ended by zwoole with SIGKILL: reload failed" in log.text
    assert "out of memory" not in log.text


def test_a_worker_that_does_not_finish_is_no_crash(make: Make, log: pytest.LogCaptureFixture) -> None:
    parts = make()
    parts.all_ready()
    old = parts.worker(0)
    parts.rollouts.reload()
    parts.all_ready()
    parts.run_due()
    parts.end(old, -9)
    assert parts.events == []
    assert f"{old} was ended by zwoole with SIGKILL: it was replaced and did not end in time" in log.text


@pytest.mark.parametrize("number", SUPERVISOR_SIGNALS)
@pytest.mark.parametrize("told", ["to retire", "to stop"])
def test_a_worker_that_is_to_end_and_does_by_one_more_signal_is_no_failure(
    parts: TestParts, log: pytest.LogCaptureFixture, told: str, number: int
) -> None:
    """While Python exits, a signal that a function handled before has its default action."""
    worker = parts.worker(1)
    if told == "to retire":
        parts.rollouts.scale(to=1)
    else:
        parts.shutdown.begin()
        parts.events.clear()
    log.clear()
    parts.end(worker, -number)
    assert (levels(log, worker), parts.events) == ([logging.INFO], [])


@pytest.mark.parametrize("status", [-signal.SIGKILL, -signal.SIGSEGV, 1])
def test_a_worker_that_is_to_end_and_fails_is_a_failure(
    parts: TestParts, log: pytest.LogCaptureFixture, status: int
) -> None:
    worker = parts.worker(1)
    parts.rollouts.scale(to=1)
    parts.end(worker, status)
    assert levels(log, worker) == [logging.ERROR]
    assert [event for event, *_ in parts.events] == ["worker_error"]


@pytest.mark.parametrize("number", SUPERVISOR_SIGNALS)
def test_a_worker_that_was_to_serve_and_ends_by_a_signal_is_a_failure(
    parts: TestParts, log: pytest.LogCaptureFixture, number: int
) -> None:
    worker = parts.worker(1)
    parts.end(worker, -number)
    assert logging.ERROR in levels(log, worker)
    assert [event for event, *_ in parts.events] == ["worker_error"]
