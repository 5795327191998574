"""The pid file."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from zwoole.shared.errors import StartError
from zwoole.supervisor.start.pid_file import PidFile


def test_it_has_our_number_while_we_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()
    assert not path.exists()


def test_one_that_a_living_server_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(str(path))
    with pytest.raises(StartError, match=rf"running already \(pid {os.getpid()}, pid file {path}\)"):
        PidFile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()


def test_a_stale_one_is_taken_over_whoever_has_its_number_now(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pid"
    path.write_text("1\n")
    logging.getLogger("zwoole").propagate = True
    file = PidFile(str(path))
    assert f"the pid file {path} is stale: process 1 left it behind" in caplog.text
    assert path.read_text() == f"{os.getpid()}\n"
    file.remove()


def test_one_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot write the pid file .*: No such file or directory"):
        PidFile(str(tmp_path / "none" / "pid"))


def test_one_that_is_a_pipe_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    with pytest.raises(StartError, match=r"cannot write the pid file .*: not a regular file"):
        PidFile(str(tmp_path / "pid"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_one_that_cannot_be_written_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(StartError, match=f"cannot write the pid file .*: {os.strerror(number)}"):
        PidFile(str(tmp_path / "pid"))
    assert list(tmp_path.iterdir()) == []


def test_one_that_can_be_neither_removed_nor_emptied_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    file = PidFile(str(tmp_path / "pid"))
    monkeypatch.setattr(Path, "unlink", fail)
    monkeypatch.setattr(os, "ftruncate", fail)
    file.remove()
