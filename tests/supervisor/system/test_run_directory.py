"""Run directories: where they are, who owns them, and which are in use."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zwoole.shared.errors import StartError
from zwoole.shared.memory.snapshot import Snapshot
from zwoole.shared.process import run_files
from zwoole.shared.process.run_files import CONTROL, LOCK, PLAN, remove_abandoned
from zwoole.supervisor.system import run_directory
from zwoole.supervisor.system.run_directory import RunDirectory, choose, homes, is_running, make_private, running


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a separate home for run directories, with a path short enough for sockets."""
    monkeypatch.setattr(run_directory, "homes", lambda: [tmp_path / "h"])
    monkeypatch.setattr(run_directory, "LONGEST_NAME", "")
    return tmp_path / "h"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that contains the folders of a machine, short enough for sockets; root runs the server."""
    monkeypatch.setattr(run_directory, "LONGEST_NAME", "")
    monkeypatch.setattr(run_directory, "LONGEST_OF_OURS", "")
    for name in ("RUN", "SESSIONS", "LINGERING"):
        path = tmp_path / name
        path.mkdir(mode=0o700)
        monkeypatch.setattr(run_directory, name, path)
    monkeypatch.setattr(run_directory, "TEMPORARY", (tmp_path / "tmp", tmp_path / "var"))
    for name in ("tmp", "var", "other"):
        (tmp_path / name).mkdir(mode=0o700)
    for name in ("TMPDIR", "XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(run_directory.os, "getuid", lambda: tmp_path.stat().st_uid)
    return tmp_path


def names(machine: Path) -> list[str]:
    """Return the machine's folders that run directories may be in."""
    found = homes()
    assert {home.name for home in found} <= {f"zwoole-{os.getuid()}"}
    return [str(home.parent.relative_to(machine)) for home in found]


