"""`zwoole run`, up to the supervisor that would run the app."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from zwoole import Server
from zwoole.shared.errors import SettingsError, StartError
from zwoole.shared.process import plan as plans
from zwoole.supervisor.core.exit_codes import EXIT_BOOT_FAILED
from zwoole.supervisor.start import run_app as run_app_module
from zwoole.supervisor.start.app_target import Target
from zwoole.supervisor.start.launch import make_plan
from zwoole.supervisor.start.run_app import run_app

APP = """
import sys
from zwoole import Server
server = Server("127.0.0.1", 9000, worker_num=2)
server.on("message", lambda server, frame: None)
"""
START = APP + "arguments = sys.argv\nserver.start()\n"

Started = list[tuple[Server, dict[str, Any], str | None, list[Path], Target]]


@pytest.fixture
def started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    calls: Started = []
    monkeypatch.setattr(run_app_module, "supervise", lambda *arguments: calls.append(arguments))
    return calls


def test_a_script_is_run_as_main_with_its_own_arguments_and_folder(folder: Path, started: Started) -> None:
    (folder / "apps").mkdir()
    (folder / "apps" / "app.py").write_text(START + "assert __name__ == '__main__'\nimport beside")
    (folder / "apps" / "beside.py").write_text("")
    run_app("apps/app.py", ["-v", "x"], {"port": 1}, "/run")
    ((server, overrides, run_dir, watched, app),) = started
    assert server.settings.port == 9000
    assert (overrides, run_dir, watched) == ({"port": 1}, "/run", [])
    assert sys.argv == ["apps/app.py", "-v", "x"]
    assert sys.path[0] == str(folder / "apps")
    plan = make_plan(server.settings, {}, app)
    assert (plan.kind, plan.target, plan.cwd) == (plans.SCRIPT, str(folder / "apps" / "app.py"), str(folder))
    assert (plan.argv, plan.path) == (sys.argv, sys.path)


def test_a_server_is_found_by_module_and_attribute(folder: Path, started: Started) -> None:
    (folder / "application.py").write_text(APP)
    run_app("application:server", [], {}, None)
    assert len(started) == 1
    plan = make_plan(started[0][0].settings, {"port": 0}, started[0][4])
    assert (plan.kind, plan.target) == (plans.ATTRIBUTE, "application:server")


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
    assert "run_app.py" not in shown


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

    monkeypatch.setattr(run_app_module, "supervise", broken)
    (folder / "app.py").write_text(START)
    with pytest.raises(StartError, match="the supervisor failed, not the app"):
        run_app("app.py", [], {}, None)
    printed = capsys.readouterr().err
    assert "in broken" in printed
    assert printed.endswith("OSError: no such luck\n")
