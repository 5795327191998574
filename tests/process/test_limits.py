"""Clients that exceed limits, on real sockets: what they are told, and the memory that they cost meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from tests.client_frames import client_frame
from tests.process.conftest import Serve
from tests.process.memory_watch import resident
from tests.process.raw_client import BINARY, CLOSE, HEAD, PING, PONG, TEXT, RawClient, ServerFrame
from tests.process.server_process import ServerProcess
from tests.process.waiting import wait_for

MIB = 1 << 20
ECHO = """
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        server.push(frame.fd, frame.data)

    @server.on("close")
    def on_close(server, fd, code):
        print("closed", fd, code)

    server.start()
"""


class Memory:
    """Growth of the master's memory since the start, and its maximum."""

    def __init__(self, server: ServerProcess) -> None:
        (pid,) = server.pids("master")
        self._process = psutil.Process(pid)
        self._before = resident(self._process.pid)
        self.most = 0

    def look(self) -> int:
        grown = resident(self._process.pid) - self._before
        self.most = max(self.most, grown)
        return grown


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def open_clients(stack: ExitStack, server: ServerProcess, count: int, **options: bool) -> list[RawClient]:
    return [stack.enter_context(RawClient(server.port, **options)).upgrade() for _ in range(count)]  # type: ignore[arg-type]


def master(server: ServerProcess) -> dict[str, object]:
    status: dict[str, object] = server.status()["masters"][0]
    return status


def still_serves(server: ServerProcess) -> bool:
    with RawClient(server.port) as client:
        client.upgrade()
        client.send_frame(TEXT, b"still there?")
        return client.read_frame() == ServerFrame(TEXT, b"still there?")


# Memory for incomplete messages.


def test_messages_that_never_end_are_bounded_for_all_clients_together(serve: Serve, stack: ExitStack) -> None:
    """64 clients with 2 MiB each: 128 MiB, of which 16 may be kept."""
    server = serve(ECHO, package_max_length=4 * MIB, partial_total_bytes=16 * MIB, close_timeout=0.5)
    memory = Memory(server)
    clients = open_clients(stack, server, 64)
    unfinished = client_frame(TEXT, b"x" * MIB, fin=False), client_frame(0, b"x" * (MIB - 1), fin=False)
    for client in clients:
        client.send(*unfinished)
        memory.look()
    wait_for(lambda: len(server.lines()) >= 56, "those over the limit to be closed")
    memory.look()
    assert {line.split()[2] for line in server.lines()} == {"1013"}
    status = master(server)
    assert status["closed_for_limits"] == {"partial_total_bytes": len(server.lines())}
    assert 12 * MIB < int(str(status["partial_bytes"])) <= 16 * MIB
    assert memory.most < 32 * MIB
    assert still_serves(server)
    for client in clients:
        client.socket.close()
    wait_for(lambda: master(server)["partial_bytes"] == 0, "the account to be empty")


def test_the_client_is_told_1013(serve: Serve, stack: ExitStack) -> None:
    server = serve(ECHO, partial_total_bytes=MIB)
    (other, client) = open_clients(stack, server, 2)
    other.send(client_frame(BINARY, bytes(MIB - 1000), fin=False))
    wait_for(lambda: master(server)["partial_bytes"] == MIB - 1000, "the other one's message")
    client.send(client_frame(BINARY, bytes(5000), fin=False))
    assert [frame.close_code for frame in client.read_frames()] == [1013]
    other.send(client_frame(0, b"the end"))
    assert len(other.read_frame().payload) == MIB - 993


# Control frames.


def test_a_flood_of_pings_is_closed_with_1008(serve: Serve, stack: ExitStack) -> None:
    server = serve(ECHO)
    (client,) = open_clients(stack, server, 1)
    client.send(client_frame(PING, b"p" * 125) * 5000)
    frames = client.read_frames()
    assert frames[:-1] == [ServerFrame(PONG, b"p" * 125)] * 100
    assert frames[-1] == ServerFrame(CLOSE, b"\x03\xf0too many pings and pongs a second")
    assert master(server)["closed_for_limits"] == {"control_frames_per_second": 1}


