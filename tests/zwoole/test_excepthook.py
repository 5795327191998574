"""One clear line for the mistakes that zwoole can name."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import TracebackType

import pytest

from zwoole import excepthook
from zwoole.shared.errors import ConnectionClosed, SettingsError, StartError, WrongProcess
from zwoole.shared.process.tracebacks import PACKAGE, is_users


def raised(script: Path, code: str) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """Return what a user's script raises."""
    script.write_text(code)
    try:
        exec(compile(code, str(script), "exec"), {})
    except Exception as error:
        return type(error), error, error.__traceback__
    raise AssertionError("nothing was raised")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Return what the previous excepthook would be called with."""
    errors: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: errors.append(error))
    excepthook.install()
    return errors


def test_a_mistake_is_one_line_with_its_place_in_the_users_file(
    tmp_path: Path, shown: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    sys.excepthook(*raised(tmp_path / "app.py", "from zwoole import Server\n\nServer(worker_nums=4)\n"))
    assert capsys.readouterr().err == ("zwoole: app.py:3: unknown setting 'worker_nums': did you mean 'worker_num'?\n")
    assert shown == []


@pytest.mark.parametrize("kind", [SettingsError, StartError, WrongProcess])
def test_all_errors_of_starting_are_one_line(
    kind: type[Exception], shown: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    sys.excepthook(kind, kind("what went wrong"), None)
    assert capsys.readouterr().err == "zwoole: what went wrong\n"


@pytest.mark.parametrize("error", [ValueError("v"), KeyboardInterrupt(), ConnectionClosed(1000, "")])
def test_anything_else_is_shown_as_before(error: BaseException, shown: list[BaseException]) -> None:
    sys.excepthook(type(error), error, None)
    assert shown == [error]


@pytest.mark.parametrize(
    ("filename", "users"),
    [
        ("/home/me/app.py", True),
        (str(PACKAGE) + "/supervisor.py", False),
        (str(PACKAGE) + "/workers/server.py", False),
        (str(PACKAGE) + "_app.py", True),
        (str(PACKAGE) + "-chat/app.py", True),
        ("<frozen runpy>", False),
        ("<string>", False),
        (runpy.__file__, False),
    ],
)
def test_the_users_files_are_those_that_are_not_ours(filename: str, users: bool) -> None:
    assert is_users(filename) is users
