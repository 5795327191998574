"""The `zwoole` command."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import BashComplete

from tests.process.server_process import ZWOOLE
from tests.test_docs import ROOT, rows, section
from tests.zwoole.command import Command
from zwoole import cli, control, control_client
from zwoole.cli import INTERRUPTED, zwoole
from zwoole.commands import run as run_command
from zwoole.commands.group import COMMANDS
from zwoole.shared.errors import SettingsError, StartError
from zwoole.shared.process.lifeline import ORPHANED_EXIT
from zwoole.shared.process.run_files import LOCK
from zwoole.shared.websocket.mask import COMPILED
from zwoole.supervisor.core.exit_codes import EXIT_BOOT_FAILED, EXIT_CANNOT_START, EXIT_FORCED, EXIT_OK
from zwoole.supervisor.system import run_directory, running_servers
from zwoole.version import VERSION

PAGE = ROOT / "docs" / "cli.md"
USAGE = 2


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Make a server answer, and return the requests it received."""
    requests: list[tuple[Any, ...]] = []
    answers: dict[str, Any] = {
        "stop": {"pid": 100},
        "reload": {"seconds": 0.3, "workers": 2},
        "status": {"needs_restart": ["worker_num 2 -> 4"]},
        "workers": {"worker_num": 3},
        "kick": {"clients": 4},
        "push": {"clients": 1},
        "connections": {"total": 7, "connections": [CONNECTION]},
    }

    def request(path: Path, what: str, timeout_s: float = 5.0, **fields: Any) -> Any:
        requests.append((str(path), what, fields))
        return answers[what]

    monkeypatch.setattr(running_servers, "find", found)
    monkeypatch.setattr(control_client, "request", request)
    monkeypatch.setattr(control, "End", Ended)
    return requests


class Ended:
    """Replaces the end of a server that has stopped gracefully."""

    def __init__(self, path: Path) -> None:
        pass

    def has_come(self) -> bool:
        return True

    def code(self) -> str:
        return "0"

    def close(self) -> None:
        pass


def found(run_dir: str | None, port: int | None) -> running_servers.Running:
    """Replaces the search for a server: it returns the one at the given path or port, or the only one."""
    return running_servers.Running(Path(run_dir or "/the/only"), "app.py", [f"127.0.0.1:{port or 8080}"])


NAMED = "zwoole: app.py on 127.0.0.1:8080, run directory /the/only\n"

CONNECTION = {
    "fd": 17,
    "address": "127.0.0.1:5000",
    "path": "/chat",
    "age_s": 65.0,
    "state": "open",
    "queued_bytes": 2048,
    "outstanding": 0,
    "worker": 1,
}


def test_version_and_help_are_printed(command: Command) -> None:
    assert command("--version") == (0, f"zwoole, version {VERSION}\n", "")
    for arguments in (["-h"], ["--help"], ["run", "-h"], ["status", "--help"]):
        code, out, _ = command(*arguments)
        assert code == 0
        assert out.startswith("Usage: ")


@pytest.mark.parametrize(
    "arguments",
    [["rum"], ["--nonsense"], ["completion"], ["run"], ["run", "app.py", "--port", "x"], ["status", "--nonsense"]],
)
def test_a_wrong_command_line_is_said(command: Command, arguments: list[str]) -> None:
    code, out, err = command(*arguments)
    assert code == 2
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("zwoole: ")
    called = f"zwoole {arguments[0]}" if arguments[0] in COMMANDS else "zwoole"
    assert line.endswith(f" (`{called} --help` shows what it takes)")


