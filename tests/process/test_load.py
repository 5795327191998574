"""Many connections at the same time, with every reply checked."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.client import connect

from tests.process.conftest import Serve
from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S
from zwoole.bench.loadtest.plan import Plan, Target
from zwoole.bench.loadtest.run import run_load

ECHO = """
    from zwoole import Server

    server = Server()

    @server.on("message")
    {} on_message(server, frame):
        server.push(frame.fd, frame.data)

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
APPS = {"def": ECHO.format("def"), "async def": ECHO.format("async def"), "handler": HANDLER}

CONNECTIONS = 200
MESSAGES = 50


@pytest.fixture(params=APPS.values(), ids=APPS)
def server(request: pytest.FixtureRequest, serve: Serve) -> ServerProcess:
    return serve(request.param, workers=2)


def test_every_reply_is_right(server: ServerProcess) -> None:
    async def talk(number: int, gate: asyncio.Event) -> None:
        async with connect(server.url(), compression=None, open_timeout=PATIENCE_S) as client:
            await gate.wait()
            for message in range(MESSAGES):
                text = f"{number} {message} " + "x" * (message * 7)
                await client.send(text)
                assert await client.recv() == text

    async def talk_all() -> None:
        gate = asyncio.Event()
        talks = [asyncio.create_task(talk(number, gate)) for number in range(CONNECTIONS)]
        while server.status()["masters"][0]["opened"] < CONNECTIONS:
            await asyncio.sleep(0.02)
        gate.set()
        await asyncio.gather(*talks)

    asyncio.run(asyncio.wait_for(talk_all(), 4 * PATIENCE_S))
    counted = server.status()["masters"][0]
    assert counted["messages_in"] == counted["messages_out"] == CONNECTIONS * MESSAGES


@pytest.mark.parametrize(
    ("connections", "size", "depth", "messages"),
    [(CONNECTIONS, 64, 1, MESSAGES), (100, 64, 16, 500), (20, 40_000, 4, 50), (4, 900_000, 2, 10)],
)
def test_load(server: ServerProcess, connections: int, size: int, depth: int, messages: int) -> None:
    target = Target.from_url(server.url())
    plan = Plan(target, connections, processes=1, size=size, depth=depth, messages=messages, patience_s=PATIENCE_S)
    result = run_load(plan)
    assert result.errors == {}
    assert (result.connections, result.messages) == (connections, connections * messages)
    assert "Traceback" not in server.log()
