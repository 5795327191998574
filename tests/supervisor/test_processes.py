"""The processes of a server, without processes: which messages each receives, and when."""

from __future__ import annotations

import errno
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.process_parts import TestParts
from zwoole.shared.errors import StartError
from zwoole.shared.process.control_messages import NO_MASTER
from zwoole.shared.process.signals import SUPERVISOR_SIGNALS
from zwoole.shared.settings import FINISH_SHARE, Settings
from zwoole.supervisor.process import KILL_GRACE_S, MAX_BACKOFF_S, Process


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[TestParts]:
    parts = TestParts(tmp_path)
    parts.start()
    parts.all_ready()
    yield parts
    parts.close()


def told_to(parts: TestParts, process: Process) -> list[tuple[str, dict[str, Any]]]:
    """Return what a process was told: kind and fields."""
    return [(kind, fields) for identity, kind, fields in parts.told if identity == process.identity]


def test_every_master_knows_how_many_workers_there_are(parts: TestParts) -> None:
    (master,) = parts.masters
    assert told_to(parts, master)[0] == ("worker_num", {"number": 2})
    parts.rollouts.scale(to=1)
    assert told_to(parts, master)[-1] == ("worker_num", {"number": 1})
    parts.rollouts.scale(to=3)
    kinds = [kind for kind, _ in told_to(parts, master)[-3:]]
    assert (kinds, told_to(parts, master)[-3][1]) == (["worker_num", "worker", "worker"], {"number": 3})


@pytest.mark.parametrize("when", ["before the master dies", "while it starts"])
def test_a_new_master_knows_how_many_workers_are_left(parts: TestParts, when: str) -> None:
    if when == "before the master dies":
        parts.rollouts.scale(to=1)
    (master,) = parts.masters
    parts.end(master, -9)
    parts.run_due()
    if when == "while it starts":
        parts.rollouts.scale(to=1)
    (successor,) = parts.masters
    parts.told.clear()
    parts.boots.hello(successor)
    told = told_to(parts, successor)
    assert told[0] == ("worker_num", {"number": 1})
    assert [fields["worker_id"] for kind, fields in told if kind == "worker"] == [0]


@pytest.mark.parametrize("when", ["before the master dies", "while it starts"])
def test_a_worker_that_was_replaced_waits_for_no_master_that_does_not_know_it(tmp_path: Path, when: str) -> None:
    parts = TestParts(tmp_path, reactor_num=2)
    parts.start()
    retiring, serving = parts.worker(1), parts.worker(0)
    if when == "before the master dies":
        parts.rollouts.scale(to=1)
    dead, other = parts.masters
    parts.end(dead, -9)
    parts.run_due()
    if when == "while it starts":
        parts.rollouts.scale(to=1)
    (successor,) = [master for master in parts.masters if master is not other]
    parts.boots.hello(successor)
    told = {identity: fields["incarnations"] for identity, kind, fields in parts.told if kind == "masters"}
    assert told[retiring.identity] == [NO_MASTER, other.incarnation]
    assert told[serving.identity] == [successor.incarnation, other.incarnation]
    parts.close()


def test_in_a_stop_the_time_of_a_replaced_worker_is_the_stops(parts: TestParts) -> None:
    worker = parts.worker(1)
    parts.rollouts.scale(to=1)
    (_, tell), (_, kill) = parts.due[-2:]
    parts.processes.stopping = True
    tell()
    kill()
    assert not worker.killed


def test_a_reload_without_room_fails_and_changes_nothing(parts: TestParts) -> None:
    before = parts.processes.all()
    parts.lack = "no space left"
    answers: list[dict[str, Any]] = []
    parts.rollouts.reload(lambda **fields: answers.append(fields))
    assert answers == [{"error": "reload failed, the old workers stay in service: no space left"}]
    assert parts.processes.all() == before
    parts.lack = ""
    parts.rollouts.reload()
    assert len(parts.workers) == 4


def test_a_worker_that_serves_after_a_death_is_said_once(parts: TestParts, log: pytest.LogCaptureFixture) -> None:
    parts.end(parts.worker(1), -9)
    parts.run_due()
    successor = parts.worker(1)
    for _ in range(2):  # a replaced master says it again
        parts.ready(successor)
    said = [record.getMessage() for record in log.records if "replaces" in record.getMessage()]
    assert said == [f"{successor} replaces the one that has ended (SIGKILL)"]
    log.clear()
    parts.rollouts.reload()
    parts.all_ready()
    assert "reload: done" in log.text
    assert "replaces" not in log.text, "nobody has died"


@pytest.mark.parametrize("role", ["worker", "master"])
def test_what_cannot_be_started_now_is_tried_again(parts: TestParts, role: str) -> None:
    process = parts.worker(1) if role == "worker" else parts.masters[0]
    number = len(parts.processes.running)
    parts.lack = "no space left"
    parts.end(process, -9)
    for _ in range(3):
        assert MAX_BACKOFF_S in parts.run_due() or parts.due
        assert len(parts.processes.running) == number - 1
    parts.lack = ""
    parts.run_due()
    assert len(parts.processes.running) == number


def test_a_server_does_not_start_without_room(tmp_path: Path) -> None:
    parts = TestParts(tmp_path)
    parts.lack = "no space left"
    with pytest.raises(StartError, match="no process can be started; the reason is above"):
        parts.staffing.start_all()
    parts.close()


def test_a_system_that_starts_no_process_is_an_error_that_is_logged(
    parts: TestParts, log: pytest.LogCaptureFixture
) -> None:
    number = len(parts.processes.running)
    parts.spawner.failure = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    parts.end(parts.worker(1), -9)
    parts.run_due()
    assert "cannot start worker 1: Resource temporarily unavailable" in log.text
    parts.spawner.failure = None
    parts.run_due()
    assert len(parts.processes.running) == number


def levels(log: pytest.LogCaptureFixture, process: Process) -> list[int]:
    """Return the log levels of the records about a process."""
    return [record.levelno for record in log.records if str(process) in record.getMessage()]


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


@pytest.mark.parametrize("ends", ["by itself", "when told", "by a kill"])
def test_a_replaced_worker_that_goes_on_is_told_to_end_and_is_killed_if_it_does_not(
    parts: TestParts, log: pytest.LogCaptureFixture, ends: str
) -> None:
    worker = parts.worker(1)
    parts.rollouts.scale(to=1)
    (told_s, tell), (killed_s, kill) = parts.due[-2:]
    settings = Settings()
    assert told_s == settings.handover_timeout + FINISH_SHARE * settings.max_wait_time
    assert killed_s == settings.handover_timeout + settings.max_wait_time + KILL_GRACE_S
    if ends == "by itself":
        parts.end(worker, 0)
    tell()
    told = [kind for kind, _ in told_to(parts, worker)]
    if ends == "by itself":
        assert "end" not in told
        return
    assert told[-2:] == ["retire", "end"]
    assert f"{worker} was replaced and has not finished in time: cancelling what still runs there" in log.text
    if ends == "when told":
        parts.end(worker, 0)
    kill()
    assert (worker.killed != "") == (ends == "by a kill")


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
