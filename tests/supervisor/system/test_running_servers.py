"""Which server a command acts on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from zwoole import Control, ControlFailed
from zwoole.shared.errors import StartError
from zwoole.shared.process import plan as plans
from zwoole.shared.settings import Settings
from zwoole.supervisor.system import running_servers
from zwoole.supervisor.system.run_directory import RunDirectory
from zwoole.supervisor.system.running_servers import LINK, all_of_them, announced, find

Start = Callable[..., Path]


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the usual folder of run directories, which differs from that of this user's own servers."""
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(running_servers, "homes", lambda: [folder / "zwoole"])
    monkeypatch.setattr("zwoole.supervisor.system.run_directory.homes", lambda: [folder / "zwoole"])
    return folder / "zwoole"


@pytest.fixture
def start(usual: Path) -> Iterator[Start]:
    """Return a function that holds a run directory as a server does: (path, app, addresses)."""
    with ExitStack() as running:

        def server(path: Path, target: str = "app.py", *listening: str) -> Path:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            directory = RunDirectory(path)
            running.callback(directory.remove)
            running.enter_context(announced(path))
            plan = plans.Plan(target, plans.SCRIPT, [], [], "/", Settings(), listening=list(listening))
            plans.write(path, plan)
            return path

        yield server


def test_the_only_server_is_meant(start: Start, usual: Path) -> None:
    with pytest.raises(StartError, match="no server is running"):
        find(None)
    path = start(usual / "one", "one.py", "127.0.0.1:8080")
    assert str(find(None)) == f"one.py on 127.0.0.1:8080, run directory {path}"
    assert find(str(path)) == find(None, 8080) == find(str(path), 8080) == find(None)


def test_of_several_one_must_be_named(start: Start, usual: Path) -> None:
    one, two = start(usual / "one", "one.py", "127.0.0.1:8080"), start(usual / "two", "two.py", "[::]:81", "0.0.0.0:81")
    with pytest.raises(StartError) as error:
        find(None)
    assert str(error.value).splitlines() == [
        "several servers are running; say which, with --run-dir or --port:",
        f"  one.py on 127.0.0.1:8080: --run-dir {one}",
        f"  two.py on [::]:81, 0.0.0.0:81: --run-dir {two}",
    ]
    assert (find(None, 8080).run_dir, find(None, 81).run_dir, find(str(two)).run_dir) == (one, two, two)
    assert Control(port=81).run_dir == two
    with pytest.raises(StartError, match=r"no server listens on port 80; running:\n  one\.py.*\n  two\.py"):
        find(None, 80)
    with pytest.raises(StartError, match=r"no server listens on port 81; running:\n  one\.py on 127"):
        find(str(one), 81)
    with pytest.raises(StartError, match="no server is running in /elsewhere"):
        find("/elsewhere", 81)


def raised(*args: object, **options: object) -> tuple[str, int]:
    """Return `Control`'s error for a server that it does not find, and the exit code."""
    with pytest.raises(ControlFailed) as caught:
        Control(*args, **options)  # type: ignore[arg-type]
    return str(caught.value), caught.value.exit_code


def test_control_raises_what_a_command_reports(
    start: Start, usual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that `except ControlFailed` catches the most common error too."""
    nowhere = f"no server is running (looked in {usual}; another place needs --run-dir)"
    assert raised() == raised(port=9999) == (nowhere, 1)
    assert raised("/elsewhere") == raised(Path("/elsewhere")) == ("no server is running in /elsewhere", 1)
    assert raised("a\0b") == ("no server is running in a\0b", 1)
    one, two = start(usual / "one", "one.py", "127.0.0.1:8080"), start(usual / "two", "two.py", "127.0.0.1:8081")
    both = f"\n  one.py on 127.0.0.1:8080: --run-dir {one}\n  two.py on 127.0.0.1:8081: --run-dir {two}"
    assert raised() == (f"several servers are running; say which, with --run-dir or --port:{both}", 1)
    assert raised(port=80) == (f"no server listens on port 80; running:{both}", 1)
    gone = usual / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert raised("../one") == (
        "the current folder no longer exists, so ../one has no meaning: give an absolute path",
        1,
    )


def test_a_port_in_the_place_of_a_run_directory_is_seen(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "no server is running in a folder 9102; if that is a port, write port=9102, or --port 9102 for a command"
    assert raised(9102) == raised("9102") == (said, 1)
    monkeypatch.chdir(tmp_path)
    start(tmp_path / "9102")
    assert Control("9102").run_dir == tmp_path / "9102"


def test_a_link_that_goes_at_this_moment_is_no_error(
    usual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server has ended since it was found."""
    monkeypatch.setattr(running_servers, "running", lambda: [usual / f"{LINK}gone"])
    assert all_of_them() == [usual / f"{LINK}gone"]


def test_two_on_one_port_are_told_apart_by_their_directories(start: Start, usual: Path) -> None:
    start(usual / "one", "one.py", "127.0.0.1:80")
    start(usual / "two", "two.py", "127.0.0.2:80")
    with pytest.raises(StartError, match="several servers are running"):
        find(None, 80)


def test_a_server_elsewhere_is_one_of_them(start: Start, usual: Path, tmp_path: Path) -> None:
    """Otherwise a command without a name would act on the only one in the usual place, which may not be the
    intended one.
    """
    elsewhere = start(tmp_path / "run", "there.py", "127.0.0.1:81")
    assert find(None).run_dir == elsewhere
    start(usual / "one", "one.py", "127.0.0.1:80")
    with pytest.raises(StartError, match="several servers are running"):
        find(None)
    assert find(None, 81).run_dir == elsewhere


def test_the_link_to_a_server_elsewhere_goes_with_it(usual: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    directory = RunDirectory(path)
    with announced(path):
        assert all_of_them() == [path]
    assert list(usual.iterdir()) == []
    directory.remove()


def test_links_of_servers_that_were_killed_are_cleared_away(start: Start, usual: Path, tmp_path: Path) -> None:
    start(tmp_path / "lives")
    usual.joinpath(f"{LINK}dead").symlink_to(tmp_path / "dead")
    assert all_of_them() == [tmp_path / "lives"]
    start(tmp_path / "another")
    assert len(list(usual.iterdir())) == 2
    assert sorted(all_of_them()) == [tmp_path / "another", tmp_path / "lives"]


def test_a_folder_that_cannot_be_used_is_no_obstacle(usual: Path, tmp_path: Path) -> None:
    usual.write_text("a file in its place")
    with announced(tmp_path / "run"):
        pass
    usual.unlink()
    usual.mkdir(mode=0o755)  # others may enter
    usual.chmod(0o755)
    with announced(tmp_path / "run"):
        assert list(usual.iterdir()) == []


def test_a_server_that_only_starts_is_named_too(start: Start, usual: Path) -> None:
    path = start(usual / "one")
    (path / "plan").unlink()
    assert str(find(None)) == f"a server that starts on no port yet, run directory {path}"
