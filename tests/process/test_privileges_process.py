"""A server that root starts, and that becomes another user once its port is open."""

from __future__ import annotations

import errno
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")

USER = "nobody"
APP = """
import os
from zwoole import Server

server = Server()

@server.on("message")
def on_message(server, frame):
    server.push(frame.fd, f"{os.getresuid()} {os.getresgid()} {os.getgroups()} {os.environ['HOME']}")

server.start()
"""


def python_for_user() -> str:
    """Return a Python with zwoole that the user may run; the test is skipped if there is none."""
    paths = ":".join(path for path in sys.path if path)
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run(
                [python, "-c", "import zwoole.supervisor.start.launch"],
                user=USER,
                extra_groups=[],
                env={"PYTHONPATH": paths},
                cwd="/",
                capture_output=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip(f"{USER} may run no Python that has zwoole: {sys.executable} is closed to others")


def privileged_port() -> int:
    """Return a free port that only root may open."""
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    for port in range(first - 1, 0, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            return port
    pytest.skip("every port is open to everybody")


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(APP, "--user", USER) as server:
        server.command = [python_for_user(), "-m", "zwoole", *server.command[1:]]
        os.chown(server.folder, pwd.getpwnam(USER).pw_uid, -1)
        yield server


def start(server: ServerProcess, *options: str) -> ServerProcess:
    """Start it with options."""
    server.command += list(options)
    return server.start({"PYTHONPATH": ":".join(path for path in sys.path if path)})


def owners(server: ServerProcess) -> set[tuple[int, ...]]:
    """Return the user and group ids of its processes: real, effective and saved."""
    pids = [server.process.pid, *server.pids("master"), *server.pids("worker")]
    return {(*psutil.Process(pid).uids(), *psutil.Process(pid).gids()) for pid in pids}


def test_all_processes_are_the_users_and_go_on_as_ever(server: ServerProcess) -> None:
    user = pwd.getpwnam(USER)
    port = privileged_port()
    start(server, "--port", str(port), "--pid-file", "server.pid").wait_ready()
    assert server.port == port
    assert owners(server) == {(*[user.pw_uid] * 3, *[user.pw_gid] * 3)}
    status = server.run_dir.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, user.pw_uid)
    assert {entry.stat().st_uid for entry in server.run_dir.iterdir()} == {user.pw_uid}

    seen = f"{(user.pw_uid,) * 3} {(user.pw_gid,) * 3} {[user.pw_gid]} {user.pw_dir}"
    before = server.pids("worker") + server.pids("master")
    with server.connect() as client:
        client.send("who?")
        assert client.recv(PATIENCE_S) == seen
        assert server.reload()["workers"] == 1
        client.send("and now?")
        assert client.recv(PATIENCE_S) == seen
        wait_for(lambda: len(server.pids("worker")) == 1, "the end of the worker that was replaced")
        before += server.pids("worker")
        os.kill(before[-1], signal.SIGKILL)
        wait_for(lambda: server.is_ready() and server.pids("worker")[0] not in before, "another worker")
        client.send("and after a death?")
        assert client.recv(PATIENCE_S) == seen
    os.kill(server.pids("master")[0], signal.SIGKILL)  # only root can open the port, and it is still open
    wait_for(lambda: server.is_ready() and server.pids("master")[0] not in before, "another master")
    assert owners(server) == {(*[user.pw_uid] * 3, *[user.pw_gid] * 3)}
    with server.connect() as client:
        client.send("and after the master's?")
        assert client.recv(PATIENCE_S) == seen
    assert server.stop() == 0
    assert not (server.folder / "server.pid").exists()


def test_a_log_file_that_the_user_may_not_open_anew_is_kept(server: ServerProcess) -> None:
    """As when root moves it in /var/log. In a folder of the user's, it is opened."""
    folder = server.folder / "log"
    folder.mkdir(mode=0o755)
    path, moved = folder / "server.log", folder / "server.log.1"
    start(server, "--log-file", str(path), "--pid-file", str(folder / "server.pid"))
    wait_for(server.is_ready, "it to serve")
    path.rename(moved)
    server.send_signal(signal.SIGRTMIN)
    said = f"cannot reopen the log file {path}, the old one is kept: Permission denied"
    wait_for(lambda: said in moved.read_text(), "the log to say so")
    assert server.is_ready()
    assert not path.exists()
    os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
    server.send_signal(signal.SIGRTMIN)
    wait_for(lambda: path.exists() and "the log file was reopened" in path.read_text(), "a new file")
    os.chown(folder, 0, -1)
    assert server.stop() == 0
    assert (folder / "server.pid").read_text() == "", "what the user may not remove is emptied"


def test_a_python_that_is_closed_to_the_user(server: ServerProcess) -> None:
    closed = server.folder / "closed"
    closed.mkdir(mode=0o700)
    python = closed / "python"
    python.symlink_to(sys.executable)
    server.command = [str(python), *server.command[1:]]
    start(server)
    assert server.wait() == 1
    assert server.log() == f"zwoole: user '{USER}' may not run {python}: open its folders to that user\n"
