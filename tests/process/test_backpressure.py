"""Slow readers and slow workers: queues are bounded, and everything that was accepted is answered."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import psutil
import pytest

from tests.client_frames import client_frame
from tests.process.conftest import Serve
from tests.process.raw_client import BINARY, PING, PONG, TEXT, RawClient, ServerFrame
from tests.process.waiting import wait_for
from zwoole.shared.memory.progress_map import RING

MIB = 1 << 20
PIECE = 256 * 1024
APP = """
    from zwoole import Server

    server = Server()

    def piece(number):
        return number.to_bytes(4, "big") * ({piece} // 4)

    @server.on("message")
    {kind} on_message(server, frame):
        command, _, count = frame.data.partition(" ")
        pushed = 0
        for number in range(int(count or 0)):
            {drain}
            pushed += server.push(frame.fd, piece(number))
        print("pushed", pushed)
        server.push(frame.fd, frame.data)

    @server.on("close")
    def on_close(server, fd, code):
        print("close", fd, code)

    server.start()
"""
KINDS = {
    "def": APP.format(piece=PIECE, kind="def", drain=""),
    "async def": APP.format(piece=PIECE, kind="async def", drain="await server.drain()"),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def app(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def rss(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(psutil.Process(pid).memory_info().rss)


def test_much_to_a_steady_reader_arrives_whole(serve: Serve, app: str) -> None:
    """64 MiB in one callback, below the limit for one client: everything arrives, in order."""
    server = serve(app, socket_buffer_size=100 * MIB)
    count = 64 * MIB // PIECE
    with RawClient(server.port) as client:
        client.upgrade()
        client.send_frame(TEXT, b"send %d" % count)
        for number in range(count):
            frame = client.read_frame()
            assert frame == ServerFrame(BINARY, number.to_bytes(4, "big") * (PIECE // 4))
        assert client.read_frame() == ServerFrame(TEXT, b"send %d" % count)


def test_more_than_the_limit_ends_with_1013(serve: Serve, app: str) -> None:
    """A reader that falls too far behind is closed; what it received before is correct and in order."""
    server = serve(app)
    with RawClient(server.port, receive_buffer=8192) as client:
        client.upgrade()
        client.send_frame(TEXT, b"send 256")
        wait_for(lambda: any(line.startswith("pushed") for line in server.lines()), "the callback's end")
        frames = client.read_frames()
    assert frames[-1].close_code == 1013
    for number, frame in enumerate(frames[:-1]):
        assert frame == ServerFrame(BINARY, number.to_bytes(4, "big") * (PIECE // 4))
    (pushed,) = [int(line.split()[1]) for line in server.lines() if line.startswith("pushed")]
    assert pushed < 256, "push says so when the connection is gone"
    server.wait_line("close 1 1013")


def test_who_never_reads_is_closed_and_memory_is_bounded(serve: Serve, app: str) -> None:
    server = serve(app, close_timeout=0.5)
    (master,) = server.pids("master")
    before = rss(master)
    with RawClient(server.port, receive_buffer=8192) as client:
        client.upgrade()
        highest = 0
        client.send_frame(TEXT, b"send 2048")  # half a gigabyte
        while not any(line.startswith("close 1 1013") for line in server.lines()):
            highest = max(highest, rss(master))
        wait_for(lambda: server.status()["masters"][0]["connections"] == 0, "the connection to be let go of")
    assert highest - before < 64 * MIB
    with RawClient(server.port) as client:
        client.upgrade()
        client.send_frame(TEXT, b"still-there?")
        assert client.read_frame() == ServerFrame(TEXT, b"still-there?")


def test_one_slow_reader_holds_nobody_up(serve: Serve, app: str) -> None:
    server = serve(app, socket_buffer_size=100 * MIB)
    with RawClient(server.port, receive_buffer=8192) as slow, RawClient(server.port) as quick:
        slow.upgrade()
        quick.upgrade()
        slow.send_frame(TEXT, b"send 128")
        for _ in range(20):
            quick.send_frame(TEXT, b"send 1")
            assert [quick.read_frame().opcode for _ in range(2)] == [BINARY, TEXT]


def test_stopped_worker_is_waited_for(serve: Serve, app: str) -> None:
    """Messages to a stopped worker wait, in order, and clients that send too many are not read."""
    server = serve(app)
    (worker,) = server.pids("worker")
    (master,) = server.pids("master")
    texts = [b"message-%d" % number for number in range(3000)]
    with RawClient(server.port) as client, RawClient(server.port) as other:
        client.upgrade()
        other.upgrade()
        client.send_frame(TEXT, b"hello")
        assert client.read_frame() == ServerFrame(TEXT, b"hello")
        os.kill(worker, signal.SIGSTOP)
        try:
            before = rss(master)
            sender = threading.Thread(target=lambda: [client.send_frame(TEXT, text) for text in texts])
            sender.start()
            other.send_frame(TEXT, b"me-too")
            other.send_frame(PING, b"ping")
            assert other.read_frame() == ServerFrame(PONG, b"ping"), "the master answers pings meanwhile"
            wait_for(lambda: server.status()["masters"][0]["messages_in"] > 60, "the windows to fill")
            assert rss(master) - before < 16 * MIB
        finally:
            os.kill(worker, signal.SIGCONT)
        assert [client.read_frame() for _ in texts] == [ServerFrame(TEXT, text) for text in texts]
        assert other.read_frame() == ServerFrame(TEXT, b"me-too")
        sender.join()


def test_flood_at_a_stopped_worker_is_bounded(serve: Serve) -> None:
    """What exceeds the windows and the parked messages stays in the kernel and with the client."""
    server = serve(KINDS["def"])
    (worker,) = server.pids("worker")
    (master,) = server.pids("master")
    with RawClient(server.port) as client:
        client.upgrade()
        client.socket.settimeout(0.5)
        os.kill(worker, signal.SIGSTOP)
        try:
            before = rss(master)
            with pytest.raises(TimeoutError):
                for _ in range(1024):
                    client.send_frame(TEXT, b"x" * 65536)
            assert rss(master) - before < 16 * MIB
        finally:
            os.kill(worker, signal.SIGCONT)


def test_a_callback_pushes_any_amount_through_a_small_window(serve: Serve) -> None:
    """Credit returns as often as needed while the callback runs and nothing else of its worker finishes."""
    server = serve(KINDS["def"].replace(f"({PIECE} // 4)", "250"), up_window_bytes=1024, socket_buffer_size=100 * MIB)
    with RawClient(server.port) as client:
        client.upgrade()
        client.send_frame(TEXT, b"send 17000")
        for number in range(17_000):
            assert client.read_frame() == ServerFrame(BINARY, number.to_bytes(4, "big") * 250)


WAITING = """
    import asyncio
    from zwoole import Server

    server = Server()

    @server.on("message")
    async def on_message(server, frame):
        if frame.data == "wait":
            await asyncio.sleep(3600)
        server.push(frame.fd, frame.data)

    @server.handler("/handler")
    async def serve(ws):
        await ws.recv()
        await asyncio.sleep(3600)

    server.start()
"""


def test_a_callback_that_waits_for_long_holds_up_no_other_connection(serve: Serve) -> None:
    """However many messages of others overtake it: more than the ring of unfinished events has places."""
    server = serve(WAITING, max_wait_time=1)
    with RawClient(server.port) as waiting, RawClient(server.port) as handled, RawClient(server.port) as client:
        waiting.upgrade()
        waiting.send_frame(TEXT, b"wait")
        handled.upgrade("/handler")
        handled.send_frame(TEXT, b"never finished")
        client.upgrade()
        for _ in range(2 * RING // 50):
            client.send(client_frame(TEXT, b"x") * 50)
            assert [client.read_frame() for _ in range(50)] == [ServerFrame(TEXT, b"x")] * 50
