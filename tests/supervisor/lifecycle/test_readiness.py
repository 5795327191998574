"""Which processes are ready or missing, and when a start is over, without starting any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.supervisor.process_parts import TestParts
from zwoole.shared.memory import stats
from zwoole.supervisor.core.process import EARLY_DEATH_S

Make = Callable[..., TestParts]


def words(parts: TestParts) -> list[str]:
    return [str(missing) for missing in parts.readiness.missing()]


def test_a_start_is_over_when_every_worker_was_ready(make: Make) -> None:
    parts = make()
    parts.ready(parts.worker(1))
    assert not parts.readiness.complete
    assert (parts.announced, words(parts)) == (0, ["worker 0: starting"])
    parts.ready(parts.worker(0))
    assert parts.readiness.complete
    assert (parts.announced, words(parts)) == (1, [])


def test_a_worker_that_is_no_longer_wanted_is_not_waited_for(make: Make) -> None:
    parts = make()
    parts.ready(parts.worker(0))
    parts.rollouts.scale(1)
    assert (parts.readiness.complete, parts.announced) == (True, 1)


def test_a_worker_that_is_missing_is_described(make: Make) -> None:
    parts = make()
    parts.ready(parts.worker(1))
    parts.boot_fails(0)
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
    parts.boot_fails(0)
    parts.boot_fails(0)
    parts.ready(parts.worker(1))
    total = stats.gather(tmp_path)["total"]
    assert (total["workers_wanted"], total["workers_ready"], total["failed_boots"]) == (2, 1, 2)
    parts.rollouts.scale(5)
    assert stats.gather(tmp_path)["total"]["workers_wanted"] == 5
