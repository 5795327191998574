"""Large messages through the payload rings, and without them if they are full, off, or held by a slow callback."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from tests.process.conftest import Serve
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole import control_client

KIB = 1024
APP = """
    import asyncio, os
    from zwoole import Server

    server = Server()

    @server.on("message")
    {kind} on_message(server, frame):
        if frame.data == "hold":
            while not os.path.exists("go"):
                await asyncio.sleep(0.01)
        server.push(frame.fd, frame.data)

    @server.handler("/handler")
    async def handler(ws):
        async for message in ws:
            await ws.send(message)

    server.start()
"""
DEF = APP.replace("await asyncio.sleep", "time.sleep").replace("asyncio, os", "os, time").format(kind="def")
ASYNC = APP.format(kind="async def")
SIZES = [1, 2047, 2048, 16 * KIB, 32 * KIB - 1, 32 * KIB, 100 * KIB, 700 * KIB]


@pytest.mark.parametrize("ring", [0, 1, 10_000, 2048 * KIB])
@pytest.mark.parametrize("app", [DEF, ASYNC], ids=["def", "async def"])
def test_every_size_comes_back_as_it_was(serve: Serve, app: str, ring: int) -> None:
    server = serve(app, payload_ring_bytes=ring)
    chosen = random.Random(ring)
    for path in ("/", "/handler"):
        with server.connect(path) as client:
            messages = [
                chosen.choice((chosen.randbytes(size), chr(chosen.choice((97, 233, 8364))) * (size // 3)))
                for size in SIZES * 3
            ]
            for start in range(0, len(messages), 4):
                for message in messages[start : start + 4]:
                    client.send(message)
                for message in messages[start : start + 4]:
                    assert client.recv(PATIENCE_S) == message


def test_a_callback_that_takes_long_holds_the_ring_and_nobody_up(serve: Serve) -> None:
    server = serve(ASYNC, payload_ring_bytes=64 * KIB)
    with server.connect() as slow, server.connect() as quick:
        slow.send("hold")
        for number in range(100):
            text = f"{number} " + "x" * 16 * KIB
            quick.send(text)
            assert quick.recv(PATIENCE_S) == text
        server.write("go", "")
        assert slow.recv(PATIENCE_S) == "hold"


def test_what_lay_in_the_ring_of_a_dead_worker_is_sent_again(serve: Serve) -> None:
    server = serve(DEF)
    (worker,) = server.pids("worker")
    with server.connect() as client:
        client.send("first")
        assert client.recv(PATIENCE_S) == "first"
        os.kill(worker, signal.SIGSTOP)
        messages = [f"{number} " + "x" * 16 * KIB for number in range(5)]
        for message in messages:
            client.send(message)
        wait_for(lambda: server.status()["masters"][0]["workers"][0]["outstanding"] == 5, "all to be with the worker")
        os.kill(worker, signal.SIGKILL)
        for message in messages:
            assert client.recv(PATIENCE_S) == message
    assert "No such file" not in server.log()


def test_the_rings_of_replaced_workers_are_unmapped(serve: Serve) -> None:
    server = serve(DEF, workers=2)
    for _ in range(3):
        control_client.request(server.run_dir, "reload", timeout_s=PATIENCE_S)
    wait_for(lambda: len(server.pids("worker")) == 2, "the old workers to end")
    (master,) = server.pids("master")
    wait_for(lambda: mapped_rings(master) == 2, "one pair of rings for each worker")
    assert [mapped_rings(pid) for pid in server.pids("worker")] == [1, 1]


def mapped_rings(pid: int) -> int:
    """Return how many memory files with rings a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text().count("zwoole-payloads")
