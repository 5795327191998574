"""The run directory of a server that runs: what is removed is made anew, what has no room is known before."""

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
from zwoole.supervisor import run_directory
from zwoole.supervisor.run_directory import RunDirectory, is_running
from zwoole.supervisor.upkeep import Upkeep

APP = plans.Plan("app.py", plans.SCRIPT, ["app.py"], [], "/", Settings())


class House:
    """A run directory and its upkeep.

    Attributes:
        due: what is to be called later: (seconds, function).
        full: whether the disk is.
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
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    found = House(tmp_path / "run", monkeypatch)
    yield found
    found.directory.remove()


def test_a_new_directory_gets_the_plan_and_the_control_socket(house: House) -> None:
    house.upkeep.furnish(4, 2)
    assert plans.read(house.directory.path) == APP
    assert house.directory.lost() == []


def test_a_full_disk_is_an_error_at_the_start(house: House) -> None:
    house.full = True
    with pytest.raises(StartError, match=r"no space left in the run directory .* for 81920 bytes: No space left on"):
        house.upkeep.furnish(4, 2)


def test_a_plan_that_cannot_be_written_is_an_error_at_the_start(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(StartError, match=r"cannot write in the run directory .*: Disk quota exceeded"):
        house.upkeep.furnish(4, 2)


def test_a_lack_of_room_is_logged_once_until_it_is_over(house: House, log: pytest.LogCaptureFixture) -> None:
    house.upkeep.furnish(4, 2)
    assert house.upkeep.lacks(1, 1) == ""
    for _ in range(2):
        house.full = True
        for _ in range(3):
            assert house.upkeep.lacks(1, 1).startswith("no space left in the run directory ")
        house.full = False
        assert house.upkeep.lacks(1, 1) == ""
    assert log.text.count("nothing can be started, trying on: no space left") == 2


def test_what_was_removed_is_made_anew_at_the_next_look_and_when_it_is_needed(
    house: House, log: pytest.LogCaptureFixture
) -> None:
    house.upkeep.furnish(4, 2)
    house.upkeep.begin()
    for need in (house.run_due, lambda: house.upkeep.lacks(1, 1)):
        for name in (PLAN, CONTROL):
            (house.directory.path / name).unlink()
            need()
            assert house.directory.lost() == []
        shutil.rmtree(house.directory.path)
        need()
        assert house.directory.lost() == []
        assert is_running(house.directory.path)
    assert log.text.count("is made anew") == 6


def test_what_cannot_be_made_anew_is_logged_once_until_it_can(house: House, log: pytest.LogCaptureFixture) -> None:
    house.upkeep.furnish(4, 2)
    house.upkeep.begin()
    shutil.rmtree(house.directory.path)
    house.directory.path.write_text("in the way")
    for _ in range(3):
        house.run_due()
        assert "making it anew fails: " in house.upkeep.lacks(1, 1)
    assert log.text.count("nothing can be started or commanded, what runs goes on: the directory of ") == 1
    house.directory.path.unlink()
    house.run_due()
    assert house.directory.lost() == []


def test_what_lies_there_never_looks_old(house: House) -> None:
    house.upkeep.furnish(4, 2)
    house.upkeep.begin()
    os.utime(house.directory.path / PLAN, (1.0, 1.0))
    house.run_due()
    assert (house.directory.path / PLAN).stat().st_mtime > 1.0
    assert len(house.due) == 2, "and so on"
