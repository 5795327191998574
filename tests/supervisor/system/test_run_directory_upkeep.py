"""The run directory of a running server: removed files are created anew, and lack of space is noticed in advance."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zwoole.shared.errors import StartError
from zwoole.shared.process import plan as plans
from zwoole.shared.process.run_files import CONTROL, PLAN
from zwoole.shared.settings import Settings
from zwoole.supervisor.system import run_directory
from zwoole.supervisor.system.run_directory import RunDirectory, is_running
from zwoole.supervisor.system.run_directory_upkeep import Upkeep

APP = plans.Plan("app.py", plans.SCRIPT, ["app.py"], [], "/", Settings())


class Rig:
    """A run directory and its upkeep.

    Attributes:
        due: delayed calls: (seconds, function).
        full: whether the disk is full.
    """

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.full = False
        self._reserve = os.posix_fallocate
        monkeypatch.setattr(run_directory, "LONGEST_NAME", "")
        monkeypatch.setattr(run_directory, "homes", lambda: [path.parent])
        monkeypatch.setattr(os, "posix_fallocate", self._posix_fallocate)
        self.directory = RunDirectory(path)
        self.upkeep = Upkeep(self.directory, APP, self._bind, lambda *call: self.due.append(call))

    def _posix_fallocate(self, descriptor: int, start: int, size: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._reserve(descriptor, start, size)

    def _bind(self) -> None:
        (self.directory.path / CONTROL).touch()

    def run_due(self) -> None:
        due, self.due = self.due, []
        for _, call in due:
            call()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    found = Rig(tmp_path / "run", monkeypatch)
    yield found
    found.directory.remove()


def test_a_new_directory_gets_the_plan_and_the_control_socket(rig: Rig) -> None:
    rig.upkeep.furnish(4, 2)
    assert plans.read(rig.directory.path) == APP
    assert rig.directory.lost() == []


def test_a_full_disk_is_an_error_at_the_start(rig: Rig) -> None:
    rig.full = True
    with pytest.raises(StartError, match=r"no space left in the run directory .* for 81920 bytes: No space left on"):
        rig.upkeep.furnish(4, 2)


def test_a_plan_that_cannot_be_written_is_an_error_at_the_start(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(StartError, match=r"cannot write in the run directory .*: Disk quota exceeded"):
        rig.upkeep.furnish(4, 2)


def test_a_lack_of_room_is_logged_once_until_it_is_over(rig: Rig, log: pytest.LogCaptureFixture) -> None:
    rig.upkeep.furnish(4, 2)
    assert rig.upkeep.lacks(1, 1) == ""
    for _ in range(2):
        rig.full = True
        for _ in range(3):
            assert rig.upkeep.lacks(1, 1).startswith("no space left in the run directory ")
        rig.full = False
        assert rig.upkeep.lacks(1, 1) == ""
    assert log.text.count("nothing can be started, trying again: no space left") == 2


def test_what_was_removed_is_made_anew_at_the_next_look_and_when_it_is_needed(
    rig: Rig, log: pytest.LogCaptureFixture
) -> None:
    rig.upkeep.furnish(4, 2)
    rig.upkeep.begin()
    for need in (rig.run_due, lambda: rig.upkeep.lacks(1, 1)):
        for name in (PLAN, CONTROL):
            (rig.directory.path / name).unlink()
            need()
            assert rig.directory.lost() == []
        shutil.rmtree(rig.directory.path)
        need()
        assert rig.directory.lost() == []
        assert is_running(rig.directory.path)
    assert log.text.count("was made again") == 6


def test_what_cannot_be_made_anew_is_logged_once_until_it_can(rig: Rig, log: pytest.LogCaptureFixture) -> None:
    rig.upkeep.furnish(4, 2)
    rig.upkeep.begin()
    shutil.rmtree(rig.directory.path)
    rig.directory.path.write_text("in the way")
    for _ in range(3):
        rig.run_due()
        assert "making it again fails: " in rig.upkeep.lacks(1, 1)
    assert log.text.count("no process can be started and no command works, what runs goes on: the directory of ") == 1
    rig.directory.path.unlink()
    rig.run_due()
    assert rig.directory.lost() == []


def test_what_lies_there_never_looks_old(rig: Rig) -> None:
    rig.upkeep.furnish(4, 2)
    rig.upkeep.begin()
    os.utime(rig.directory.path / PLAN, (1.0, 1.0))
    rig.run_due()
    assert (rig.directory.path / PLAN).stat().st_mtime > 1.0
    assert len(rig.due) == 2, "and so on"
