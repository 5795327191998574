"""The output of a server: to a stdout and stderr that accept nothing, with apps that configure logging, and with
hostile clients.
"""

from __future__ import annotations

import fcntl
import io
import itertools
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from websockets.sync.client import connect

from tests.process.conftest import Serve
from tests.process.server_process import ZWOOLE, ServerProcess, free_ports
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.shared.process.printable import UNPRINTABLE
from zwoole.testing import Serving

PIPE_BYTES = 4096

CHATTY = """
    import faulthandler, logging, os, time
    from zwoole import Server

    server = Server()

    @server.on("worker_start")
    {0} on_worker_start(server, worker_id):
        print("x" * 100_000)

    @server.on("message")
    {0} on_message(server, frame):
        if frame.data == "hang":
            time.sleep(1000)
        for _ in range(200):
            print("a line that nobody reads")
            logging.warning("another")
        server.push(frame.fd, str(os.getpid()))

    server.start()
"""


class Unread(ServerProcess):
    """A server whose stdout and stderr are a descriptor of the test."""

    descriptor = -1

    def launch(
        self, cwd: Path | None = None, environment: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
    ) -> None:
        self.process = subprocess.Popen(
            self.command,
            stdin=stdin,
            stdout=self.descriptor,
            stderr=self.descriptor,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )

    @property
    def port(self) -> int:
        """The port, which no log tells."""
        return Serving.port.fget(self)  # type: ignore[attr-defined, no-any-return]


@contextmanager
def pipe_that_nobody_reads() -> Iterator[tuple[int, Callable[[], None]]]:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    try:
        yield write_end, lambda: None
    finally:
        os.close(read_end)
        os.close(write_end)


@contextmanager
def pipe_that_is_closed() -> Iterator[tuple[int, Callable[[], None]]]:
    read_end, write_end = os.pipe()
    with io.FileIO(read_end) as reader:
        try:
            yield write_end, reader.close
        finally:
            os.close(write_end)


@contextmanager
def terminal_that_hangs_up() -> Iterator[tuple[int, Callable[[], None]]]:
    controller, terminal = pty.openpty()
    with io.FileIO(controller) as reader:
        try:
            yield terminal, reader.close
        finally:
            os.close(terminal)


@contextmanager
def terminal_that_is_stopped() -> Iterator[tuple[int, Callable[[], None]]]:
    """Stopped by Ctrl+S, or because nobody reads it."""
    controller, terminal = pty.openpty()
    try:
        yield terminal, lambda: None
    finally:
        os.close(controller)
        os.close(terminal)


@contextmanager
def full_disk() -> Iterator[tuple[int, Callable[[], None]]]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        yield descriptor, lambda: None
    finally:
        os.close(descriptor)


PLACES = {
    "pipe that nobody reads": pipe_that_nobody_reads,
    "pipe that is closed": pipe_that_is_closed,
    "terminal that hangs up": terminal_that_hangs_up,
    "terminal that is stopped": terminal_that_is_stopped,
    "full disk": full_disk,
}


def lost(server: ServerProcess) -> int:
    """Return how many lines the workers could not write."""
    return int(server.report()["stats"]["total"]["log_lines_lost"])


@pytest.mark.parametrize(
    ("place", "kind"),
    [*((place, "def") for place in PLACES), ("pipe that nobody reads", "async def")],
)
def test_output_that_nobody_takes_costs_the_lines_and_nothing_else(place: str, kind: str) -> None:
    """Callbacks continue, a dead worker is replaced, commands and signals work."""
    with PLACES[place]() as (descriptor, spoil), Unread(CHATTY.format(kind), "--access-log") as server:
        server.descriptor = descriptor
        server.start()
        server.wait_ready()
        spoil()
        with server.connect() as client:

            def answer() -> str:
                client.send("?")
                return str(client.recv(PATIENCE_S))

            pid = int(answer())
            wait_for(lambda: int(answer()) == pid and lost(server) > 0, "lines to be lost")
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: server.pids("worker") not in ([], [pid]), "a new worker")
            server.wait_ready()
            assert int(answer()) != pid
        assert subprocess.run([ZWOOLE, "status", "--run-dir", server.run_dir], capture_output=True).returncode == 0
        assert server.stop() == 0


