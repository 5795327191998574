"""Processes that start, fail, and are missing, without starting any."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.supervisor.process_parts import TestParts
from zwoole.shared.memory import stats
from zwoole.supervisor.deaths import BOOT_TRIES
from zwoole.supervisor.exit_codes import EXIT_BOOT_FAILED
from zwoole.supervisor.missing import NAMED, Missing, describe
from zwoole.supervisor.process import EARLY_DEATH_S, Process
from zwoole.supervisor.roles import WORKER

Make = Callable[..., TestParts]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[TestParts] = []

    def started(**settings: Any) -> TestParts:
        parts = TestParts(tmp_path, **settings)
        made.append(parts)
        parts.start()
        return parts

    yield started
    for parts in made:
        parts.close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("zwoole"), "propagate", True)
    caplog.set_level(logging.INFO, "zwoole")
    return caplog


def boot_fails(parts: TestParts, id: int, status: int = 3) -> None:
    """Let the process of a worker id end before it is ready, and start the next one."""
    parts.end(parts.worker(id), status)
    parts.run_due()


def words(parts: TestParts) -> list[str]:
    return [str(missing) for missing in parts.readiness.missing()]


# The start.


def test_a_start_is_over_when_every_worker_was_ready(make: Make) -> None:
    parts = make()
    parts.ready(parts.worker(1))
    assert not parts.readiness.complete
    assert (parts.announced, words(parts)) == (0, ["worker 0: starting"])
    parts.ready(parts.worker(0))
    assert parts.readiness.complete
    assert (parts.announced, words(parts)) == (1, [])


@pytest.mark.parametrize("status", [3, 0, -9])
def test_three_failures_of_one_worker_end_a_start_though_the_others_serve(make: Make, status: int) -> None:
    parts = make()
    parts.ready(parts.worker(1))
    for _ in range(BOOT_TRIES - 1):
        boot_fails(parts, 0, status)
    assert not parts.processes.stopping
    boot_fails(parts, 0, status)
    assert parts.processes.stopping
    assert parts.shutdown.exit_code == EXIT_BOOT_FAILED


def test_a_worker_that_is_no_longer_wanted_is_not_waited_for(make: Make) -> None:
    parts = make()
    parts.ready(parts.worker(0))
    parts.rollouts.scale(1)
    assert (parts.readiness.complete, parts.announced) == (True, 1)


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
    boot_fails(parts, 0)
    parts.due.clear()
    parts.end(parts.worker(0), 0)
    assert [seconds for seconds, _ in parts.due] == pytest.approx([0.2])


# Missing processes.


def test_a_worker_that_is_missing_is_described(make: Make) -> None:
    parts = make()
    parts.ready(parts.worker(1))
    boot_fails(parts, 0)
    assert words(parts) == ["worker 0: starting, 1 failed boot, last: exit 3"]
    parts.end(parts.worker(0), -11)
    (missing,) = parts.readiness.missing()
    assert (missing.starting, missing.failed_boots, missing.last) == (False, 2, "SIGSEGV")
    assert missing.next_try_s is not None
    assert 0 <= missing.next_try_s <= 0.2


def test_a_master_that_is_missing_is_described_too(make: Make) -> None:
    parts = make()
    parts.all_ready()
    (master,) = parts.masters
    assert master.ready_at is not None
    master.ready_at -= EARLY_DEATH_S
    parts.end(master, -9)
    assert words(parts) == ["master 0: not running, next try in 0.0 s, last: SIGKILL"]


def test_a_successor_is_not_missed(make: Make) -> None:
    parts = make()
    parts.all_ready()
    parts.rollouts.reload()
    assert parts.readiness.missing() == []


def test_workers_that_are_missing_are_counted(make: Make, tmp_path: Path) -> None:
    parts = make()
    boot_fails(parts, 0)
    boot_fails(parts, 0)
    parts.ready(parts.worker(1))
    total = stats.gather(tmp_path)["total"]
    assert (total["workers_wanted"], total["workers_ready"], total["failed_boots"]) == (2, 1, 2)
    parts.rollouts.scale(5)
    assert stats.gather(tmp_path)["total"]["workers_wanted"] == 5


def test_one_line_names_some_of_many() -> None:
    many = [Missing("worker", index, True, 0, None, "") for index in range(NAMED + 2)]
    assert describe(many[:2]) == "worker 0: starting; worker 1: starting"
    assert describe(many).endswith(f"worker {NAMED - 1}: starting; and 2 more")
    assert describe([]) == ""


# Processes that the supervisor ends itself are not crashes.


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


def test_a_boot_that_takes_too_long_says_so_wherever_it_is_reported(make: Make) -> None:
    parts = make()
    parts.all_ready()
    answers: list[dict[str, Any]] = []
    parts.rollouts.reload(lambda **fields: answers.append(fields))
    hanging = parts.worker(0)
    hanging.abort("it does not become ready: no hello after 60 s (boot_timeout)")
    parts.end(hanging, -6)
    (answer,) = answers
    assert "was ended by zwoole with SIGABRT: it does not become ready: no hello after 60 s" in answer["error"]


# Slow starts are logged.


def look(parts: TestParts, process: Process, seconds: float) -> None:
    parts.health._check_start(process, process.started + seconds)


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


# A stop.


def test_a_stop_does_not_wait_for_workers_that_have_never_been_ready(make: Make) -> None:
    parts = make()
    serving, in_worker_start = parts.worker(0), parts.worker(1)
    parts.ready(serving)
    parts.boots.hello(in_worker_start)
    parts.shutdown.begin()
    (master,) = parts.masters
    parts.shutdown.go_on()
    assert not in_worker_start.killed  # there may be a message for the worker that it replaces
    parts.shutdown.stopped(master)
    parts.shutdown.go_on()
    assert in_worker_start.killed == "the server stops"
    assert not serving.killed
    assert (serving.identity, "stop", {}) in parts.told
    assert parts.shutdown.exit_code == 0


# Starts that never finish are ended.


def check(parts: TestParts, process: Process, times: int) -> None:
    """Check repeatedly a process whose silence does not count."""
    for _ in range(times):
        parts.health.check(process, process.started)


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
