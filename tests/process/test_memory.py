"""Nothing grows without bound: the maximum of each process, whatever clients and callbacks do.

The limits are small here, so that they are reached at once. A process may grow by the limits that apply to it plus a
fifth, and, while messages come and go, by the freed memory that it keeps for the next ones. The master has, per worker,
`window_bytes`, `up_window_bytes` and two payload rings. For clients it has `parked_total_bytes`, `partial_total_bytes`
if messages arrive in pieces, and `output_total_bytes`, or the `socket_buffer_size` of its only client. A worker has
`window_bytes`, `up_window_bytes` and the rings; the supervisor has nothing. The memory of connections themselves does
not count: clients connect before the measurement starts.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from tests.client_frames import client_frame
from tests.process.conftest import Serve
from tests.process.memory_watch import MIB, Audience, Flood, MemoryWatch
from tests.process.raw_client import TEXT, RawClient
from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.shared.process.allocator import KEPT_BYTES

RING = MIB
WINDOW = 4 * MIB
PARKED = 8 * MIB
UP = 2 * MIB
BUFFER = 4 * MIB
OUTPUT = 16 * MIB
PARTIAL = 8 * MIB
SETTINGS = {
    "payload_ring_bytes": RING,
    "window_bytes": WINDOW,
    "parked_total_bytes": PARKED,
    "up_window_bytes": UP,
    "socket_buffer_size": BUFFER,
    "output_total_bytes": OUTPUT,
    "partial_total_bytes": PARTIAL,
    "ping_interval": 0,  # these clients answer no ping, however long a test takes
    "close_timeout": 0.5,
}
WAY_DOWN = WINDOW + RING
WAY_UP = UP + RING
GIGABYTE = 1 << 30
COMMAND = b"push 1 2" + b" " * 16_000
COMMAND_FRAME = client_frame(TEXT, COMMAND)
CLIENTS = 250

APP = """
    import asyncio, os, threading, time
    from zwoole import BackpressureError, Server

    server = Server()
    told = 0

    def go_on():
        return os.path.exists("go-on")

    def block(server, frame):
        print("blocked")
        while not go_on():
            time.sleep(0.01)

    async def wait(server, frame):
        print("blocked")
        while not go_on():
            await asyncio.sleep(0.01)

    def push(server, frame):
        count, size = map(int, frame.data.split()[1:])
        pushed = 0
        for _ in range(count):
            pushed += server.push(frame.fd, b"x" * size)
        if count > 1:
            print("pushed", pushed)

    def broadcast(server, frame):
        count, size = map(int, frame.data.split()[1:])
        for _ in range(count):
            server.broadcast(b"x" * size)
        print("done")

    def push_from_thread(server, frame):
        threading.Thread(target=push, args=(server, frame)).start()

    async def hurry(server, frame):
        pushed = 0
        try:
            while server.push(frame.fd, b"x" * 4096):
                pushed += 1
        except BackpressureError:
            print("refused", pushed)

    async def awaited(result):
        if result is not None:
            await result

    COMMANDS = {{
        "block": block, "wait": wait, "push": push, "broadcast": broadcast, "hurry": hurry, "thread": push_from_thread
    }}

    @server.on("message")
    {kind} on_message(server, frame):
        global told
        if isinstance(frame.data, bytes):
            told += 1
            if not told % 1000:
                print("told", told)
            return
        {call}

    server.start()
"""
SYNC = APP.format(kind="def", call="COMMANDS[frame.data.split()[0]](server, frame)")
ASYNC = APP.format(kind="async def", call="await awaited(COMMANDS[frame.data.split()[0]](server, frame))")


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """Allow this process and the servers that it starts a thousand clients."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(8192, before[1])), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def command(server: ServerProcess, text: str, **options: int) -> RawClient:
    """Return a new client that has sent a command."""
    client = RawClient(server.port, **options).upgrade()
    client.send_frame(TEXT, text.encode())
    return client


def go_on(server: ServerProcess) -> None:
    server.write("go-on", "")