def test_zwoole_stop_works_where_nobody_reads() -> None:
    with pipe_that_nobody_reads() as (descriptor, _), Unread(CHATTY.format("def")) as server:
        server.descriptor = descriptor
        server.start().wait_ready()
        server.family()
        assert subprocess.run([ZWOOLE, "stop", "--run-dir", server.run_dir], capture_output=True).returncode == 0
        assert server.wait() == 0
        server.assert_nothing_left()


def test_stacks_that_nobody_reads_hold_up_no_end() -> None:
    """A worker that hangs is ended by SIGABRT, whose handler writes its stacks."""
    with pipe_that_nobody_reads() as (descriptor, _), Unread(CHATTY.format("def"), worker_timeout=3) as server:
        server.descriptor = descriptor
        server.start().wait_ready()
        with server.connect() as client:
            client.send("hang")
            wait_for(lambda: server.report()["stats"]["total"]["restarts"], "the end of the worker that hangs")
        assert server.report()["stats"]["total"]["restarts"] == {"SIGABRT": 1}
        server.wait_ready()
        assert server.stop() == 0


def test_the_log_says_how_many_lines_were_lost() -> None:
    """And it continues when somebody reads again."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with Unread(CHATTY.format("def")) as server, io.FileIO(read_end) as reader:
        server.descriptor = write_end
        server.start()
        os.close(write_end)
        server.wait_ready()
        with server.connect() as client:

            def spoke() -> bool:
                client.send("?")
                client.recv(PATIENCE_S)
                return lost(server) > 0

            wait_for(spoke, "lines to be lost")
            told = b""
            os.set_blocking(read_end, False)

            def heard() -> re.Match[bytes] | None:
                nonlocal told
                told += reader.read() or b""
                client.send("?")
                client.recv(PATIENCE_S)
                return re.search(
                    rb"another \(and \d+ lines before it were lost: they could not be written in time", told
                )

            wait_for(heard, "the line that tells of it")
        server.send_signal(signal.SIGTERM)
        os.set_blocking(read_end, True)
        assert b"stopping" in reader.readall()
        assert server.wait() == 0


# The end of a process.

DIES = """
    import asyncio, logging, os, signal, sys
    from zwoole import Server

    server = Server()

    @server.on("message")
    {0} on_message(server, frame):
        print("printed before the end")
        logging.info("logged before the end")
        {1}

    server.start()
"""
ENDS = {
    "os._exit": ("os._exit(9)", "exited with code 9"),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "SIGSEGV": ("os.kill(os.getpid(), signal.SIGSEGV)", "Fatal Python error: Segmentation fault"),
    "abort": ("os.abort()", "Fatal Python error: Aborted"),
    "sys.exit": ("sys.exit(5)", "the 'message' callback raised SystemExit for fd 1: this worker will be replaced"),
}


@pytest.mark.parametrize(("statement", "told"), ENDS.values(), ids=ENDS)
def test_what_was_written_before_a_worker_ended_is_there(serve: Serve, statement: str, told: str) -> None:
    server = serve(DIES.format("def", statement))
    with server.connect() as client:
        client.send("?")
        server.wait_log(told)
    server.wait_line("printed before the end")
    assert "logged before the end" in server.log()


def test_a_forked_child_writes_too(serve: Serve) -> None:
    fork = "if os.fork() == 0: print('printed by the child'); logging.info('logged by the child'); os._exit(0)"
    server = serve(DIES.format("def", fork))
    with server.connect() as client:
        client.send("?")
        server.wait_log("logged by the child")
        server.wait_line("printed by the child")


SPEAKS_IN_THE_SUPERVISOR = """
    import logging, os
    from zwoole import Server

    server = Server()
    server.on("message", lambda server, frame: None)

    @server.on("start")
    def on_start(server):
        print("start")
        if os.fork() == 0:
            print("child")
            os._exit(0)

    @server.on("shutdown")
    def on_shutdown(server):
        for number in range(1000):
            print("shutdown", number)
            logging.getLogger("myapp").info("logged %d", number)

    server.start()
    print("after")
