"""The `zwoole` command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from zwoole import cli, control_client
from zwoole.shared.errors import SettingsError, StartError
from zwoole.version import VERSION

STATUS: dict[str, Any] = {
    "pid": 100,
    "uptime_s": 12.3,
    "state": "serving",
    "listening": ["127.0.0.1:8080", "[::1]:8080"],
    "run_dir": "/run/zwoole",
    "processes": [
        {"role": "master", "index": 0, "pid": 101, "ready": True},
        {"role": "worker", "index": 0, "pid": 102, "ready": False},
    ],
    "masters": [
        {"connections": 2, "messages_in": 30, "messages_out": 40},
        {"connections": 1, "messages_in": 3, "messages_out": 4},
    ],
}


class Command:
    """Runs the command and keeps what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Return exit code, output and errors."""
        self._monkeypatch.setattr(sys, "argv", ["zwoole", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str]]:
    """Have a server answer, and return what it was asked."""
    requests: list[tuple[Path, str]] = []

    def request(path: Path, what: str, **fields: Any) -> Any:
        assert fields == ({"drain": 0.0} if what == "stop" else {})
        requests.append((path, what))
        return STATUS if what == "status" else {"pid": 100}

    monkeypatch.setattr(control_client, "find", lambda given: Path(given or "/the/only"))
    monkeypatch.setattr(control_client, "request", request)
    monkeypatch.setattr(cli, "is_running", lambda path: False)
    return requests


def test_version_and_help_are_printed(command: Command) -> None:
    assert command("--version") == (0, f"zwoole, version {VERSION}\n", "")
    for arguments in (["-h"], ["--help"], ["run", "-h"], ["status", "--help"]):
        code, out, _ = command(*arguments)
        assert code == 0
        assert out.startswith("Usage: ")


@pytest.mark.parametrize("arguments", [["rum"], ["run"], ["run", "app.py", "--port", "x"], ["status", "--nonsense"]])
def test_a_wrong_command_line_is_said(command: Command, arguments: list[str]) -> None:
    code, out, err = command(*arguments)
    assert code == 2
    assert out == ""
    assert "Error" in err


def test_run_passes_on_what_was_given_and_nothing_else(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(cli, "run_app", lambda *arguments: ran.append(arguments))
    assert command("run", "app.py")[0] == 0
    options = ["--host", "::", "--port", "0", "--workers", "3", "--reactors", "2", "--run-dir", "/r"]
    settings = ["--set", "backlog=5", "--set", "log_level=debug", "--set", "slow_callback_s=0.5"]
    assert command("run", *options, *settings, "m:server", "--", "-v", "--port", "1")[0] == 0
    overrides = {
        "host": "::",
        "port": 0,
        "worker_num": 3,
        "reactor_num": 2,
        "backlog": 5,
        "log_level": "debug",
        "slow_callback_s": 0.5,
    }
    assert ran == [("app.py", [], {}, None, False), ("m:server", ["-v", "--port", "1"], overrides, "/r", False)]


@pytest.mark.parametrize("error", [StartError("why not"), SettingsError("why not")])
def test_what_goes_wrong_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "run_app", fail)
    assert command("run", "app.py") == (1, "", "zwoole: why not\n")


def test_a_setting_without_a_value_is_one_line(command: Command) -> None:
    assert command("run", "app.py", "--set", "backlog") == (1, "", "zwoole: --set takes NAME=VALUE, not 'backlog'\n")


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("a=5", ("a", 5)),
        ("a=0.5", ("a", 0.5)),
        ("a=true", ("a", True)),
        ("a=debug", ("a", "debug")),
        ("a=127.0.0.1", ("a", "127.0.0.1")),
        ("a=", ("a", "")),
        ("a=b=c", ("a", "b=c")),
    ],
)
def test_a_settings_value_is_json_or_text(text: str, setting: tuple[str, Any]) -> None:
    assert cli.parse_setting(text) == setting


def test_ctrl_c_is_exit_code_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_app", interrupt)
    assert command("run", "app.py")[0] == 130


def test_status_is_for_people_or_for_programs(command: Command, asked: list[tuple[Path, str]]) -> None:
    code, out, _ = command("status")
    assert code == 0
    assert out.splitlines() == [
        "serving on 127.0.0.1:8080, [::1]:8080 for 12 s (pid 100)",
        "connections 3, messages in 33, out 44",
        "run directory /run/zwoole",
        "  master 0: pid 101, ready",
        "  worker 0: pid 102, starting",
    ]
    code, out, _ = command("status", "--json", "--run-dir", "/other")
    assert json.loads(out) == STATUS
    assert asked == [(Path("/the/only"), "status"), (Path("/other"), "status")]


def test_stop_waits_for_the_end(
    command: Command, asked: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = [True, True]
    monkeypatch.setattr(cli, "is_running", lambda path: bool(alive and alive.pop()))
    assert command("stop") == (0, "stopped (pid 100)\n", "")
    assert alive == []
    assert json.loads(command("stop", "--json")[1]) == {"stopped": True, "pid": 100}


def test_a_stop_that_takes_too_long_is_said(
    command: Command, asked: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "is_running", lambda path: True)
    monkeypatch.setattr(cli, "STOP_WAIT_S", 0.0)
    code, _, err = command("stop")
    assert code == 1
    assert "has not ended" in err
