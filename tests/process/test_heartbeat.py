"""Clients that die silently, and pauses that must not close any connection: with real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from websockets.sync.client import ClientConnection

from tests.process.conftest import Serve
from tests.process.raw_client import CLOSE, PING, PONG, TEXT, RawClient, ServerFrame
from tests.process.server_process import ServerProcess
from tests.process.waiting import wait_for

APP = """
    import os
    import time
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        if frame.data == "sleep":
            while not os.path.exists("wake"):
                time.sleep(0.01)
        if frame.data == "ping me":
            print("ping", server.ping(frame.fd, "are you there?"), server.ping(frame.fd + 1000))
        server.push(frame.fd, frame.data)

    @server.on("close")
    def on_close(server, fd, code, reason, initiator):
        print("closed", fd, code, reason, initiator)

    server.start()
"""
CLIENT = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], open_timeout=60) as connection:
    print("connected", flush=True)
    for message in connection:
        pass
"""
INTERVAL_S = 0.5
TIMEOUT_S = 3.0  # live clients answer in time on a busy machine too
ROUNDS = 1 + int((INTERVAL_S + TIMEOUT_S) / INTERVAL_S)  # number of pings during which an unanswered one expires
PAUSE_S = 2 * (INTERVAL_S + TIMEOUT_S)
QUICK = {"ping_interval": INTERVAL_S, "ping_timeout": TIMEOUT_S}
Crowd = Callable[[ServerProcess, int], list[ClientConnection]]
TIMED_OUT = "1011 keepalive ping timeout server"