"""


def test_what_the_supervisor_wrote_before_it_ended_is_there(serve: Serve) -> None:
    """Although a thread writes it."""
    server = serve(SPEAKS_IN_THE_SUPERVISOR)
    server.wait_line("start")
    server.wait_line("child")
    assert server.stop() == 0
    last = [f"shutdown {number}" for number in range(1000)]
    assert sorted(server.lines()[:2]) == ["child", "start"]
    assert server.lines()[2:] == [*last, "after"]
    assert re.findall(r" supervisor\] INFO logged (\d+)\n", server.log()) == list(map(str, range(1000)))


FAILS_TO_BOOT = """
    import sys
    from zwoole import Server

    server = Server()
    server.on("message", lambda server, frame: None)

    @server.on("worker_start")
    def on_worker_start(server, worker_id):
        print("printed before the failure")
        raise ValueError("cannot start")

    server.start()
"""


def test_why_a_worker_does_not_boot_is_there() -> None:
    with ServerProcess(FAILS_TO_BOOT) as server:
        server.start()
        assert server.wait() == 3
        lines = [re.sub(r"^\[[^\]]*\] ", "", line) for line in server.log().splitlines()]
        at = lines.index("ERROR worker_start failed: this worker cannot serve")
        trace = list(itertools.takewhile(lambda line: line.startswith("    "), lines[at + 1 :]))
        assert trace[0] == "    Traceback (most recent call last):"
        assert trace[-1] == "    ValueError: cannot start"
        assert "giving up after 3 tries" in lines[-1]
        assert server.lines() == 3 * ["printed before the failure"]


def json_lines(text: str) -> list[dict[str, Any]]:
    """Return the records of a log in which every line is one; the last line may be a command's answer."""
    return [json.loads(line) for line in text.splitlines() if not line.startswith("zwoole: ")]


FAILS_LATER = """
    import os
    from zwoole import Server

    if "start" in os.sys.argv[1:] and os.getpid() != int(os.environ.setdefault("FIRST", str(os.getpid()))):
        raise ValueError("cannot import")
    server = Server()
    server.on("message", lambda server, frame: None)
    server.start()
    raise ValueError("cannot go on")
"""
BOOT_FAILURES = {
    "worker_start": (FAILS_TO_BOOT, [], "worker_start failed: this worker cannot serve", "cannot start"),
    "worker": (FAILS_LATER, ["start"], "the app failed before it reached start()", "cannot import"),
    "first process": ('raise ValueError("cannot run")', [], "failed before it reached start()", "cannot run"),
}


@pytest.mark.parametrize(("source", "arguments", "said", "raised"), BOOT_FAILURES.values(), ids=BOOT_FAILURES)
def test_a_traceback_is_a_part_of_its_json_record(source: str, arguments: list[str], said: str, raised: str) -> None:
    with ServerProcess(source, "--log-format", "json") as server:
        server.command = [*server.command, *arguments]
        server.start()
        assert server.wait() in (1, 3)
        records = json_lines(server.log())
    failures = [record for record in records if record["message"].endswith(said)]
    assert failures
    for record in failures:
        assert record["exception"].startswith("Traceback (most recent call last):\n")
        assert f'File "{server.app}"' in record["exception"]
        assert record["exception"].endswith(f"ValueError: {raised}")
        assert "/zwoole/" not in record["exception"].replace(str(server.app), "")


def test_a_traceback_of_what_follows_the_servers_end_is_a_part_of_its_json_record() -> None:
    with ServerProcess(FAILS_LATER.replace("server = Server()", "server = Server(log_format='json')")) as server:
        server.start()
        server.wait_log("listening on ")
        server.wait_ready()
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 1
        records = json_lines(server.log())
    (record,) = [record for record in records if record["message"].endswith("failed after start() had returned")]
    assert record["exception"].endswith("ValueError: cannot go on")


def test_a_traceback_of_a_forked_process_is_a_json_record() -> None:
    source = """
        import os
        from zwoole import Server

        server = Server()
        server.on("message", lambda server, frame: None)

        @server.on("worker_start")
        def on_worker_start(server, worker_id):
            if not os.fork():
                raise ValueError("in the child")

        server.start()
    """
    with ServerProcess(source, "--log-format", "json") as server:
        server.serve()
        server.wait_log("in the child")
        server.stop()
        records = json_lines(server.log())
    (record,) = [record for record in records if record["message"] == "a process that the app has forked failed"]
    assert record["exception"].endswith("ValueError: in the child")


# Standard descriptors that are closed.