@pytest.mark.parametrize("arguments", [["run", "app.py"], ["status"], ["stop"], ["push", "1", "text"]], ids=" ".join)
def test_an_empty_run_directory_is_said(command: Command, arguments: list[str]) -> None:
    code, out, err = command(*arguments, "--run-dir", "")
    assert (code, out) == (2, "")
    assert "'--run-dir': the name of the folder is empty" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "port=8081", "--port", "8082"], "port is given twice: by its own option and by --set"),
        (["--set", "worker_nums=2"], "unknown setting 'worker_nums': did you mean 'worker_num'?"),
        (["--set", "worker_num=0"], "worker_num must be from 1 to 1024, not 0 (docs/settings.md lists all settings)"),
    ],
)
def test_a_wrong_setting_is_said(command: Command, arguments: list[str], words: str) -> None:
    code, out, err = command("run", "app.py", *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_run_passes_on_what_was_given_and_nothing_else(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(run_command, "run_app", lambda *arguments: ran.append(arguments))
    assert command("run", "app.py")[0] == 0
    options = ["--host", "::", "--port", "0", "--workers", "3", "--reactors", "2", "--run-dir", "/r"]
    options += ["--log-level", "debug"]
    settings = ["--set", "backlog=5", "--set", "slow_callback_s=0.5"]
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


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        *((f"access_log={word}", ("access_log", True)) for word in ("true", "True", "TRUE", "1", "yes", "on")),
        *((f"access_log={word}", ("access_log", False)) for word in ("false", "False", "0", "No", "off")),
        ("access_log=maybe", ("access_log", "maybe")),
        ("access_log=2", ("access_log", 2)),
        ("admin_token=12345", ("admin_token", "12345")),
        ("admin_token=true", ("admin_token", "true")),
        ("admin_token=1e5", ("admin_token", "1e5")),
        ('admin_token="12345"', ("admin_token", "12345")),
        ("admin_token=a=b", ("admin_token", "a=b")),
        ("user=", ("user", "")),
        ("worker_num=1", ("worker_num", 1)),
        ("worker_num=two", ("worker_num", "two")),
        ("slow_callback_s=0.5", ("slow_callback_s", 0.5)),
        ("allowed_origins=https://a,https://b", ("allowed_origins", "https://a,https://b")),
        ('allowed_origins=["https://a"]', ("allowed_origins", ["https://a"])),
        ("unknown=1", ("unknown", 1)),
        ("worker_num=" + "[" * 100_000, ("worker_num", "[" * 100_000)),
    ],
)
def test_a_setting_on_the_command_line_has_its_type(text: str, setting: tuple[str, Any]) -> None:
    found = run_command.parse_setting(text)
    assert found == setting
    assert type(found[1]) is type(setting[1])


@pytest.mark.parametrize("error", [StartError("why not"), SettingsError("why not")])
def test_what_goes_wrong_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(run_command, "run_app", fail)
    assert command("run", "app.py") == (1, "", "zwoole: why not\n")


def test_a_setting_without_a_value_is_one_line(command: Command) -> None:
    code, out, err = command("run", "app.py", "--set", "backlog")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("zwoole: --set takes NAME=VALUE, not 'backlog' (")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "backlgo=5"], "unknown setting 'backlgo': did you mean 'backlog'?"),
        (["--set", "backlog=many"], "backlog must be an integer, not 'many'"),
        (["--port", "65536"], "port must be from 0 to 65535, not 65536"),
    ],
)
def test_a_setting_that_cannot_be_is_a_wrong_command_line(command: Command, arguments: list[str], said: str) -> None:
    code, out, err = command("run", "no such app.py", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"zwoole: {said} (")


def test_the_command_alone_shows_its_help(command: Command) -> None:
    _, out, err = command()
    assert (out + err).startswith("Usage: zwoole [OPTIONS] COMMAND")


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
    assert run_command.parse_setting(text) == setting


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["workers", "0"], "0 workers cannot be: give a number from 1 to 1024, or a change such as +1"),
        (["workers", "1025"], "1025 workers cannot be: give a number from 1 to 1024, or a change such as +1"),
        (["workers", "-1025"], "'-1025' is neither a number of workers nor a change such as +1"),
        (["workers", "12345"], "12345 workers cannot be: give a number from 1 to 1024, or a change such as +1"),
        (["workers", "two"], "'two' is neither a number of workers nor a change such as +1"),
        (["stop", "--drain", "-1"], "Invalid value for '--drain': -1.0 is not in the range 0<=x<=86400."),
        (["stop", "--drain", "nan"], "Invalid value for '--drain': nan is not in the range 0<=x<=86400."),
        (["stop", "--drain", "soon"], "Invalid value for '--drain': 'soon' is not a valid float"),
        (["connections", "--limit", "0"], "Invalid value for '--limit': 0 is not in the range 1<=x<=2000."),
        (
            ["kick", "all", "--code", "1005"],
            "Invalid value for '--code': 1005 is no close code that may be sent: take 1000, 1001, 1008, 1011 or"
            " 3000-4999",
        ),
        (
            ["kick", "all", "--code", "70000"],
            "Invalid value for '--code': 70000 is no close code that may be sent: take 1000, 1001, 1008, 1011 or"
            " 3000-4999",
        ),
        (["kick", "all", "--reason", "x" * 124], "Invalid value for '--reason': a reason has at most 123 bytes"),
        (["kick", "0" * 19 + "1" + "9" * 5000], "' is not the number of a connection; `zwoole connections` lists them"),
        (["kick", "0"], "'0' is not the number of a connection; `zwoole connections` lists them"),
        (["status", "--port", "0"], "Invalid value for '--port': 0 is not in the range 1<=x<=65535."),
        (["run", "app.py", "--workers", "0"], "Invalid value for '--workers': 0 is not in the range 1<=x<=1024."),
        (["run", "app.py", "--reactors", "65"], "Invalid value for '--reactors': 65 is not in the range 1<=x<=64."),
        (["run", "app.py", "--workers", "two"], "Invalid value for '--workers': 'two' is not a valid integer"),
    ],
)
def test_a_value_that_cannot_be_is_said_by_the_name_that_was_written(
    command: Command, asked: list[tuple[Any, ...]], arguments: list[str], said: str
) -> None:
    code, out, err = command(*arguments)
    assert (code, out, asked) == (2, "", [])
    (line,) = err.splitlines()
    assert line.startswith("zwoole: ")
    assert said in line