@pytest.fixture
def pausing() -> Iterator[list[int]]:
    """Return a list of process ids that are continued at the end in any case."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def pause(pid: int, pausing: list[int]) -> None:
    pausing.append(pid)
    os.kill(pid, signal.SIGSTOP)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """Return a function that connects several clients of a library that answers pings."""
    with ExitStack() as clients:
        yield lambda server, count: [clients.enter_context(server.connect()) for _ in range(count)]


def counters(server: ServerProcess) -> tuple[int, dict[str, int], dict[str, int]]:
    """Return the number of connections, and how many were closed, by code and by setting."""
    (master,) = server.status()["masters"]
    return master["connections"], master["closed"], master["closed_for_limits"]


def wait_for_pings(server: ServerProcess, count: int) -> None:
    """Wait until that many more pings were sent."""
    before = server.status()["masters"][0]["pings"]
    wait_for(lambda: server.status()["masters"][0]["pings"] >= before + count, f"{count} pings")


# Dead clients.


def test_a_client_whose_process_is_stopped_is_closed_in_time(serve: Serve, pausing: list[int]) -> None:
    server = serve(APP, **QUICK)
    command = [sys.executable, "-c", CLIENT, server.url()]
    with server.connect() as alive, subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == b"connected\n"
            wait_for_pings(server, 4)
            assert counters(server) == (2, {}, {})
            pause(client.pid, pausing)
            server.wait_line(f"closed 2 {TIMED_OUT}")
            assert counters(server)[1:] == ({"1011": 1}, {"ping_timeout": 1})
            alive.send("still there?")
            assert alive.recv() == "still there?"
        finally:
            client.kill()


def test_a_client_that_never_answers_gets_a_ping_and_a_close_frame(serve: Serve) -> None:
    server = serve(APP, **QUICK)
    with RawClient(server.port, answer_pings=False) as client:
        client.upgrade()
        assert client.read_frames() == [ServerFrame(PING, b""), ServerFrame(CLOSE, b"\x03\xf3keepalive ping timeout")]
    server.wait_line(f"closed 1 {TIMED_OUT}")


def test_a_client_that_says_nothing_is_closed_where_there_is_an_idle_time(serve: Serve) -> None:
    server = serve(APP, ping_interval=0, heartbeat_idle_time=3)
    with RawClient(server.port) as silent, RawClient(server.port) as talking:
        silent.upgrade()
        talking.upgrade()
        while "closed 1 1001 the client has sent nothing for too long server" not in server.lines():
            talking.send_frame(TEXT, b"a")
            assert talking.read_frame() == ServerFrame(TEXT, b"a")
            time.sleep(0.05)
        assert [frame.close_code for frame in silent.read_frames()] == [1001]
        assert counters(server)[2] == {"heartbeat_idle_time": 1}


# Live clients.


def test_a_pause_of_the_master_closes_nobody(serve: Serve, crowd: Crowd, pausing: list[int]) -> None:
    """Longer than every timeout: data sent meanwhile is unread when it continues, and is read first."""
    server = serve(APP, **QUICK, heartbeat_idle_time=2 * TIMEOUT_S)
    (master,) = server.pids("master")
    clients = crowd(server, 20)
    with RawClient(server.port, answer_pings=False) as raw:
        raw.upgrade()
        assert raw.read_frame() == ServerFrame(PING, b"")
        pause(master, pausing)
        raw.send_frame(PONG)
        clients[0].send("sent in the pause")
        time.sleep(PAUSE_S)
        os.kill(master, signal.SIGCONT)
        assert clients[0].recv() == "sent in the pause"
        assert raw.read_frame() == ServerFrame(PING, b"")
        raw.send_frame(PONG)
        for client in clients:
            client.send("still there?")
            assert client.recv() == "still there?"
        assert counters(server) == (21, {}, {})
    wait_for_pings(server, 2 * len(clients))
    assert counters(server)[2] == {}


def test_pauses_again_and_again_close_nobody(serve: Serve, crowd: Crowd, pausing: list[int]) -> None:
    server = serve(APP, **QUICK)
    (master,) = server.pids("master")
    clients = crowd(server, 5)
    for _ in range(3):
        pause(master, pausing)
        time.sleep(TIMEOUT_S + 0.2)
        os.kill(master, signal.SIGCONT)
        clients[0].send("a")
        assert clients[0].recv() == "a"
    wait_for_pings(server, 2 * len(clients))
    assert counters(server) == (5, {}, {})


def test_a_stopped_worker_closes_nobody(serve: Serve, crowd: Crowd, pausing: list[int]) -> None:
    server = serve(APP, **QUICK)
    (worker,) = server.pids("worker")
    clients = crowd(server, 5)
    pause(worker, pausing)
    for client in clients:
        client.send("wait for it")
    wait_for_pings(server, ROUNDS * len(clients))
    assert counters(server) == (5, {}, {})
    os.kill(worker, signal.SIGCONT)
    for client in clients:
        assert client.recv() == "wait for it"


def test_a_busy_worker_closes_nobody(serve: Serve) -> None:
    server = serve(APP, **QUICK, slow_callback_s=0)
    with server.connect() as busy, server.connect() as other:
        busy.send("sleep")
        other.send("behind it")
        wait_for_pings(server, 2 * ROUNDS)
        assert counters(server) == (2, {}, {})
        server.write("wake", "")
        assert busy.recv() == "sleep"
        assert other.recv() == "behind it"


def test_a_client_that_is_not_read_is_not_closed(serve: Serve, pausing: list[int]) -> None:
    """Its worker is stopped, and it has sent more than may be parked: its pongs stay unread for longer than the
    timeout.
    """
    server = serve(APP, **QUICK, connection_window_events=1, parked_messages=1)
    (worker,) = server.pids("worker")
    with server.connect() as client, server.connect() as other:
        pause(worker, pausing)
        for number in range(10):
            client.send(str(number))
        wait_for_pings(server, 2 * ROUNDS)
        assert counters(server) == (2, {}, {})
        os.kill(worker, signal.SIGCONT)
        assert [client.recv() for _ in range(10)] == [str(number) for number in range(10)]
        other.send("a")
        assert other.recv() == "a"


# Pings of the app's own.


def test_a_callback_pings_a_client(serve: Serve) -> None:
    server = serve(APP)
    with RawClient(server.port, answer_pings=False) as client:
        client.upgrade()
        client.send_frame(TEXT, b"ping me")
        assert client.read_frame() == ServerFrame(PING, b"are you there?")
        assert client.read_frame() == ServerFrame(TEXT, b"ping me")
    server.wait_line("ping True False")
