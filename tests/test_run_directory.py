"""Where run directories are, whose they are, and which are alive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zwoole import run_directory
from zwoole.run_directory import RunDirectory, choose, home, is_running, make_private, running
from zwoole.shared.errors import StartError
from zwoole.shared.rundir import LOCK


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an own home for run directories, whose path is short enough for sockets."""
    monkeypatch.setattr(run_directory, "home", lambda: tmp_path / "h")
    monkeypatch.setattr(run_directory, "LONGEST_NAME", "")
    return tmp_path / "h"


def test_a_wish_wins_then_systemd_then_port_and_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    usual = choose(None, 8080, "app.py")
    assert usual.parent == home()
    assert usual.name.startswith("8080-")
    assert choose(None, 8080, "app.py") == usual == choose(None, 8080, str(Path.cwd() / "app.py"))
    assert len({usual, choose(None, 8081, "app.py"), choose(None, 8080, "other.py")}) == 3
    assert str(os.getpid()) in choose(None, 0, "app.py").name
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/a:{tmp_path}/b")
    assert choose(None, 8080, "app.py") == tmp_path / "a"
    monkeypatch.chdir(tmp_path)
    assert choose("mine", 8080, "app.py") == tmp_path / "mine"


def test_a_run_directory_is_private_locked_and_removed(place: Path) -> None:
    directory = RunDirectory(place / "a")
    assert directory.path.stat().st_mode & 0o777 == place.stat().st_mode & 0o777 == 0o700
    assert is_running(directory.path)
    assert running() == [directory.path]
    with pytest.raises(StartError, match="zwoole stop"):
        RunDirectory(place / "a")
    assert is_running(directory.path)
    directory.remove()
    assert not directory.path.exists()
    assert running() == []
    RunDirectory(place / "a").remove()


def test_what_a_dead_server_left_is_cleared(place: Path) -> None:
    path = place / "a"
    path.mkdir(mode=0o700, parents=True)
    place.chmod(0o700)
    for name in (LOCK, "plan", "table.0", "w1.m1"):
        (path / name).write_text("old")
    assert not is_running(path)
    directory = RunDirectory(path)
    assert [left.name for left in path.iterdir()] == [LOCK]
    directory.remove()


@pytest.mark.parametrize("names", [["precious"], ["precious/"], [LOCK, "precious/"]])
def test_a_folder_that_holds_other_things_is_left_alone(place: Path, names: list[str]) -> None:
    path = place / "a"
    path.mkdir(mode=0o700, parents=True)
    place.chmod(0o700)
    for name in names:
        if name.endswith("/"):
            (path / name).mkdir()
        else:
            (path / name).write_text("precious")
    with pytest.raises(StartError, match="something else"):
        RunDirectory(path)
    assert sorted(left.name for left in path.iterdir()) == sorted(name.rstrip("/") for name in names)


def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o750)
    with pytest.raises(StartError, match="chmod 700"):
        make_private(tmp_path / "open")


def test_what_is_no_folder_of_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot make"):
        make_private(tmp_path / "file")
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(StartError, match="not a directory"):
        make_private(tmp_path / "link")
    with pytest.raises(StartError, match="cannot make"):
        make_private(tmp_path / "missing" / "folder")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(StartError, match="another user"):
        make_private(tmp_path / "real")


def test_a_path_too_long_for_sockets_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with pytest.raises(StartError, match="too long"):
        RunDirectory(path)
    assert not path.exists()


def test_what_is_not_there_is_not_running(place: Path) -> None:
    assert running() == []
    assert not is_running(place / "nothing")