def test_ctrl_c_is_exit_code_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_command, "run_app", interrupt)
    assert command("run", "app.py")[0] == 130


ASKS = [
    (["workers", "-1"], "workers", {"by": -1}, "3 worker(s)", {"worker_num": 3}),
    (["workers", "3"], "workers", {"to": 3}, "3 worker(s)", {"worker_num": 3}),
    (["stop", "--drain", "3"], "stop", {"drain": 3.0}, "stopped (pid 100)", {"stopped": True, "pid": 100}),
    (["kick", "all"], "kick", {"fd": None, "code": 1008, "reason": ""}, "closed 4 connection(s)", {"clients": 4}),
    (
        ["kick", "17", "--code", "4001", "--reason", "why"],
        "kick",
        {"fd": 17, "code": 4001, "reason": "why"},
        "closed 4 connection(s)",
        {"clients": 4},
    ),
    (["push", "17", "hello"], "push", {"fd": 17, "data": "hello"}, "sent to 1 client(s)", {"clients": 1}),
    (["broadcast", "hello"], "push", {"fd": None, "data": "hello"}, "sent to 1 client(s)", {"clients": 1}),
    (
        ["connections"],
        "connections",
        {"limit": 1000},
        "FD  ADDRESS         PATH     AGE  STATE   QUEUED  WORKER\n"
        "17  127.0.0.1:5000  /chat  1m05s  open   2.0 KiB       1\n"
        "and 6 more",
        {"total": 7, "connections": [CONNECTION]},
    ),
]


@pytest.mark.parametrize(
    ("arguments", "what", "fields", "text", "as_json"), ASKS, ids=[" ".join(ask[0]) for ask in ASKS]
)
def test_a_command_asks_the_server_and_says_what_it_answered(
    command: Command,
    asked: list[tuple[Any, ...]],
    arguments: list[str],
    what: str,
    fields: dict[str, Any],
    text: str,
    as_json: Any,
) -> None:
    assert command(*arguments) == (0, text + "\n", NAMED)
    code, out, err = command(*arguments, "--json", "--run-dir", "/other", "--port", "9000")
    server = {"target": "app.py", "listening": ["127.0.0.1:9000"], "run_dir": "/other"}
    assert (code, json.loads(out), err) == (0, {**as_json, "server": server}, "")
    assert asked == [("/the/only", what, fields), ("/other", what, fields)]


def test_a_reload_says_what_needs_a_restart(command: Command, asked: list[tuple[Any, ...]]) -> None:
    text = "reloaded 2 worker(s); needs a restart: worker_num 2 -> 4\n"
    assert command("reload") == (0, text, NAMED)
    assert [what for _, what, _ in asked] == ["reload", "status"]
    result = json.loads(command("reload", "--json")[1])
    assert (result["workers"], result["needs_restart"]) == (2, ["worker_num 2 -> 4"])


