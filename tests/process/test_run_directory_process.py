"""A run directory that somebody removes: it is created anew, and running processes continue."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection

from tests.process.conftest import Serve
from tests.process.server_process import ServerProcess
from tests.process.test_full_disk import APP, assert_in_order, process
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.shared.errors import ZwooleError

# A booting worker waits for permission to continue if the file "wait" exists.
SLOW = """
    import os
    import time
    from zwoole import Server

    if os.path.exists("wait"):
        print("booting", flush=True)
        while os.path.exists("wait"):
            time.sleep(0.01)
    server = Server()

    @server.on("message")
    def on_message(server, frame):
        server.push(frame.fd, str(os.getpid()))

    server.start()
"""


def who_serves(client: ClientConnection) -> str:
    """Return what the answering worker says."""
    client.send("who are you?")
    return str(client.recv(PATIENCE_S))


def remove(run_dir: Path, name: str) -> None:
    if name == "everything":
        shutil.rmtree(run_dir)
    elif name == "the files":
        for path in run_dir.iterdir():
            path.unlink()
    else:
        (run_dir / name).unlink()


@pytest.mark.parametrize("name", ["everything", "the files", "lock", "plan", "control"])
def test_what_is_removed_is_made_anew_and_nobody_notices(serve: Serve, name: str) -> None:
    server = serve(APP, workers=2)
    with server.connect() as client:
        pid = who_serves(client)
        remove(server.run_dir, name)
        server.wait_log("was removed, and was made again")
        assert server.run_dir.stat().st_mode & 0o777 == 0o700
        assert len(server.status()["processes"]) == 3
        assert who_serves(client) == pid
        server.reload()
        wait_for(lambda: who_serves(client) != pid, "a new worker to answer")
    killed = process(server, "worker")["pid"]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: process(server, "worker")["pid"] != killed, "another worker")
    killed = process(server, "master")["pid"]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: process(server, "master")["pid"] != killed, "another master")
    server.wait_ready()
    with server.connect() as client:
        assert who_serves(client)
    wait_for(lambda: len(server.status()["stats"]["workers"]) == 2, "what both workers count")
    assert server.stop() == 0
    assert not server.run_dir.exists()
    assert_in_order(server)
    assert server.log().count("was made again") == 1


@pytest.mark.parametrize("what", ["worker", "master", "HUP"])
def test_a_death_or_a_reload_at_the_same_moment_makes_it_anew_too(serve: Serve, what: str) -> None:
    """The supervisor needs the directory before it learns of the removal."""
    server = serve(APP, workers=2)
    before = process(server, what)["pid"] if what != "HUP" else process(server, "worker")["pid"]
    os.kill(server.process.pid, signal.SIGSTOP)
    remove(server.run_dir, "everything")
    os.kill(*(server.process.pid, signal.SIGHUP) if what == "HUP" else (before, signal.SIGKILL))
    os.kill(server.process.pid, signal.SIGCONT)
    server.wait_log("was removed, and was made again")
    role = "master" if what == "master" else "worker"
    wait_for(lambda: process(server, role)["pid"] != before, f"another {role}")
    server.wait_ready()
    assert server.stop() == 0
    assert_in_order(server)


def test_what_cannot_be_made_anew_is_said_once_and_what_runs_goes_on(serve: Serve) -> None:
    server = serve(APP, workers=2)
    pid = process(server, "worker", 1)["pid"]
    with server.connect() as client:
        remove(server.run_dir, "everything")
        server.run_dir.write_text("in the way")
        server.wait_log("no process can be started and no command works, what runs goes on: the directory of ")
        os.kill(pid, signal.SIGKILL)
        server.wait_log(f"worker 1 (pid {pid}) was ended by SIGKILL")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("reload failed, the old workers stay in service: the directory of ")
        assert who_serves(client)
        assert server.log().count("no process can be started and no command works") == 1
        server.run_dir.unlink()
        server.wait_log("was made again")
        server.wait_ready()
        assert who_serves(client)
    assert server.stop() == 0
    assert_in_order(server)


def test_a_server_without_its_directory_stops_gracefully(serve: Serve) -> None:
    server = serve(APP)
    server.family()
    remove(server.run_dir, "everything")
    server.run_dir.write_text("not the server's")
    server.wait_log("no process can be started and no command works")
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert server.run_dir.read_text() == "not the server's"
    server.run_dir.unlink()
    assert_in_order(server)


@pytest.mark.parametrize("names", ["*", "w*.m*", "*.progress"])
def test_a_worker_that_boots_meanwhile_is_replaced(serve: Serve, names: str) -> None:
    server = serve(SLOW)
    serving = process(server, "worker")["pid"]
    server.write("wait", "")
    server.process.send_signal(signal.SIGHUP)
    server.wait_line("booting")
    wait_for(lambda: len(list(server.run_dir.glob("*.progress"))) == 2, "the endpoint of the worker that boots")
    for path in server.run_dir.glob(names):
        path.unlink()
    if names == "*":
        server.wait_log("was made again")
    server.wait_log("): its files were removed from the run directory")
    server.wait_log("reload failed, the old workers stay in service")
    assert process(server, "worker")["pid"] == serving
    (server.folder / "wait").unlink()
    server.reload()
    assert process(server, "worker")["pid"] != serving
    assert server.stop() == 0
    assert_in_order(server)


@pytest.mark.parametrize("command", ["zwoole run", "python"])
def test_a_start_in_a_folder_that_was_removed_is_one_line(command: str) -> None:
    with ServerProcess(APP) as server:
        run = server.command if command == "zwoole run" else [sys.executable, str(server.app)]
        server.command = ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh", *run]
        server.start()
        assert server.wait() == 1
        (line,) = server.log().splitlines()
        assert line.startswith("zwoole: ")
        assert line.endswith(
            "the current folder no longer exists (No such file or directory): start in one that exists"
        )


def test_a_folder_that_is_removed_later_fails_the_reload_in_one_line() -> None:
    with ServerProcess(APP) as server:
        (server.folder / "here").mkdir()
        server.command = ["sh", "-c", 'cd here && exec "$@"', "sh", *server.command]
        server.serve()
        (server.folder / "here").rmdir()
        with pytest.raises(ZwooleError, match="reload failed"):
            server.reload()
        assert "cannot enter the folder " in server.log()
        assert server.is_ready()
        assert server.stop() == 0
        assert_in_order(server)
