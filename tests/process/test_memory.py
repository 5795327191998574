"""Nothing grows without bound: each process keeps to its limits whatever its clients and callbacks do."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.client_frames import client_frame
from tests.process.conftest import Serve
from tests.process.memory_watch import LIMITS, MIB, MemoryWatch
from tests.process.raw_client import CLOSE, TEXT, RawClient
from tests.process.server_process import ServerProcess
from tests.process.waiting import wait_for

FLOODERS = 20
MESSAGE_BYTES = 16 * 1024
APP = """
    import asyncio
    import os
    import time
    from zwoole import BackpressureError, Server

    server = Server()
    PIECE = b"x" * (64 * 1024)

    @server.on("message")
    {kind} on_message(server, frame):
        command, _, count = frame.data.partition(" ")
        if command == "block":
            while not os.path.exists("go"):
                time.sleep(0.01)
        elif command == "await":
            while not os.path.exists("go"):
                await asyncio.sleep(0.01)
        elif command == "push":
            for _ in range(int(count)):
                if not server.push(frame.fd, PIECE):
                    break
            print("pushed")
        elif command == "broadcast":
            for _ in range(int(count)):
                server.broadcast(PIECE)
            print("broadcast")
        elif command == "careless":
            try:
                for _ in range(int(count)):
                    server.push(frame.fd, PIECE)
            except BackpressureError:
                print("refused")
        else:
            server.push(frame.fd, "answer")

    server.start()
