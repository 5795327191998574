"""A server as a service: its manager, its files, its log, running in the background."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import Serve
from tests.process.raw_client import RawClient
from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for

APP = """
    import os
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        print("message", frame.data)
        server.push(frame.fd, " ".join(sorted(os.environ)))

    server.start()
"""


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(APP) as server:
        yield server


# The service manager.


def test_manager_is_told_and_fed(server: ServerProcess) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(server.folder / "notify"))
        manager.settimeout(15)

        def told(what: bytes) -> None:
            while not (state := manager.recv(4096)).startswith(what):
                assert state == b"WATCHDOG=1", state

        server.start({"NOTIFY_SOCKET": str(server.folder / "notify"), "WATCHDOG_USEC": "500000"})
        told(b"READY=1\nMAINPID=%d" % server.process.pid)
        assert manager.recv(4096) == manager.recv(4096) == b"WATCHDOG=1"
        server.wait_ready()
        with server.connect() as client:
            client.send("?")
            assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(str(client.recv(PATIENCE_S)).split())
        server.send_signal(signal.SIGHUP)
        told(b"RELOADING=1\nMONOTONIC_USEC=")
        told(b"READY=1")
        server.send_signal(signal.SIGTERM)
        told(b"STOPPING=1")
        assert server.wait() == 0


PASSES_A_SOCKET = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("reactors", [1, 2])
def test_socket_of_the_manager(reactors: int) -> None:
    """The port stays with the manager: a connection made while the server is down waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ServerProcess(APP, reactor_num=reactors) as server:
        server.command = [sys.executable, "-c", PASSES_A_SOCKET, str(port), *server.command]
        server.start().wait_ready()
        assert server.port == port
        assert "listening on sockets of the service manager" in server.log()
        with server.connect() as client:
            client.send("?")
            assert not {"LISTEN_FDS", "LISTEN_PID"} & set(str(client.recv(PATIENCE_S)).split())


# Files.


def test_pid_file(server: ServerProcess) -> None:
    path = server.folder / "server.pid"
    server.command += ["--pid-file", str(path)]
    server.start().wait_ready()
    assert path.read_text() == f"{server.process.pid}\n"
    with ServerProcess(APP, "--pid-file", str(path)) as second:
        second.start()
        assert second.wait() == 1
        assert f"a server is running already (pid {server.process.pid}, pid file {path})" in second.log()
    assert server.stop() == 0
    assert not path.exists()


def test_stale_pid_file(server: ServerProcess) -> None:
    """Even if its number belongs to a living process."""
    path = server.write("server.pid", f"{os.getpid()}\n")
    server.command += ["--pid-file", str(path)]
    server.start().wait_ready()
    assert f"the pid file {path} is stale: process {os.getpid()} left it behind" in server.log()
    assert path.read_text() == f"{server.process.pid}\n"


def test_log_file_is_opened_anew(server: ServerProcess) -> None:
    """All processes write to it, including the app's prints; none keeps the file that was moved away."""
    path, moved = server.folder / "server.log", server.folder / "server.log.1"
    server.command += ["--log-file", str(path)]
    server.start()
    wait_for(server.is_ready, "it to serve")
    port = int(re.search(r"listening on ws://[^:]+:(\d+)", path.read_text())[1])  # type: ignore[index]
    server.stderr.write_text(f"listening on ws://127.0.0.1:{port}")
    path.rename(moved)
    server.send_signal(signal.SIGRTMIN)
    wait_for(lambda: path.exists() and "the log file was reopened" in path.read_text(), "a new file")

    def open_files() -> set[str]:
        pids = [server.process.pid, *server.pids("master"), *server.pids("worker")]
        return {str(Path(f"/proc/{pid}/fd/{number}").readlink()) for pid in pids for number in (1, 2)}

    wait_for(lambda: open_files() == {str(path)}, "all to have opened it")
    with server.connect() as client:
        client.send("hello")
        client.recv(PATIENCE_S)
    wait_for(lambda: "message hello" in path.read_text(), "what the app prints")


def test_log_of_json_objects(serve: Serve) -> None:
    server = serve(APP, "--log-format", "json")
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert {"master 0", "supervisor"} <= {line["role"] for line in lines}
    assert any(line["message"].startswith("listening on ws://") for line in lines)


def test_access_log(serve: Serve) -> None:
    server = serve(APP, "--access-log")
    with server.connect("/path?q=1") as client:
        port = client.socket.getsockname()[1]
        client.close(4001, "enough")
    with RawClient(server.port) as plain:
        plain.send(b"GET /plain\x1b?q=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        plain.read_rest()
        plain_port = plain.socket.getsockname()[1]
    server.wait_log("close fd=1")
    log = server.wait_log("refuse ")
    (line,) = [line.partition("INFO ")[2] for line in log.splitlines() if f"127.0.0.1:{plain_port}" in line]
    assert line.startswith(f"refuse 127.0.0.1:{plain_port} status=400 '/plain\\x1b?q=1' 'malformed HTTP: ")
    assert f"INFO open fd=1 127.0.0.1:{port} /path?q=1\n" in log
    assert re.search(rf"INFO close fd=1 127\.0\.0\.1:{port} code=4001 by=client after=\d+\.\ds enough\n", log)


def test_limits_in_force_are_said(serve: Serve) -> None:
    server = serve(APP, max_connection=100)
    assert re.search(r"at most 100 connections at a time, \d+ open files \(the soft limit was \d+\)", server.log())


def test_processes_have_names(serve: Serve) -> None:
    server = serve(APP)
    pids = [server.process.pid, *server.pids("master"), *server.pids("worker")]
    names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids]
    assert names == ["zwoole", "zwoole master 0", "zwoole worker 0"]


# The background.


def test_daemon(server: ServerProcess) -> None:
    log, pid_file = server.folder / "log", server.folder / "pid"
    server.command += ["--daemon", "--log-file", str(log), "--pid-file", str(pid_file)]
    server.start()
    assert server.wait() == 0
    daemon = psutil.Process(int(pid_file.read_text()))
    try:
        said = f"zwoole: serving in the background (pid {daemon.pid}), log in {log}\n"
        assert server.log() == said
        assert server.is_ready(), "the first process ends when the server serves"
        assert os.getsid(daemon.pid) == daemon.pid
        assert Path(f"/proc/{daemon.pid}/fd/0").readlink() == Path("/dev/null")
        daemon.terminate()
        daemon.wait(PATIENCE_S)
    finally:
        for process in [*daemon.children(recursive=True), daemon] if daemon.is_running() else []:
            process.kill()
    assert "SIGTERM: stopping" in log.read_text()
    assert not server.run_dir.exists()


def test_daemon_that_cannot_start(server: ServerProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server.command += ["--daemon", "--log-file", "log", "--port", str(taken.getsockname()[1])]
        server.start()
        assert server.wait() == 1
    log = server.folder / "log"
    assert server.log() == f"zwoole: the server has not started (exit code 1); {log} says why\n"
    assert "the port is in use" in log.read_text()


def test_daemon_without_a_log_file(server: ServerProcess) -> None:
    server.command += ["--daemon"]
    server.start()
    assert server.wait() == 1
    assert server.log() == "zwoole: a daemon has no terminal to write to: give it a log_file\n"