def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody be root; files made by root belong to this user."""
    monkeypatch.setattr(run_directory, "is_private", lambda path: path.is_dir() and not path.stat().st_mode & 0o077)
    monkeypatch.setattr(os, "getuid", lambda: 1234)


def test_root_has_its_run_directories_in_run(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert names(machine) == ["RUN", "tmp", "var"]


def test_a_private_runtime_folder_comes_before_the_temporary_ones(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch)
    assert names(machine) == ["tmp", "var"]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(machine / "other"))
    assert names(machine) == ["other", "tmp", "var"]
    (machine / "other").chmod(0o755)
    assert names(machine) == ["tmp", "var"]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(machine / "missing"))
    assert names(machine) == ["tmp", "var"]
    monkeypatch.setenv("XDG_RUNTIME_DIR", "other")
    assert names(machine) == ["tmp", "var"]


def test_one_that_goes_when_the_user_logs_out_is_for_users_that_linger(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name="somebody"))
    (machine / "SESSIONS" / "1234").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(machine / "SESSIONS" / "1234"))
    assert names(machine) == ["tmp", "var"]
    (machine / "LINGERING" / "somebody").touch()
    assert names(machine) == ["SESSIONS/1234", "tmp", "var"]

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert names(machine) == ["tmp", "var"]


def test_a_temporary_folder_that_the_user_names_is_the_only_one(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(machine / "other"))
    assert names(machine) == ["other"]
    monkeypatch.setenv("TMPDIR", str(machine / "missing"))
    assert names(machine)[-2:] == ["tmp", "var"]


def test_one_that_is_relative_is_nowhere_where_the_current_folder_is_gone(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = machine / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setenv("TMPDIR", ".")
    name = run_directory.homes()[0].name
    assert run_directory.homes() == [gone / name]
    gone.rmdir()
    assert gone not in [home.parent for home in run_directory.homes()]


def test_one_that_is_too_long_for_sockets_is_passed_over(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = machine / ("x" * (run_directory.MAX_IPC_PATH - len(f"{machine}/x/zwoole-{os.getuid()}") + 1))
    longest.mkdir()
    monkeypatch.setenv("TMPDIR", str(longest))
    assert homes() == [longest / f"zwoole-{os.getuid()}"]
    too_long = longest.with_name(longest.name + "x")
    too_long.mkdir()
    monkeypatch.setenv("TMPDIR", str(too_long))
    assert names(machine)[-2:] == ["tmp", "var"]


def test_a_wish_wins_then_systemd_then_port_and_script(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    usual = choose(None, 8080, "app.py")
    assert usual.parent == place
    assert usual.name.startswith("8080-")
    assert choose(None, 8080, "app.py") == usual == choose(None, 8080, str(Path.cwd() / "app.py"))
    assert len({usual, choose(None, 8081, "app.py"), choose(None, 8080, "other.py")}) == 3
    assert str(os.getpid()) in choose(None, 0, "app.py").name
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{place}/a:{place}/b")
    assert choose(None, 8080, "app.py") == place / "a"
    monkeypatch.chdir(place)
    assert choose("mine", 8080, "app.py") == place / "mine"


def test_the_first_place_where_a_folder_can_be_made_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    (tmp_path / "open").mkdir(mode=0o755)
    places = [tmp_path / "missing" / "home", tmp_path / "open", tmp_path / "good"]
    monkeypatch.setattr(run_directory, "homes", lambda: places)
    assert choose(None, 8080, "app.py").parent == tmp_path / "good"
    del places[2]
    with pytest.raises(StartError, match=r"cannot make .*; the run directory .* is open to others.*--run-dir or"):
        choose(None, 8080, "app.py")


def test_running_servers_are_found_in_all_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / name for name in ("one", "two", "three")]
    monkeypatch.setattr(run_directory, "homes", lambda: places)
    monkeypatch.setattr(run_directory, "LONGEST_NAME", "")
    for place in places[::2]:
        make_private(place)
    first, second = RunDirectory(places[0] / "a"), RunDirectory(places[2] / "b")
    assert running() == [first.path, second.path]
    first.remove()
    assert running() == [second.path]
    second.remove()


def test_a_run_directory_is_private_locked_and_removed(place: Path) -> None:
    make_private(place)
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
    for name in (LOCK, "plan", "master.1.stats", "w1.m1"):
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
    with pytest.raises(StartError, match="not empty"):
        RunDirectory(path)
    assert sorted(left.name for left in path.iterdir()) == sorted(name.rstrip("/") for name in names)


def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o750)
    with pytest.raises(StartError, match="chmod 700"):
        make_private(tmp_path / "open")


@pytest.mark.parametrize("umask", [0o000, 0o177, 0o777], ids=oct)
def test_a_folder_is_ours_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        make_private(tmp_path / "new")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_what_is_no_folder_of_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="not a directory"):
        make_private(tmp_path / "file")
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(StartError, match="is a symbolic link, which is not followed"):
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


def test_a_path_that_is_not_utf_8_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(StartError, match="must be UTF-8"):
        RunDirectory(path)
    assert not path.exists()


def test_an_app_whose_path_is_not_utf_8_has_a_run_directory_too(place: Path) -> None:
    apps = [os.fsdecode(name) for name in (b"/caf\xe9.py", b"/caf\xe8.py")]
    assert len({choose(None, 8080, app) for app in apps}) == 2


def test_what_is_not_there_is_not_running(place: Path) -> None:
    assert running() == []
    assert not is_running(place / "nothing")


# What others do to a directory that is in use.


@pytest.fixture
def held(place: Path) -> Iterator[RunDirectory]:
    """Return a complete run directory that is in use."""
    make_private(place)
    directory = RunDirectory(place / "a")
    furnish(directory)
    yield directory
    directory.remove()
    assert not directory.path.exists()


def furnish(directory: RunDirectory) -> None:
    for name in (PLAN, CONTROL):
        (directory.path / name).touch()


def test_nothing_is_lost_where_nobody_has_removed_anything(held: RunDirectory) -> None:
    assert held.lost() == []
    held.take_again()
    assert is_running(held.path)


@pytest.mark.parametrize("name", [LOCK, PLAN, CONTROL])
def test_a_file_that_was_removed_is_missed(held: RunDirectory, name: str) -> None:
    (held.path / name).unlink()
    assert held.lost() == [name]
    held.take_again()
    furnish(held)
    assert held.lost() == []
    assert is_running(held.path)


@pytest.mark.parametrize("gone", ["directory", "home"])
def test_the_directory_is_made_anew(held: RunDirectory, gone: str) -> None:
    shutil.rmtree(held.path if gone == "directory" else held.path.parent)
    assert held.lost() == ["the directory"]
    held.take_again()
    assert held.lost() == [PLAN, CONTROL]
    assert held.path.stat().st_mode & 0o777 == 0o700
    assert is_running(held.path)


def test_a_lock_that_was_exchanged_is_missed(held: RunDirectory) -> None:
    (held.path / LOCK).unlink()
    (held.path / LOCK).touch()
    assert held.lost() == [LOCK]
    held.take_again()
    assert held.lost() == []


@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_lock_that_is_no_file_is_not_taken(place: Path, when: str) -> None:
    make_private(place)
    lock = place / "a" / LOCK
    if when == "at the start":
        make_private(lock.parent)
        os.mkfifo(lock)
        with pytest.raises(StartError, match=r"cannot write in the run directory .*: not a regular file"):
            RunDirectory(lock.parent)
        return
    directory = RunDirectory(lock.parent)
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(StartError, match=r"cannot write in the run directory .*: not a regular file"):
        directory.take_again()
    assert LOCK in directory.lost()
    lock.unlink()
    directory.take_again()
    assert is_running(directory.path)
    directory.remove()


def test_another_servers_directory_in_the_same_place_is_left_alone(place: Path) -> None:
    make_private(place)
    first = RunDirectory(place / "a")
    shutil.rmtree(first.path)
    second = RunDirectory(place / "a")
    assert first.lost() == ["the directory"]
    with pytest.raises(StartError, match="is running in"):
        first.take_again()
    first.remove()
    assert is_running(second.path)
    second.remove()


def test_other_things_in_the_same_place_are_left_alone(place: Path) -> None:
    make_private(place)
    directory = RunDirectory(place / "a")
    shutil.rmtree(directory.path)
    directory.path.mkdir(mode=0o700)
    (directory.path / "precious").touch()
    with pytest.raises(StartError, match="not empty"):
        directory.take_again()
    directory.remove()
    assert (place / "a" / "precious").exists()


def test_cleaners_that_heed_locks_find_the_directory_locked(held: RunDirectory) -> None:
    """systemd-tmpfiles checks the lock before it enters a folder."""
    folder = os.open(held.path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    shutil.rmtree(held.path)
    held.take_again()
    os.close(folder)
    folder = os.open(held.path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(folder)


def test_cleaners_that_look_at_times_find_all_of_it_new(held: RunDirectory) -> None:
    everything = [held.path, *held.path.iterdir()]
    for path in everything:
        os.utime(path, (1.0, 1.0))
    held.refresh()
    assert all(path.stat().st_mtime > 1.0 < path.stat().st_atime for path in everything)
    shutil.rmtree(held.path)
    held.refresh()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_lack_of_room_is_known_before_it_is_needed(
    held: RunDirectory, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    held.check_room(100_000)
    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        held.check_room(100_000)
    assert sorted(path.name for path in held.path.iterdir()) == [CONTROL, LOCK, PLAN]


def test_a_lock_that_cannot_be_made_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_private(place)

    def fail(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(StartError, match=r"cannot write in the run directory .*: No locks available"):
        RunDirectory(place / "a")
    assert not is_running(place / "a")


def test_what_a_killed_server_left_is_removed_unless_another_has_taken_it_over(tmp_path: Path) -> None:
    path = tmp_path / "run"
    remove_abandoned(path)  # another process was faster
    held = RunDirectory(path)
    remove_abandoned(path)
    assert path.exists()
    held._let_go()
    remove_abandoned(path)
    assert not path.exists()


def test_it_is_removed_while_a_worker_that_lives_makes_its_file_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = RunDirectory(tmp_path / "run")
    held._let_go()
    worker = Snapshot(held.path / "worker.7.stats")
    worker.write({"written": 1})
    unlink = os.unlink

    def unlink_and_write(*arguments: Any, **options: Any) -> None:
        unlink(*arguments, **options)
        worker.write({"written": 2})

    monkeypatch.setattr(os, "unlink", unlink_and_write)
    remove_abandoned(held.path)
    assert list(tmp_path.iterdir()) == []


def test_a_newer_servers_directory_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    RunDirectory(path)._let_go()
    newer: list[RunDirectory] = []

    def lock_late(descriptor: int) -> bool:
        monkeypatch.undo()
        remove_abandoned(path)  # another master of the dead server was faster, and a new server too
        newer.append(RunDirectory(path))
        return run_files.try_lock(descriptor)

    monkeypatch.setattr(run_files, "try_lock", lock_late)
    remove_abandoned(path)
    assert is_running(path)
    assert (path / LOCK).exists()
    newer[0].remove()


def test_one_that_cannot_be_renamed_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = RunDirectory(tmp_path / "run")
    held._let_go()

    def fail(path: Path, target: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "rename", fail)
    remove_abandoned(held.path)
    assert not held.path.exists()


def test_nobody_is_advised_to_close_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir(mode=0o755)
    (tmp_path / "etc" / "passwd").touch()
    with pytest.raises(StartError, match="is not a run directory and not empty"):
        RunDirectory(tmp_path / "etc")
    (tmp_path / "etc" / "passwd").unlink()
    with pytest.raises(StartError, match="is open to others: chmod 700"):
        RunDirectory(tmp_path / "etc")
