"""From a script, or a command line, to a supervisor that would run it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from zwoole import Server
from zwoole.shared.errors import SettingsError, StartError
from zwoole.shared.process import plan as plans
from zwoole.shared.settings import Settings
from zwoole.supervisor import launch
from zwoole.supervisor.exit_codes import EXIT_BOOT_FAILED
from zwoole.supervisor.launch import current_folder, find_main, find_server, make_plan, run_app, supervise
from zwoole.workers import role

APP = """
import sys
from zwoole import Server
server = Server("127.0.0.1", 9000, worker_num=2)
server.on("message", lambda server, frame: None)
"""
START = APP + "arguments = sys.argv\nserver.start()\n"

Started = list[tuple[Server, dict[str, Any], str | None]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the current folder; everything that a launch changes is restored afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["zwoole"])
    monkeypatch.setattr(sys, "path", ["/usr/bin", *sys.path])
    monkeypatch.setattr(launch, "_app", None)
    monkeypatch.setattr(role, "_starter", None)
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    calls: Started = []
    monkeypatch.setattr(launch, "supervise", lambda *arguments: calls.append(arguments))
    return calls


def test_a_script_is_run_as_main_with_its_own_arguments_and_folder(folder: Path, started: Started) -> None:
    (folder / "apps").mkdir()
    (folder / "apps" / "app.py").write_text(START + "assert __name__ == '__main__'\nimport beside")
    (folder / "apps" / "beside.py").write_text("")
    run_app("apps/app.py", ["-v", "x"], {"port": 1}, "/run")
    ((server, overrides, run_dir, watched),) = started
    assert server.settings.port == 9000
    assert (overrides, run_dir, watched) == ({"port": 1}, "/run", [])
    assert sys.argv == ["apps/app.py", "-v", "x"]
    assert sys.path[0] == str(folder / "apps")
    plan = make_plan(server.settings, {})
    assert (plan.kind, plan.target, plan.cwd) == (plans.SCRIPT, str(folder / "apps" / "app.py"), str(folder))
    assert (plan.argv, plan.path) == (sys.argv, sys.path)


def test_a_server_is_found_by_module_and_attribute(folder: Path, started: Started) -> None:
    (folder / "application.py").write_text(APP)
    run_app("application:server", [], {}, None)
    assert len(started) == 1
    plan = make_plan(started[0][0].settings, {"port": 0})
    assert (plan.kind, plan.target) == (plans.ATTRIBUTE, "application:server")


def test_an_attribute_that_is_no_server_is_said(folder: Path) -> None:
    (folder / "application.py").write_text(APP)
    sys.path.insert(0, str(folder))
    for attribute in ("serve", "sys", "Server"):
        with pytest.raises(StartError, match=f"'{attribute}' in module 'application' is no Server"):
            find_server(f"application:{attribute}")
    with pytest.raises(StartError, match="did you mean 'server'"):
        find_server("application:serve")


def test_a_file_that_is_not_there_is_said(started: Started) -> None:
    with pytest.raises(StartError, match=r"no file 'missing\.py'"):
        run_app("missing.py", [], {}, None)


@pytest.mark.parametrize("code", ["1 / 0", "import no_such_module", "this is no python"])
def test_a_script_that_fails_shows_the_users_part_of_the_traceback(
    folder: Path, started: Started, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    (folder / "app.py").write_text(code)
    with pytest.raises(StartError, match=r"app\.py failed before"):
        run_app("app.py", [], {}, None)
    shown = capsys.readouterr().err
    assert "Error" in shown
    assert "app.py" in shown
    assert "runpy" not in shown
    assert "launch.py" not in shown


def test_a_module_that_is_not_there_is_said(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StartError, match="no module 'no_such_module', neither in"):
        run_app("no_such_module:server", [], {}, None)
    assert capsys.readouterr().err == "", "no traceback, which would be importlib's"


def test_a_script_that_never_starts_is_said(folder: Path, started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "app.py").write_text(APP)
    with pytest.raises(SystemExit) as info:
        run_app("app.py", [], {}, None)
    assert info.value.code == EXIT_BOOT_FAILED
    assert "without reaching server.start()" in capsys.readouterr().err


@pytest.mark.parametrize(
    "code", ["raise SystemExit(7)", "raise KeyboardInterrupt", "import zwoole; zwoole.Server(x=1)"]
)
def test_what_a_script_means_to_raise_is_raised(folder: Path, started: Started, code: str) -> None:
    (folder / "app.py").write_text(code)
    with pytest.raises((SystemExit, KeyboardInterrupt, SettingsError)):
        run_app("app.py", [], {}, None)


def test_what_fails_in_start_is_not_said_to_be_the_apps(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no such luck")

    monkeypatch.setattr(launch, "supervise", broken)
    (folder / "app.py").write_text(START)
    with pytest.raises(StartError, match="the supervisor failed, not the app"):
        run_app("app.py", [], {}, None)
    printed = capsys.readouterr().err
    assert "in broken" in printed
    assert printed.endswith("OSError: no such luck\n")


def test_main_is_a_script_or_a_module(folder: Path) -> None:
    main = ModuleType("__main__")
    main.__spec__ = None
    with pytest.raises(StartError, match="script"):
        find_main(main)
    main.__file__ = "app.py"
    with pytest.raises(StartError, match="script"):
        find_main(main)
    (folder / "app.py").touch()
    assert find_main(main) == (plans.SCRIPT, str(folder / "app.py"))
    del main.__spec__  # as under pdb
    assert find_main(main) == (plans.SCRIPT, str(folder / "app.py"))
    main.__spec__ = pytest.__spec__
    assert find_main(main) == (plans.RUN_MODULE, "pytest")


def test_main_of_a_folder_or_an_archive_is_its_path(folder: Path) -> None:
    main = ModuleType("__main__")
    main.__spec__ = ModuleSpec("__main__", None)
    main.__file__ = str(folder / "app" / "__main__.py")
    (folder / "app").mkdir()
    assert find_main(main) == (plans.SCRIPT, str(folder / "app"))


@pytest.mark.parametrize(
    ("named", "found"),
    [("link", "link"), ("real", "real"), ("other", "real"), ("gone", "real"), ("", "real")],
)
def test_the_current_folder_has_the_name_that_the_shell_has_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, named: str, found: str
) -> None:
    (folder / "real").mkdir()
    (folder / "other").mkdir()
    (folder / "link").symlink_to("real")
    monkeypatch.chdir(folder / "link")
    monkeypatch.setenv("PWD", str(folder / named) if named else "")
    assert current_folder() == folder / found


class Supervisor:
    """Records what it was asked to run."""

    exit_code = 0
    noted: list[Any]

    def __init__(self, server: Server, plan: plans.Plan, directory: Any, listeners: Any, watched: Any) -> None:
        Supervisor.noted = [server, plan, directory]
        for listening in listeners[0]:
            listening.close()

    def run(self) -> int:
        assert self.noted[2].path.exists()
        return self.exit_code


@pytest.mark.parametrize("exit_code", [0, 3])
def test_the_effective_settings_win_and_the_run_directory_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, exit_code: int
) -> None:
    monkeypatch.setattr(launch, "Supervisor", Supervisor)
    monkeypatch.setattr(Supervisor, "exit_code", exit_code)
    monkeypatch.setattr(launch, "_app", (plans.SCRIPT, "/app.py"))
    monkeypatch.setattr("zwoole.supervisor.run_directory.LONGEST_NAME", "")
    server = Server(worker_num=2, port=9000)
    run_dir = folder / "r"
    if exit_code:
        with pytest.raises(SystemExit) as info:
            supervise(server, {"worker_num": 5}, str(run_dir))
        assert info.value.code == exit_code
    else:
        supervise(server, {"worker_num": 5}, str(run_dir))
    _, plan, directory = Supervisor.noted
    assert plan.settings == server.settings == Settings().update({"worker_num": 5, "port": 9000})
    assert directory.path == run_dir
    assert not run_dir.exists()


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_sandbox_that_forbids_to_watch_processes_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def forbidden(_: int) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "pidfd_open", forbidden)
    with pytest.raises(StartError, match=f"^pidfd_open fails \\({os.strerror(error)}\\): zwoole needs Linux 5.3"):
        supervise(Server())


def test_an_override_that_is_no_setting_is_an_error(folder: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'worker_num'"):
        supervise(Server(), {"worker_nums": 5})
