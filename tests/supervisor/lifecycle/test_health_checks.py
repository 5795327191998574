"""The health checks, without starting any process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.supervisor.process_parts import TestParts
from zwoole.supervisor.core.process import Process

Make = Callable[..., TestParts]


def look(parts: TestParts, process: Process, seconds: float) -> None:
    parts.health._check_start(process, process.started + seconds)


def check(parts: TestParts, process: Process, times: int) -> None:
    """Check repeatedly a process whose silence does not count."""
    for _ in range(times):
        parts.health.check(process, process.started)


def test_a_slow_start_is_said_each_time_after_twice_as_long(make: Make, log: pytest.LogCaptureFixture) -> None:
    parts = make()
    worker = parts.worker(0)
    for seconds in (1, 4.9, 5, 6, 9, 10, 15, 21, 300):
        look(parts, worker, seconds)
    said = [record.getMessage().split(":")[0] for record in log.records if record.levelname == "WARNING"]
    assert said == [f"{worker} is still starting after {seconds} s" for seconds in (5, 10, 20, 40)]
    parts.ready(worker)
    look(parts, worker, 10_000)
    assert len([record for record in log.records if record.levelname == "WARNING"]) == 4


def test_what_is_waited_for_is_said(make: Make, log: pytest.LogCaptureFixture) -> None:
    parts = make()
    worker, (master,) = parts.worker(0), parts.masters
    look(parts, worker, 5)
    parts.boots.hello(worker)
    look(parts, worker, 10)
    cast(Any, worker.turns).count = 1
    look(parts, worker, 20)
    master.ready_at = None
    look(parts, master, 5)
    said = [record.getMessage().split(": ", 1)[1] for record in log.records if record.levelname == "WARNING"]
    assert said == [
        "its app has not reached start(): an import, or other code before start(), takes long",
        "worker_start has not returned, or the machine is slow; long work belongs in a task or thread",
        "no master has taken its hello",
        "it has not said hello",
    ]


def test_a_process_that_is_debugged_or_stopped_may_take_its_time(make: Make, log: pytest.LogCaptureFixture) -> None:
    parts = make()
    parts.worker(0).debugged = True
    parts.worker(1).liveness.held = "it is stopped"
    for worker in parts.workers:
        look(parts, worker, 100)
    assert "still starting" not in log.text


def test_with_debug_any_start_may_take_its_time(make: Make, log: pytest.LogCaptureFixture) -> None:
    parts = make(debug=True)
    look(parts, parts.worker(0), 100)
    assert "still starting" not in log.text


def test_a_worker_that_turns_and_is_heard_by_no_master_is_ended(make: Make, log: pytest.LogCaptureFixture) -> None:
    parts = make(boot_timeout=20)
    worker = parts.worker(0)
    parts.boots.hello(worker)
    check(parts, worker, 100)
    assert not worker.killed, "it has not turned: another limit counts its time"
    cast(Any, worker.turns).count = 1
    check(parts, worker, 19)
    assert not worker.killed
    check(parts, worker, 1)
    assert worker.killed == "it does not become ready: no master has taken its hello in 20 s (boot_timeout)"
    assert f"killing {worker}: it does not become ready: no master has taken its hello in 20 s" in log.text
    parts.end(worker, -6)
    assert worker.died_early


@pytest.mark.parametrize("why", ["a master boots", "it serves", "any time", "it is debugged", "it is stopped"])
def test_a_worker_that_is_not_to_blame_goes_on(make: Make, why: str) -> None:
    parts = make(boot_timeout=0 if why == "any time" else 20)
    worker, (master,) = parts.worker(0), parts.masters
    parts.boots.hello(worker)
    cast(Any, worker.turns).count = 1
    check(parts, worker, 1)
    if why == "a master boots":
        master.ready_at = None
    elif why == "it serves":
        parts.ready(worker)
    elif why == "it is debugged":
        worker.debugged = True
    elif why == "it is stopped":
        worker.liveness.held = why
    check(parts, worker, 1000)
    assert not worker.killed