def status(server: ServerProcess) -> dict[str, Any]:
    """Return the master's counters as soon as it answers."""
    (master,) = wait_for(lambda: server.status()["masters"], "the master's status")
    return dict(master)


def wait_for_line(server: ServerProcess, beginning: str, within: float = PATIENCE_S) -> str:
    """Return the first line that begins like this."""
    return wait_for(
        lambda: next((line for line in server.lines() if line.startswith(beginning)), ""), f"a line {beginning}", within
    )


@pytest.mark.parametrize("size", [0, 100, 4000, 30_000])
def test_clients_flood_a_worker_that_is_stopped(serve: Serve, size: int) -> None:
    server = serve(SYNC, **SETTINGS)
    (worker,) = server.pids("worker")
    flood = Flood(server, CLIENTS, size)
    with MemoryWatch(server) as watch, ExitStack() as stack:
        os.kill(worker, signal.SIGSTOP)
        try:
            stack.enter_context(flood)
            flood.wait_stopped()
            watch.assert_within(master=WAY_DOWN + PARKED)
        finally:
            os.kill(worker, signal.SIGCONT)
        wait_for_line(server, "told 20000")
        flood.stop()
        most = WAY_DOWN + PARKED + min(PARTIAL, CLIENTS * size)
        watch.assert_within(freed=KEPT_BYTES, master=most, worker=WAY_DOWN)
        assert status(server)["connections"] == CLIENTS


@pytest.mark.parametrize("app", [SYNC, ASYNC], ids=["def", "async def"])
def test_clients_flood_a_callback_that_blocks(serve: Serve, app: str) -> None:
    server = serve(app, **SETTINGS)
    flood = Flood(server, CLIENTS, 4000)
    with MemoryWatch(server) as watch, command(server, "block"):
        server.wait_line("blocked")
        with flood:
            flood.wait_stopped()
            watch.assert_within(master=WAY_DOWN + PARKED, worker=WAY_DOWN)
        go_on(server)


@pytest.mark.parametrize("size", [0, 4000])
def test_clients_flood_behind_callbacks_that_wait(serve: Serve, size: int) -> None:
    server = serve(ASYNC, **SETTINGS)
    flood = Flood(server, CLIENTS, size, first="wait")
    with MemoryWatch(server) as watch:
        with flood:
            flood.wait_stopped()
            watch.assert_within(master=WAY_DOWN + PARKED, worker=WAY_DOWN)
        go_on(server)


