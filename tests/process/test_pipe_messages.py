"""Messages from one worker to another, with real workers."""

from __future__ import annotations

import os
import signal

import pytest

from tests.process.conftest import Serve
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.control_client import request

APP = """
    import os
    from zwoole import QueueFull, Server

    server = Server()

    @server.on("message")
    {kind} on_message(server, frame):
        command, _, rest = frame.data.partition(" ")
        if command == "tell":
            target, _, text = rest.partition(" ")
            try:
                server.send_message({{"text": text, "fd": frame.fd, 1: [None]}}, int(target))
            except ValueError as error:
                server.push(frame.fd, str(error))
        elif command == "fill":
            sent = 0
            try:
                while sent < 100_000:
                    server.send_message("x" * 1000, int(rest))
                    sent += 1
            except QueueFull:
                server.push(frame.fd, f"full after {{sent}}")
        else:
            server.push(frame.fd, f"{{server.worker_id}} {{os.getpid()}}")

    @server.on("pipeMessage")
    {kind} on_pipe_message(server, worker_id, message):
        if isinstance(message, dict):
            assert message[1] == [None]
            server.push(message["fd"], f"{{server.worker_id}} heard from {{worker_id}}: {{message['text']}}")

    server.start()
"""


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_message_reaches_the_other_worker_and_its_own(serve: Serve, kind: str) -> None:
    server = serve(APP.format(kind=kind), workers=2)
    with server.connect() as client:
        client.send("who")
        here = int(str(client.recv(PATIENCE_S)).split()[0])
        for target in (0, 1):
            client.send(f"tell {target} hello {target}")
            assert client.recv(PATIENCE_S) == f"{target} heard from {here}: hello {target}"
        client.send("tell 2 nobody")
        assert client.recv(PATIENCE_S) == "there is no worker 2"


def test_a_new_master_has_no_place_for_a_worker_that_was_given_up(serve: Serve) -> None:
    server = serve(APP.format(kind="def"), workers=2)
    server.workers = request(server.run_dir, "workers", by=-1)["worker_num"]
    (master,) = server.pids("master")
    os.kill(master, signal.SIGKILL)
    wait_for(lambda: server.is_ready() and server.pids("master") not in ([], [master]), "a new master")
    with server.connect() as client:
        client.send("tell 1 nobody")
        assert client.recv(PATIENCE_S) == "there is no worker 1"


def test_a_full_queue_is_told_at_once_and_empties_when_its_worker_goes_on(serve: Serve) -> None:
    server = serve(APP.format(kind="def"), workers=2, pipe_queue_bytes=65536, window_bytes=65536, up_window_bytes=65536)
    with server.connect() as client:
        client.send("who")
        here, _ = (int(part) for part in str(client.recv(PATIENCE_S)).split())
        other = server.pids("worker")[1 - here]
        os.kill(other, signal.SIGSTOP)
        try:

            def full_at_once() -> bool:
                client.send(f"fill {1 - here}")
                return client.recv(PATIENCE_S) == "full after 0"

            wait_for(full_at_once, "the queue of the stopped worker to be full")
        finally:
            os.kill(other, signal.SIGCONT)
        wait_for(lambda: not server.status()["masters"][0]["workers"][1 - here]["outstanding"], "the queue to empty")
        client.send(f"tell {1 - here} again")
        assert client.recv(PATIENCE_S) == f"{1 - here} heard from {here}: again"