"""
DEF = APP.format(kind="def").replace("await asyncio.sleep(0.01)", "pass")
ASYNC = APP.format(kind="async def")


def serve_limited(serve: Serve, app: str, **settings: int | float) -> ServerProcess:
    return serve(app, **{**LIMITS, **settings})


@contextmanager
def flood(port: int) -> Iterator[None]:
    """Send as much as the server takes, from many clients at once, none of which reads."""
    frames = client_frame(TEXT, b"m" * MESSAGE_BYTES) * 4
    stop = threading.Event()

    def send(client: RawClient) -> None:
        client.socket.settimeout(0.1)
        while not stop.is_set():
            with suppress(TimeoutError):
                client.socket.send(frames)  # what is cut off by the timeout is garbage to nobody: it stays cut off
                continue

    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(port)).upgrade() for _ in range(FLOODERS)]
        threads = [threading.Thread(target=send, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def wait_until_full(server: ServerProcess) -> None:
    """Wait until the windows are full and the master has stopped to read: nothing more goes in."""
    counts = [-1]

    def full() -> bool:
        status = server.status()["masters"][0]
        counts.append(status["messages_in"])
        return bool(status["parked_bytes"]) and counts[-1] == counts[-2] and counts[-1] > 0

    wait_for(full, "the server to be full")


def test_a_stopped_worker(serve: Serve) -> None:
    server = serve_limited(serve, DEF)
    (worker,) = server.pids("worker")
    with MemoryWatch(server) as watch:
        os.kill(worker, signal.SIGSTOP)
        try:
            with flood(server.port):
                wait_until_full(server)
        finally:
            os.kill(worker, signal.SIGCONT)
    watch.assert_bounded()


@pytest.mark.parametrize(("app", "command"), [(DEF, b"block"), (ASYNC, b"block"), (ASYNC, b"await")])
def test_a_callback_that_takes_long(serve: Serve, app: str, command: bytes) -> None:
    """It blocks, or awaits, all along; a flood comes behind it on its own connection and beside it on others."""
    server = serve_limited(serve, app)
    with MemoryWatch(server) as watch, RawClient(server.port) as client:
        client.upgrade()
        client.send_frame(TEXT, command)
        wait_for(lambda: server.status()["masters"][0]["workers"][0]["outstanding"] > 0, "the callback to run")
        client.socket.settimeout(0.2)
        with suppress(TimeoutError):
            for _ in range(2000):
                client.send_frame(TEXT, b"m" * MESSAGE_BYTES)
        if command == b"block":
            with flood(server.port):
                wait_until_full(server)
        server.write("go", "")
    watch.assert_bounded()


@pytest.mark.parametrize("app", [DEF, ASYNC], ids=["def", "async def"])
def test_a_flood_of_empty_messages_behind_a_callback(serve: Serve, app: str) -> None:
    """They have no bytes to count, and cost memory all the same."""
    server = serve_limited(serve, app)
    with ExitStack() as stack, MemoryWatch(server) as watch:
        clients = [stack.enter_context(RawClient(server.port, timeout=0.3)).upgrade() for _ in range(50)]
        clients[0].send_frame(TEXT, b"block")
        frames = client_frame(TEXT, b"") * 10_000
        for client in clients:
            with suppress(TimeoutError):
                client.send(frames)
        assert server.status()["masters"][0]["messages_in"] < 50 * 10_000
        server.write("go", "")
    watch.assert_bounded()


def test_a_client_that_reads_nothing_of_a_gigabyte(serve: Serve) -> None:
    server = serve_limited(serve, DEF, close_timeout=0.5)
    with MemoryWatch(server) as watch, RawClient(server.port, receive_buffer=4096) as client:
        client.upgrade()
        client.send_frame(TEXT, b"push 16384")
        server.wait_line("pushed")
    watch.assert_bounded()


def test_a_callback_that_pushes_a_gigabyte_to_a_steady_reader(serve: Serve) -> None:
    """It is held back by its own window, not by the reader, who is closed where that cannot keep up."""
    server = serve_limited(serve, DEF)
    received = 0
    with MemoryWatch(server) as watch, RawClient(server.port, timeout=30) as client:
        client.upgrade()
        client.send_frame(TEXT, b"push 16384")
        while data := client.socket.recv(1 << 20):
            received += len(data)
            if received >= 16384 * 65536:
                break
    assert received > 0
    watch.assert_bounded()


def test_broadcasts_to_a_thousand_that_read_nothing(serve: Serve) -> None:
    server = serve_limited(serve, DEF, close_timeout=0.5)
    with ExitStack() as stack, MemoryWatch(server) as watch:
        silent = [stack.enter_context(RawClient(server.port, receive_buffer=4096)).upgrade() for _ in range(1000)]
        assert server.status()["masters"][0]["connections"] == 1000
        with RawClient(server.port, timeout=60) as client:
            client.upgrade()
            client.send_frame(TEXT, b"broadcast 64")
            server.wait_line("broadcast", within=60)
        wait_for(lambda: server.status()["masters"][0]["slow_readers_closed"] > 0, "the first to be closed")
        for one in silent:
            one.socket.shutdown(socket.SHUT_RDWR)
    watch.assert_bounded()


def test_a_coroutine_that_does_not_drain_is_refused(serve: Serve) -> None:
    server = serve_limited(serve, ASYNC, close_timeout=0.5, socket_buffer_size=64 * MIB, output_total_bytes=8 * MIB)
    with MemoryWatch(server) as watch, RawClient(server.port, receive_buffer=4096) as client:
        client.upgrade()
        client.send_frame(TEXT, b"careless 2000")
        server.wait_line("refused")
    watch.assert_bounded()


def test_the_total_for_all_clients_cuts_off_those_with_the_most(serve: Serve) -> None:
    server = serve_limited(serve, DEF, socket_buffer_size=16 * MIB, close_timeout=0.5)
    with ExitStack() as stack, MemoryWatch(server) as watch:
        for _ in range(8):
            client = stack.enter_context(RawClient(server.port, receive_buffer=4096)).upgrade()
            client.send_frame(TEXT, b"push 192")  # 12 MiB, less than its own limit; the kernel takes up to 4
        wait_for(lambda: server.lines().count("pushed") == 8, "all of it to be pushed")
        status = server.status()["masters"][0]
        assert status["slow_readers_closed"] >= 7, "8 MiB hold what waits for one of them, not for two"
        assert status["closed"] == {"1006": status["slow_readers_closed"]}
        assert status["queued_bytes"] <= LIMITS["output_total_bytes"]
    watch.assert_bounded()


def test_the_total_of_parked_messages_stops_the_reading_and_nothing_is_lost(serve: Serve) -> None:
    server = serve_limited(serve, DEF, window_bytes=65536, connection_window_bytes=65536, parked_bytes=MIB)
    (worker,) = server.pids("worker")
    with ExitStack() as stack, MemoryWatch(server) as watch:
        clients = [stack.enter_context(RawClient(server.port)).upgrade() for _ in range(10)]
        os.kill(worker, signal.SIGSTOP)
        sent = [0] * len(clients)
        for number, client in enumerate(clients):
            client.socket.settimeout(0.2)
            with suppress(TimeoutError):
                for _ in range(40):
                    client.send_frame(TEXT, b"m" * MESSAGE_BYTES)
                    sent[number] += 1
        status = server.status()["masters"][0]
        assert status["parked_bytes"] <= LIMITS["parked_total_bytes"] + len(clients) * (65536 + MESSAGE_BYTES)
        os.kill(worker, signal.SIGCONT)
        for number, client in enumerate(clients):
            client.socket.settimeout(15)
            for _ in range(sent[number]):
                frame = client.read_frame()
                assert frame.opcode != CLOSE
                assert frame.payload == b"answer"
    watch.assert_bounded()