PLAIN = """
    import os, sys
    from zwoole import Server

    server = Server("127.0.0.1", {port}, reactor_num=2, worker_num=2)
    kept = [open(os.devnull) for _ in range(4)]

    @server.on("message")
    def on_message(server, frame):
        print("printed", file=sys.stdout)
        print("printed", file=sys.stderr)
        server.push(frame.fd, " ".join(os.readlink("/proc/self/fd/%d" % number) for number in (0, 1, 2)))

    server.start()
"""


@pytest.mark.parametrize("how", ["zwoole run", "python app.py", "--daemon"])
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_standard_descriptors_that_are_closed(closed: tuple[int, ...], how: str) -> None:
    """They are /dev/null in all processes, and none of zwoole's own files."""
    (port,) = free_ports(1)
    with ExitStack() as stack:
        server = stack.enter_context(Unread(PLAIN.format(port=port), workers=2, reactor_num=2))
        server.run_dir = server.folder / "run"
        command = [str(ZWOOLE), "run", "app.py", "--run-dir", str(server.run_dir), "--pid-file", "pid"]
        if how == "python app.py":
            command = [sys.executable, "app.py"]
            server.run_dir = server.folder / f"zwoole-{os.getuid()}" / f"port-{port}"
        elif how == "--daemon":
            command += ["--daemon", "--log-file", "log"]
        shut = " ".join(f"{number}>&-" for number in closed)
        server.command = ["sh", "-c", f'exec "$@" {shut}', "sh", *command]
        server.descriptor = os.open(server.folder / "out", os.O_WRONLY | os.O_CREAT)
        stack.callback(os.close, server.descriptor)
        server.start()
        if how == "--daemon":
            assert server.wait() == 0
            daemon = psutil.Process(int((server.folder / "pid").read_text()))
            stack.callback(kill_what_is_left, daemon)
        else:
            daemon = psutil.Process(server.process.pid)
        if how == "python app.py":
            server.run_dir = wait_for(lambda: run_dir_below(server.folder), "a run directory")
        server.wait_ready()
        expected = {number: os.devnull if number in closed else None for number in (0, 1, 2)}
        if how == "--daemon":
            expected[1] = expected[2] = str(server.folder / "log")
        for process in [daemon, *daemon.children()]:
            for number, path in expected.items():
                found = str(Path(f"/proc/{process.pid}/fd/{number}").readlink())
                assert found == path or (path is None and not found.startswith("socket:")), (process, number, found)
        with connect(f"ws://127.0.0.1:{port}/") as client:
            client.send("?")
            client.recv(PATIENCE_S)
        pids = [daemon, *daemon.children(recursive=True)]
        daemon.terminate()
        if how == "--daemon":
            psutil.wait_procs(pids, 30)
            assert "SIGTERM: stopping" in (server.folder / "log").read_text()
        else:
            assert server.wait() == 0


def kill_what_is_left(daemon: psutil.Process) -> None:
    for process in [*daemon.children(recursive=True), daemon] if daemon.is_running() else []:
        process.kill()


def run_dir_below(folder: Path) -> Path | None:
    """Return the run directory that a server has chosen itself."""
    return next((path.parent for path in folder.glob("zwoole-*/*/plan*")), None)


@pytest.mark.parametrize(
    ("options", "code"), [(["app.py", "--daemon", "--log-file", "log"], 0), (["ends.py"], 3), (["none.py"], 1)]
)
def test_a_pipe_that_is_closed_changes_no_exit_code(options: list[str], code: int) -> None:
    """For a command that writes one line there."""
    with pipe_that_is_closed() as (descriptor, spoil), Unread(CHATTY.format("def")) as server:
        server.write("ends.py", "")
        server.command = [str(ZWOOLE), "run", *options, "--port", "0", "--pid-file", "pid"]
        server.descriptor = descriptor
        spoil()
        server.start()
        try:
            assert server.wait() == code
        finally:
            pid_file = server.folder / "pid"
            if code == 0:
                daemon = psutil.Process(int(pid_file.read_text()))
                daemon.terminate()
                psutil.wait_procs([daemon], 30)
                kill_what_is_left(daemon)


# Apps that configure logging.

CONFIGURES = """
    import logging, logging.config
    from zwoole import Server

    server = Server()
    {0}

    @server.on("message")
    def on_message(server, frame):
        raise ValueError("mine")

    server.start()
"""
CONFIGURATIONS = {
    "dictConfig": 'logging.config.dictConfig({"version": 1})',
    "disable": "logging.disable(logging.CRITICAL)",
    "basicConfig": "logging.basicConfig(force=True, level='CRITICAL')",
    "shutdown": "logging.shutdown()",
}