def test_pongs_for_a_client_that_does_not_read_are_bounded(serve: Serve) -> None:
    """40 MiB of pings at full speed, and no pong is read before the last."""
    server = serve(ECHO, control_frames_per_second=0)
    memory = Memory(server)
    with RawClient(server.port, receive_buffer=8192) as client:
        client.upgrade()
        flood = client_frame(PING, b"p" * 125) * 4000
        for _ in range(40 * MIB // len(flood)):
            client.send(flood)
            memory.look()
        client.send_frame(PING, b"the last")
        client.send_frame(TEXT, b"and a message")
        wait_for(lambda: master(server)["messages_out"] == 1, "all to be read")
        memory.look()
        assert int(str(master(server)["queued_bytes"])) < MIB
        frames = [client.read_frame()]
        while frames[-1] != ServerFrame(PONG, b"the last"):
            frames.append(client.read_frame())
        assert len(frames) < 100_000
        assert ServerFrame(TEXT, b"and a message") in frames
    assert memory.most < 8 * MIB


# Rates.


def test_a_flood_of_messages_is_read_at_the_rate_and_nothing_piles_up(serve: Serve) -> None:
    server = serve(ECHO, rate_limit_messages=200)
    memory = Memory(server)
    with RawClient(server.port) as client:
        client.upgrade()
        texts = [b"%d" % number for number in range(600)]
        client.send(*(client_frame(TEXT, text) for text in texts))
        for text in texts:
            assert client.read_frame() == ServerFrame(TEXT, text)
            memory.look()
    assert memory.most < 4 * MIB
    assert int(str(master(server)["rate_pauses"])) > 1
    assert master(server)["closed_for_limits"] == {}


def test_a_flood_of_bytes_stays_with_the_client(serve: Serve) -> None:
    server = serve(ECHO, rate_limit_bytes=65536)
    memory = Memory(server)
    with RawClient(server.port) as client:
        client.upgrade()
        client.socket.settimeout(0.3)
        sent = 0
        frame = client_frame(BINARY, bytes(65536))
        with pytest.raises(TimeoutError):
            while sent < 256 * MIB:
                client.send(frame)
                sent += len(frame)
                memory.look()
        wait_for(lambda: int(str(master(server)["rate_pauses"])), "the client to be paused")
    assert memory.most < 8 * MIB
    assert still_serves(server)


@pytest.mark.parametrize("limit", [{"rate_limit_messages": 50}, {"rate_limit_bytes": 10_000}])
def test_over_a_rate_a_client_is_closed_with_1008_where_the_policy_says_so(
    serve: Serve, stack: ExitStack, limit: dict[str, int]
) -> None:
    server = serve(ECHO, rate_limit_policy="close", **limit)
    (client,) = open_clients(stack, server, 1)
    for _ in range(50):
        client.send_frame(TEXT, b"x" * 190)
        assert client.read_frame() == ServerFrame(TEXT, b"x" * 190)
    client.send(client_frame(TEXT, b"x" * 1000) * 600)
    frames = client.read_frames()
    assert frames[-1].close_code == 1008
    assert len(frames) < 600
    assert master(server)["closed_for_limits"] == {next(iter(limit)): 1}


# Connections.


def test_over_max_connection_a_client_is_answered_503_and_may_come_back(serve: Serve, stack: ExitStack) -> None:
    server = serve(ECHO, max_connection=3)
    clients = open_clients(stack, server, 3)
    answer = refusal(server)
    assert answer.startswith("HTTP/1.1 503 ")
    assert "\r\nRetry-After: 5\r\n" in answer
    clients[0].socket.close()
    wait_for(lambda: master(server)["connections"] == 2, "the place to be free")
    assert still_serves(server)
    assert master(server)["refused"] == {"503": 1}


def test_over_max_connection_per_ip_a_client_is_answered_429_and_others_are_not(serve: Serve, stack: ExitStack) -> None:
    server = serve(ECHO, max_connection_per_ip=2)
    open_clients(stack, server, 2)
    answer = refusal(server)
    assert answer.startswith("HTTP/1.1 429 Too Many Requests\r\n")
    assert "\r\nRetry-After: 5\r\n" in answer
    with RawClient(server.port, source="127.0.0.2") as other:
        other.upgrade()
    assert master(server)["refused"] == {"429": 1}


def refusal(server: ServerProcess) -> str:
    """Return the response for a client that sends its whole request before it reads."""
    with RawClient(server.port) as client:
        client.send(HEAD.format(path="/").encode())
        return client.read_rest().decode()


def test_over_the_accept_rate_clients_wait_and_are_all_served(serve: Serve, stack: ExitStack) -> None:
    server = serve(ECHO, accept_rate=20)
    clients = [stack.enter_context(RawClient(server.port)) for _ in range(60)]
    for client in clients:
        client.send(HEAD.format(path="/").encode())
    assert all(client.read_head().startswith("HTTP/1.1 101 ") for client in clients)
    status = master(server)
    assert (status["accepted"], status["refused"]) == (60, {})
    assert int(str(status["accept_rests"])) > 1


# Heads.


def test_heads_that_never_end_are_bounded_in_size_and_time(serve: Serve, stack: ExitStack) -> None:
    """300 clients with almost the longest allowed head: each keeps its bytes only until the handshake times out."""
    server = serve(ECHO, handshake_timeout=4)
    memory = Memory(server)
    clients = []
    for _ in range(300):
        clients.append(client := stack.enter_context(RawClient(server.port)))
        client.send(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 16_000)
        memory.look()
    wait_for(lambda: master(server)["refused"] == {"408": 300}, "the handshakes to be over")
    memory.look()
    assert memory.most < 16 * MIB
    assert all(client.read_rest().startswith(b"HTTP/1.1 408 ") for client in clients)
    assert still_serves(server)
