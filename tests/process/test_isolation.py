"""A worker that does not respond holds up its own clients only."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.process.conftest import Serve
from tests.process.raw_client import TEXT, RawClient
from tests.process.server_process import ServerProcess

ROUNDS = 300
APP = """
    import os
    import time
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        if frame.data == "sleep":
            while not os.path.exists("go"):
                time.sleep(0.01)
        server.push(frame.fd, str(server.worker_id))

    server.start()
"""


@contextmanager
def stopped(server: ServerProcess, worker: int, client: RawClient) -> Iterator[None]:
    """A stopped worker process."""
    os.kill(server.pids("worker")[worker], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pids("worker")[worker], signal.SIGCONT)


@contextmanager
def sleeping(server: ServerProcess, worker: int, client: RawClient) -> Iterator[None]:
    """A worker whose callback does not return."""
    client.send_frame(TEXT, b"sleep")
    try:
        yield
    finally:
        server.write("go", "")
        assert client.read_frame().payload == b"%d" % worker


@pytest.mark.parametrize("hold", [stopped, sleeping])
def test_the_other_workers_clients_are_served_as_before(serve: Serve, hold: type) -> None:
    server = serve(APP, workers=2)
    with ExitStack() as stack:
        clients = {}
        for _ in range(2):
            client = stack.enter_context(RawClient(server.port)).upgrade()
            client.send_frame(TEXT, b"who?")
            clients[int(client.read_frame().payload)] = client
        assert set(clients) == {0, 1}
        with hold(server, 0, clients[0]):
            for _ in range(5000):
                clients[0].send_frame(TEXT, b"waits")
            for _ in range(ROUNDS):
                clients[1].send_frame(TEXT, b"x" * 64)
                assert clients[1].read_frame().payload == b"1"
        for _ in range(5000):
            assert clients[0].read_frame().payload == b"0"