@pytest.mark.parametrize("arguments", [["kick", "17"], ["push", "17", "hello"]])
def test_a_client_that_is_not_there_is_an_error(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(running_servers, "find", found)
    monkeypatch.setattr(control_client, "request", lambda *_, **__: {"clients": 0})
    assert command(*arguments) == (1, "", NAMED + "zwoole: connection 17 is not open\n")


class Stopping:
    """A server that takes one more action each time the command checks whether it has ended.

    Attributes:
        directory: its run directory, which it holds.
        actions: what it does, in order.
    """

    def __init__(self, path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run_directory, "LONGEST_NAME", "")
        monkeypatch.setattr(control, "End", run_directory.End)
        monkeypatch.setattr(time, "sleep", lambda seconds: self.actions.pop(0)())
        self.directory = run_directory.RunDirectory(path)
        self.actions: list[Callable[[], object]] = []
        self._command = command
        self._holds = True

    def ends(self, code: int) -> None:
        """Record the exit code and remove the directory, as a server does when it stops."""
        self.directory.note_end(code)
        self.end()

    def end(self) -> None:
        """End as if killed: the lock is released, and another process removes the directory."""
        if self._holds:
            self.directory.remove()
        self._holds = False

    def write(self, said: bytes) -> None:
        """Write something else into the lock file."""
        (self.directory.path / LOCK).write_bytes(said)

    def stop(self, *actions: Callable[[], object]) -> tuple[int, str, str]:
        """Run `zwoole stop`; return exit code, output, and errors without the line that names the server."""
        self.actions += actions
        code, out, err = self._command("stop", "--run-dir", str(self.directory.path))
        assert self.actions == []
        return code, out, err.removeprefix(NAMED.replace("/the/only", str(self.directory.path)))


@pytest.fixture
def stopping(
    tmp_path: Path, command: Command, asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stopping]:
    server = Stopping(tmp_path / "run", command, monkeypatch)
    yield server
    server.end()


STOPPED = (0, "stopped (pid 100)\n", "")
FORCED = "the server stopped by force: what had not finished in time was killed; its log says what (exit code 4)"
KILLED = "the server was killed, or failed, before it had stopped; its log may say why"
UNKNOWN = "whether the server stopped gracefully is unknown: its lock file was removed or changed; see its log"


def test_stop_waits_for_the_end(stopping: Stopping) -> None:
    assert stopping.stop(lambda: None, lambda: None, lambda: stopping.ends(0)) == STOPPED


@pytest.mark.parametrize(
    ("said", "code", "out", "err"),
    [
        (b"0   \n", *STOPPED),
        (b"4   \n", 4, "", f"zwoole: {FORCED}\n"),
        (b"3   \n", 3, "", "zwoole: the server ended with exit code 3; its log says why\n"),
        (b"-   \n", 1, "", f"zwoole: {KILLED}\n"),
        (b"", *STOPPED),  # of a version that writes nothing there
        *(
            (garbage, 1, "", f"zwoole: {UNKNOWN}\n")
            for garbage in (
                "\u00b2\u00b3".encode(),
                "\u0663".encode(),
                b"\xff\xfe",
                b"no number",
                bytes(1000),
                b"9" * 1_000_000,
                b"00",
                b"04",
                b"256",
                b"1 2",
                b"-1",
            )
        ),
    ],
)
def test_stop_says_how_the_server_has_ended(stopping: Stopping, said: bytes, code: int, out: str, err: str) -> None:
    def ends() -> None:
        stopping.write(said)
        stopping.end()

    assert stopping.stop(ends) == (code, out, err)


@pytest.mark.parametrize("code", [0, 4])
@pytest.mark.parametrize("what", ["the directory", "the lock"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_directory_that_is_made_anew_while_stop_waits_changes_nothing(
    stopping: Stopping, times: int, what: str, code: int
) -> None:
    directory = stopping.directory

    def remove() -> None:
        if what == "the directory":
            shutil.rmtree(directory.path)
        else:
            (directory.path / LOCK).unlink()

    nothing = [lambda: None] * 2
    meanwhile = [remove, *nothing, directory.take_again, *nothing] * times
    assert stopping.stop(*meanwhile, lambda: stopping.ends(code))[0] == code


def test_a_server_that_ends_before_it_has_made_its_directory_anew_is_understood(stopping: Stopping) -> None:
    assert stopping.stop(lambda: shutil.rmtree(stopping.directory.path), lambda: stopping.ends(0)) == STOPPED


def test_a_server_that_is_killed_after_its_directory_was_made_anew_is_said(stopping: Stopping) -> None:
    directory = stopping.directory
    remove = [lambda: shutil.rmtree(directory.path), directory.take_again, lambda: None]
    assert stopping.stop(*remove, stopping.end) == (1, "", f"zwoole: {KILLED}\n")


def test_another_server_in_the_same_place_is_not_waited_for(stopping: Stopping) -> None:
    path = stopping.directory.path
    others: list[run_directory.RunDirectory] = []
    exchange = [lambda: shutil.rmtree(path), lambda: others.append(run_directory.RunDirectory(path))]
    assert stopping.stop(*exchange, lambda: stopping.ends(0)) == STOPPED
    others[0].remove()


def test_an_end_that_nothing_tells_of_is_not_called_a_failure(stopping: Stopping) -> None:
    """The directory is created again and removed again between two checks of the command."""

    def vanishes() -> None:
        shutil.rmtree(stopping.directory.path)
        stopping.directory.take_again()
        stopping.ends(0)

    assert stopping.stop(vanishes) == (1, "", f"zwoole: {UNKNOWN}\n")


@pytest.mark.parametrize("kind", ["nothing", "pipe", "folder", "link to nowhere", "socket"])
def test_a_lock_that_is_no_file_is_said(stopping: Stopping, kind: str) -> None:
    put(stopping.directory.path / LOCK, kind)
    assert stopping.stop() == (1, "", f"zwoole: {UNKNOWN}\n")


@pytest.mark.parametrize("kind", ["nothing", "pipe", "folder", "link to nowhere", "socket"])
@pytest.mark.parametrize("arguments", [["stop"], ["status"], ["connections"]])
def test_no_command_takes_a_lock_that_is_no_file_for_a_server(
    command: Command, tmp_path: Path, arguments: list[str], kind: str
) -> None:
    put(tmp_path / LOCK, kind)
    said = f"zwoole: no server is running in {tmp_path}\n"
    assert command(*arguments, "--run-dir", str(tmp_path)) == (1, "", said)


def put(path: Path, kind: str) -> None:
    """Create something that is not a file at a path."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to nowhere":
        path.symlink_to("nowhere")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.path.relpath(path))  # the whole path may be too long


def test_a_stop_that_takes_too_long_is_said(stopping: Stopping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "STOP_WAIT_S", 0.0)
    code, _, err = stopping.stop()
    assert code == 1
    assert "has not ended" in err


# Unusual outputs.


def run_in(place: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with its output redirected by a shell."""
    line = f"{shlex.join([str(ZWOOLE), *arguments])} {place}"
    return subprocess.run(
        ["bash", "-c", line], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["stop", "--help"], ["completion", "bash"]])
def test_an_output_that_cannot_be_written_is_said_in_one_line(arguments: list[str]) -> None:
    run = run_in(">/dev/full", *arguments)
    assert (run.returncode, run.stderr) == (1, "zwoole: cannot write the output: No space left on device\n")


@pytest.mark.parametrize("place", [">&-", "2>&-", ">&- 2>&-", "| head -c 0", "| true"])
@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["completion", "bash"], ["status", "--help"]])
def test_a_reader_that_has_gone_is_no_reason_for_a_traceback(arguments: list[str], place: str) -> None:
    assert run_in(place, *arguments).stderr == ""