def test_what_is_parked_stops_the_reading_and_is_answered(serve: Serve) -> None:
    """Behind a stopped worker: accepted messages are not lost, and no more are accepted than may be parked."""
    server = serve(SYNC, **SETTINGS, parked_bytes=4 * MIB)
    (worker,) = server.pids("worker")
    with MemoryWatch(server) as watch, ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.port)).upgrade() for _ in range(20)]
        os.kill(worker, signal.SIGSTOP)
        try:
            sent = [0] * len(clients)

            def are_filled() -> bool:
                sent[:] = [fill(client, count) for client, count in zip(clients, sent, strict=True)]
                return int(status(server)["parked_bytes"]) >= PARKED * 9 // 10

            wait_for(are_filled, "what may be parked to be parked")
            for _ in range(10):
                are_filled()
            assert status(server)["parked_bytes"] <= PARKED + 65536 + len(COMMAND)
            watch.assert_within(master=WAY_DOWN + PARKED)
        finally:
            os.kill(worker, signal.SIGCONT)
        for client, count in zip(clients, sent, strict=True):
            for _ in range(count // len(COMMAND_FRAME)):
                assert client.read_frame().payload == b"xx"


def fill(client: RawClient, sent: int) -> int:
    """Send commands, after `sent` bytes of them, until the kernels accept no more; return the new total."""
    client.socket.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            sent += client.socket.send(memoryview(COMMAND_FRAME)[sent % len(COMMAND_FRAME) :])
    client.socket.settimeout(PATIENCE_S)
    return sent


def test_messages_that_never_arrive_whole(serve: Serve) -> None:
    """A client whose message would exceed the limit for all is closed, and the others are served."""
    server = serve(SYNC, **SETTINGS)
    flood = Flood(server, 60, MIB - 1, parts=True)
    with MemoryWatch(server) as watch, flood:
        flood.wait_stopped()
        assert 0 < status(server)["closed"].get("1013", 0) < 60
        watch.assert_within(master=PARTIAL)
        with command(server, "push 1 100") as client:
            assert len(client.read_frame().payload) == 100


@pytest.mark.parametrize("size", [10, 1000, 100_000])
def test_a_client_never_reads_what_it_is_pushed(serve: Serve, size: int) -> None:
    server = serve(SYNC, **SETTINGS)
    with MemoryWatch(server) as watch:
        with Audience(server.port, 1, reads=False) as audience:
            audience.command(f"push {4 * BUFFER // size} {size}")
            wait_for_line(server, "pushed")
            server.wait_acknowledged()
        watch.assert_within(master=BUFFER + WAY_UP, worker=WAY_UP)
        assert status(server)["slow_readers_closed"] == 1


@pytest.mark.parametrize("size", [500, 50_000])
def test_a_thousand_clients_never_read_a_broadcast(serve: Serve, size: int) -> None:
    """Small frames are copied for each client; a large one exists once, in the queues of all."""
    server = serve(SYNC, **SETTINGS)
    with Audience(server.port, 1000, reads=False) as audience, MemoryWatch(server) as watch:
        audience.command(f"broadcast {GIGABYTE // 1000 // size} {size}")
        server.wait_line("done")
        server.wait_acknowledged()
        assert status(server)["slow_readers_closed"] > 0
        watch.assert_within(master=OUTPUT + WAY_UP, worker=WAY_UP)


@pytest.mark.parametrize(("reads", "policy"), [(True, "drop_newest"), (False, "drop_newest"), (False, "drop_oldest")])
def test_a_gigabyte_is_pushed_in_one_callback(serve: Serve, reads: bool, policy: str) -> None:
    server = serve(SYNC, **{**SETTINGS, "slow_reader": policy})
    with MemoryWatch(server) as watch, Audience(server.port, 1, reads) as audience:
        audience.command(f"push {GIGABYTE // 50_000} 50000")
        assert int(wait_for_line(server, "pushed").split()[1]) == GIGABYTE // 50_000
        server.wait_acknowledged()
        watch.assert_within(master=BUFFER + WAY_UP, worker=WAY_UP)


def test_a_gigabyte_is_broadcast_in_one_callback(serve: Serve) -> None:
    server = serve(SYNC, **{**SETTINGS, "slow_reader": "drop_newest"})
    with MemoryWatch(server) as watch, Audience(server.port, 100) as audience:
        audience.command(f"broadcast {GIGABYTE // 100 // 10_000} 10000")
        server.wait_line("done")
        server.wait_acknowledged()
        watch.assert_within(master=OUTPUT + WAY_UP, worker=WAY_UP)


def test_a_coroutine_ignores_drain(serve: Serve) -> None:
    server = serve(ASYNC, **{**SETTINGS, "slow_reader": "drop_newest"})
    with MemoryWatch(server) as watch, Audience(server.port, 1, reads=False) as audience:
        audience.command("hurry")
        refused = int(wait_for_line(server, "refused").split()[1])
        assert 3.9 * UP <= refused * 4096 <= 12 * UP
        watch.assert_within(master=BUFFER + 4 * UP + RING, worker=4 * UP + RING)


@pytest.mark.parametrize("app", [SYNC, ASYNC], ids=["def", "async def"])
def test_another_thread_pushes_faster_than_the_master_takes_it(serve: Serve, app: str) -> None:
    server = serve(app, **{**SETTINGS, "slow_reader": "drop_newest"})
    with MemoryWatch(server) as watch, Audience(server.port, 1, reads=False) as audience:
        audience.command("thread 5000 50000")
        assert wait_for_line(server, "pushed") == "pushed 5000"
        watch.assert_within(master=BUFFER + WAY_UP, worker=2 * UP + RING)
