"""Processes that a dead worker has left, with real processes and a clock that the test advances."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.process.waiting import wait_for
from tests.supervisor.system.test_reaper import state
from zwoole.shared.process import process_groups
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.roles import WORKER
from zwoole.supervisor.lifecycle.orphans import Orphans


class Turns:
    """Replaces a turn counter."""

    closed = False

    def read(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


class Later:
    """Delayed calls, until the test says that they are due."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, seconds: float, call: Callable[[], None]) -> None:
        assert seconds > 0
        self.calls.append(call)

    def run(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def dead_worker(script: str, leads_group: bool = True) -> tuple[Process, int]:
    """Return a worker that has ended, and the process that its script has left."""
    popen = subprocess.Popen(["sh", "-c", f"{script} & echo $!"], stdout=subprocess.PIPE, start_new_session=leads_group)
    assert popen.stdout is not None
    left = int(popen.stdout.readline())
    popen.stdout.close()
    worker = Process(WORKER, 0, 7, popen, os.pidfd_open(popen.pid), Turns(), leads_group)  # type: ignore[arg-type]
    assert worker.wait() == 0
    return worker, left


@pytest.fixture
def later() -> Later:
    return Later()


def lives(pid: int) -> bool:
    return state(pid) not in ("gone", "Z")


def test_a_worker_that_left_nothing_is_reaped_at_once(later: Later) -> None:
    worker, left = dead_worker("sleep 0")
    wait_for(lambda: not lives(left), "it to end")
    orphans = Orphans(600, later)
    orphans.end_group(worker)
    assert not orphans.leaders
    assert state(worker.popen.pid) == "gone"
    assert worker.turns.closed  # type: ignore[attr-defined]


def test_what_is_left_is_asked_to_end_and_then_the_worker_is_reaped(later: Later) -> None:
    worker, left = dead_worker("exec sleep 1000 >/dev/null")
    os.kill(left, signal.SIGSTOP)  # it receives SIGTERM only when it continues
    wait_for(lambda: state(left) == "T", "it to stand still")
    orphans = Orphans(600, later)
    orphans.end_group(worker)
    later.run()
    assert list(orphans.leaders) == [worker.popen.pid]
    assert state(worker.popen.pid) == "Z"  # its pid is not reused
    os.kill(left, signal.SIGCONT)
    wait_for(lambda: not lives(left), "it to end")
    later.run()
    assert not orphans.leaders
    assert state(worker.popen.pid) == "gone"
    assert not later.calls


def test_what_does_not_end_in_time_is_killed(later: Later, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, left = dead_worker("trap '' TERM; exec sleep 1000 >/dev/null")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    orphans = Orphans(5, later)
    orphans.end_group(worker)
    now += 4.9
    later.run()
    assert lives(left)
    now += 0.2
    later.run()
    monkeypatch.undo()
    wait_for(lambda: not lives(left), "it to be killed")
    assert not orphans.leaders
    assert not later.calls
    assert state(worker.popen.pid) == "gone"


def test_at_once_means_at_once(later: Later) -> None:
    """For existing processes, and for later ones."""
    first, left = dead_worker("trap '' TERM; exec sleep 1000 >/dev/null")
    orphans = Orphans(600, later)
    orphans.end_group(first)
    orphans.kill_all()
    second, also_left = dead_worker("trap '' TERM; exec sleep 1000 >/dev/null")
    orphans.end_group(second)
    later.run()
    wait_for(lambda: not lives(left) and not lives(also_left), "both to be killed")
    assert not orphans.leaders


def test_a_worker_without_a_group_of_its_own_is_reaped_only(later: Later) -> None:
    worker, left = dead_worker("exec sleep 1000 >/dev/null", leads_group=False)
    orphans = Orphans(0, later)
    orphans.end_group(worker)
    assert state(worker.popen.pid) == "gone"
    assert lives(left)
    os.kill(left, signal.SIGKILL)


def test_a_session_of_its_own_is_left_alone(later: Later) -> None:
    worker, left = dead_worker("exec setsid sleep 1000 >/dev/null")
    wait_for(lambda: not process_groups.members(worker.popen.pid), "it to have its session")
    Orphans(0, later).end_group(worker)
    assert lives(left)
    os.kill(left, signal.SIGKILL)