def test_a_path_that_the_terminal_cannot_show_is_escaped(
    monkeypatch: pytest.MonkeyPatch, asked: list[tuple[Any, ...]]
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "argv", ["zwoole", "connections"])
    monkeypatch.setitem(CONNECTION, "path", "/\u00e4\udcff")
    cli.main()
    out.flush()
    assert b"\\udcff" in out.buffer.getvalue()  # type: ignore[attr-defined]


# The command line itself.


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example_that_it_takes(command: Command, name: str) -> None:
    code, out, _ = command(name, "--help")
    assert code == 0
    (example,) = re.findall(r"Example: zwoole (.*(?:\n {4}.*)*)", out)
    words = shlex.split(example.split(">")[0])
    assert words[0] == name
    found = zwoole.get_command(click.Context(zwoole), name)
    assert found is not None
    found.make_context(name, words[1:])  # raises if an argument or option does not exist


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["statsu"], "no such command 'statsu': did you mean 'status'?"),
        (["run", "app.py", "--wrokers", "2"], "Did you mean"),
        (["workers", "two"], "'two' is neither a number of workers nor a change such as +1"),
        (["workers", "1e3"], "'1e3' is neither a number of workers nor a change such as +1"),
        (["kick", "everybody"], "'everybody' is not the number of a connection; `zwoole connections` lists them"),
        (["push", "one", "hello"], "'one' is not the number of a connection; `zwoole connections` lists them"),
        (["push", "0", "hello"], "'0' is not the number of a connection"),
        (["push", "9" * 400, "hello"], "is not the number of a connection"),
        (["push", str((1 << 53) + 1), "hello"], "is not the number of a connection"),
        (["push", "\u0661", "hello"], "is not the number of a connection"),
        (["push", "1", "\udcff"], "the text is not valid UTF-8"),
        (["broadcast", "\udcff"], "the text is not valid UTF-8"),
        (["kick", "1", "--reason", "\udcff"], "the text is not valid UTF-8"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_a_mistake_is_answered_with_what_is_right(command: Command, arguments: list[str], words: str) -> None:
    code, _, err = command(*arguments)
    assert code == 2
    assert words in err


def test_version_as_json(command: Command) -> None:
    found = json.loads(command("version", "--json")[1])
    assert (found["version"], found["compiled"]) == (VERSION, COMPILED)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(command: Command, shell: str) -> None:
    code, out, _ = command("completion", shell)
    assert code == 0
    assert "_ZWOOLE_COMPLETE" in out


def test_a_shell_is_told_the_commands() -> None:
    environment = {**os.environ, "_ZWOOLE_COMPLETE": "bash_complete", "COMP_WORDS": "zwoole st", "COMP_CWORD": "1"}
    run = subprocess.run([ZWOOLE], env=environment, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["plain,status", "plain,stop"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("zwoole run ec", ["file,ec"]),
        ("zwoole run app.py da", ["file,da"]),
        ("zwoole run --pid-file x", ["file,x"]),
        ("zwoole status --run-dir x", ["dir,x"]),
        ("zwoole run --set access", ["plain,access_log="]),
        ("zwoole run --set access_log=t", ["plain,access_log=true"]),
        ("zwoole run --set log_format=", ["plain,log_format=text", "plain,log_format=json"]),
        ("zwoole run --set port=8", []),
        ("zwoole run --set nonsense=", []),
        ("zwoole run --log-for", ["plain,--log-format"]),
    ],
)
def test_a_shell_is_told_paths_and_settings(command: Command, line: str, answer: list[str]) -> None:
    words = line.split()
    completer = BashComplete(zwoole, {}, "zwoole", "_ZWOOLE_COMPLETE")
    found = completer.get_completions(words[1:-1], words[-1])
    assert [completer.format_completion(item) for item in found] == answer


def test_bash_puts_no_blank_behind_the_name_of_a_setting(command: Command, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(command("completion", "bash")[1])
    lines = [
        f"source {script}",
        'compopt() { echo "compopt $1 $2"; }',
        "COMP_WORDS=(zwoole run --set access) COMP_CWORD=3",
        f"_zwoole_completion {ZWOOLE}",
        'echo "${COMPREPLY[@]}"',
    ]
    run = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert (run.stdout.split("\n"), run.stderr) == (["compopt -o nospace", "access_log=", ""], "")


# The documentation of the command.


def test_the_page_has_every_command() -> None:
    table = [cells[0].strip("`").split()[1] for cells in rows(section(PAGE, "## Commands"))]
    assert table == list(COMMANDS)


def test_the_page_has_every_exit_code() -> None:
    table = [int(cells[0]) for cells in rows(section(PAGE, "## Exit codes"))]
    assert table == [EXIT_OK, EXIT_CANNOT_START, USAGE, EXIT_BOOT_FAILED, EXIT_FORCED, ORPHANED_EXIT, INTERRUPTED]


def test_the_page_has_every_option_of_run() -> None:
    found = zwoole.get_command(click.Context(zwoole), "run")
    assert found is not None
    options = {name for option in found.params for name in option.opts if name.startswith("--")}
    assert set(re.findall(r"`(--[a-z-]+)", section(PAGE, "## zwoole run"))) >= options