@pytest.mark.parametrize("statement", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_zwoole_logs_whatever_the_app_configures(serve: Serve, statement: str) -> None:
    server = serve(CONFIGURES.format(statement))
    with server.connect() as client:
        client.send("?")
        log = server.wait_log("the 'message' callback failed for fd 1, which is closed with 1011")
        log = server.wait_log("ValueError: mine")
    os.kill(server.pids("worker")[0], signal.SIGKILL)
    server.wait_log("was ended by SIGKILL")
    assert re.search(r"supervisor\] INFO listening on", log)


LOGS = """
    import asyncio, logging, warnings
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        logging.info("by the root")
        logging.getLogger("myapp").info("by a logger")
        logging.getLogger("asyncio").error("by a library")
        logging.getLogger("myapp").debug("too much")
        warnings.warn("mind the gap")

    @server.on("start")
    def on_start(server):
        logging.getLogger("myapp").info("by the supervisor")

    server.start()
"""


def test_records_of_the_app_look_like_ours(serve: Serve) -> None:
    server = serve(LOGS)
    (pid,) = server.pids("worker")
    with server.connect() as client:
        client.send("?")
        log = server.wait_log("mind the gap")
    head = rf"\n\[\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d {pid} worker 0\] "
    for line in (
        "INFO by the root",
        "INFO by a logger",
        "ERROR by a library",
        r"WARNING .*/app\.py:\d+: UserWarning: mind the gap",
    ):
        assert re.search(f"{head}{line}\n", log)
    assert re.search(r" supervisor\] INFO by the supervisor\n", log)
    assert "too much" not in log


def test_records_of_the_app_are_json_objects_too(serve: Serve) -> None:
    server = serve(LOGS, "--log-format", "json")
    with server.connect() as client:
        client.send("?")
        server.wait_log("mind the gap")
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert ("worker 0", "myapp", "by a logger") in {(line["role"], line["part"], line["message"]) for line in lines}


# Clients that send control characters.

HOSTILE = "\n[2026-01-01 00:00:00 1 master 0] INFO forged\r\x1b[2J\0\x7f\x9b31m\u2028\u2029\u202e[red]"


def test_nothing_of_a_client_commands_a_terminal_or_forges_a_line(serve: Serve) -> None:
    server = serve(CONFIGURES.format(""), "--access-log")
    path = "/" + quote(HOSTILE)
    with server.connect(path) as client:
        listed = subprocess.run(
            [ZWOOLE, "connections", "--run-dir", server.run_dir], capture_output=True, text=True, check=True
        ).stdout
        as_json = subprocess.run(
            [ZWOOLE, "connections", "--json", "--run-dir", server.run_dir], capture_output=True, text=True, check=True
        ).stdout
        client.close(4001, HOSTILE)
    log = server.wait_log("close fd=1")
    for text in (listed, log):
        assert not [line for line in text.split("\n") if UNPRINTABLE.search(line)]
        assert not re.search(r"^\[2026-01-01 00:00:00 1 ", text, re.MULTILINE)
    assert listed.count("\n") == 2
    assert r"/\n[2026-01-01 00:00:00 1 master 0] INFO forged\r\x1b[2J\x00\x7f\x9b31m\u2028\u2029\u202e[red]" in listed
    assert re.search(r"close fd=1 .* \\n\[2026-01-01 .* forged\\r\\x1b\[2J\\x00\\x7f\\x9b31m\\u2028\\u2029\\u202e", log)
    assert json.loads(as_json)["connections"][0]["path"] == "/" + HOSTILE
    assert not UNPRINTABLE.search(as_json.rstrip("\n"))


def test_bytes_above_ascii_in_a_request_line_do_not_reach_the_log(serve: Serve) -> None:
    """An HTTP client may send them unescaped."""
    server = serve(CONFIGURES.format(""), "--access-log")
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        head = (
            b"GET /\x9b31m\xc2\x85 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        raw.sendall(head)
        raw.recv(4096)
    wait_for(lambda: server.report()["masters"][0]["refused"] or "close fd=1" in server.log(), "the end of it")
    assert not [line for line in server.log().split("\n") if UNPRINTABLE.search(line)]
