"""Reload, recycling, and more or fewer workers: connections stay, nothing is lost, new code serves."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.process.conftest import Serve
from tests.process.server_process import ZWOOLE, ServerProcess
from tests.process.waiting import wait_for
from zwoole import control_client

APP = """
import os
from zwoole import Server

server = Server()
VERSION = 1

@server.on("open")
def on_open(server, request):
    server.set_state(request.fd, {"opened by": os.getpid()})

@server.on("adopt")
def on_adopt(server, request):
    server.push(request.fd, f"adopted from {request.state['opened by']}")

@server.on("message")
def on_message(server, frame):
    server.push(frame.fd, f"{VERSION} {os.getpid()} {frame.data}")

server.start()
"""

HANDLER = """
from zwoole import Server

server = Server()

@server.handler("/")
async def echo(ws):
    async for message in ws:
        await ws.send(message)

server.start()
"""


def reload(server: ServerProcess) -> subprocess.CompletedProcess[str]:
    """Run `zwoole reload`."""
    command = [str(ZWOOLE), "reload", "--run-dir", str(server.run_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_new_code_serves_the_old_connections(serve: Serve) -> None:
    server = serve(APP)
    (before,) = server.pids("worker")
    with server.connect() as client:
        client.send("a")
        assert client.recv(10) == f"1 {before} a"
        app = Path(server.app)
        app.write_text(app.read_text().replace("VERSION = 1", "VERSION = 2"))
        assert reload(server).returncode == 0
        assert client.recv(10) == f"adopted from {before}", "before any message, with the state that was kept"
        (after,) = wait_for(lambda: [pid for pid in server.pids("worker") if pid != before], "the new worker")
        client.send("b")
        assert client.recv(10) == f"2 {after} b"


def test_code_that_does_not_boot_leaves_the_old_in_service(serve: Serve) -> None:
    server = serve(APP)
    (before,) = server.pids("worker")
    with server.connect() as client:
        app = Path(server.app)
        app.write_text("import no_such_module\n" + app.read_text())
        failed = reload(server)
        assert failed.returncode == 1
        assert "reload failed, the old workers stay in service" in failed.stderr
        assert "no_such_module" in server.log()
        client.send("a")
        assert client.recv(10) == f"1 {before} a"


def test_many_reloads_under_load_lose_nothing(serve: Serve) -> None:
    server = serve(APP.replace('@server.on("adopt")\n', ""), workers=2)
    with server.connect() as client:
        for number in range(20):
            server.process.send_signal(signal.SIGHUP)
            for part in range(50):
                client.send(f"{number}.{part}")
            for part in range(50):
                assert str(client.recv(10)).endswith(f" {number}.{part}")


def test_handlers_stay_with_their_worker_and_are_closed_with_1012_in_time(serve: Serve) -> None:
    server = serve(HANDLER, handover_timeout=1.0)
    with server.connect() as client:
        assert reload(server).returncode == 0
        client.send("still here")
        assert client.recv(10) == "still here"
        wait_for(lambda: client.close_code == 1012, "the end of the old worker's connections")


@pytest.mark.parametrize("setting", [{"max_request": 20}, {"max_age": 1.0}, {"max_memory": 1}], ids=str)
def test_a_worker_is_recycled_and_its_connections_stay(serve: Serve, setting: dict[str, float]) -> None:
    server = serve(APP, **setting)
    (first,) = server.pids("worker")
    with server.connect() as client:

        def answered_by_another() -> bool:
            client.send("who?")
            return f"1 {first} who?" != client.recv(10)

        wait_for(answered_by_another, "a successor")
    assert "worker 0 is replaced: it " in server.log()


def test_term_recycles_a_worker(serve: Serve) -> None:
    server = serve(APP)
    (first,) = server.pids("worker")
    with server.connect() as client:
        client.send("a")
        assert client.recv(10) == f"1 {first} a"
        os.kill(first, signal.SIGTERM)
        assert client.recv(10) == f"adopted from {first}"
    assert "worker 0 is replaced: it was sent SIGTERM" in server.log()


def test_workers_are_added_and_given_up(serve: Serve) -> None:
    server = serve(APP)
    assert control_client.request(server.run_dir, "workers", by=1) == {"worker_num": 2}
    wait_for(lambda: len(server.pids("worker")) == 2, "a second worker")
    wait_for(lambda: all(process["ready"] for process in server.status()["processes"]), "it to be ready")
    first, second = server.pids("worker")
    with server.connect() as one, server.connect() as two:
        one.send("a")
        two.send("b")
        answers = {str(one.recv(10)).split()[1], str(two.recv(10)).split()[1]}
        assert answers == {str(first), str(second)}
        server.process.send_signal(signal.SIGTTOU)
        wait_for(lambda: server.pids("worker") == [first], "one worker again")
        for client in (one, two):
            client.send("c")
            wait_for(lambda client=client: str(client.recv(10)) == f"1 {first} c", "an answer of the one that is left")
