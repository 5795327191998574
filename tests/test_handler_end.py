"""How a coroutine handler's end ends its connection."""

from __future__ import annotations

import asyncio

import pytest

from tests.handler_parts import begin, commands, end_connection, say
from tests.worker_parts import AsyncMaster, closing, end, in_loop, message, opening
from zwoole.shared.errors import ConnectionClosedError
from zwoole.shared.wire import DISCONNECT
from zwoole.workers.handlers import HandlerConnection


@in_loop
async def test_a_handler_that_returns_closes_with_1000() -> None:
    async def handler(ws: HandlerConnection) -> None:
        await ws.recv()

    master, fd = await begin(handler)
    with master:
        await say(master, message(fd, "a"), message(fd, "never read"))
        sent = master.sent()
        assert sent.others == [(DISCONNECT, fd, end(1000, ""))]
        assert sent.acknowledged == [0, 1, 2]
        await say(master, message(fd, "too late"))
        await end_connection(master, fd)
        assert master.sent().acknowledged == [3, 4]
        assert master.scheduler.connections == {}
        assert master.commands.ended == set()


@pytest.mark.parametrize("error", [ValueError("v"), KeyboardInterrupt(), asyncio.CancelledError()])
@in_loop
async def test_a_handler_that_fails_closes_with_1011(log: pytest.LogCaptureFixture, error: BaseException) -> None:
    async def handler(ws: HandlerConnection) -> None:
        raise error

    master, fd = await begin(handler)
    with master:
        assert commands(master) == [(DISCONNECT, fd, end(1011, "handler failed"))]
    assert len(log.records) == 1


@in_loop
async def test_the_closed_connection_of_somebody_else_is_a_failure(log: pytest.LogCaptureFixture) -> None:
    async def handler(ws: HandlerConnection) -> None:
        raise ConnectionClosedError(1006, "another connection's")

    master, fd = await begin(handler)
    with master:
        assert commands(master) == [(DISCONNECT, fd, end(1011, "handler failed"))]
    assert len(log.records) == 1


@in_loop
async def test_a_stop_closes_with_1012(log: pytest.LogCaptureFixture) -> None:
    async def handler(ws: HandlerConnection) -> None:
        async for _ in ws:
            pass

    master, fd = await begin(handler)
    with master:
        await master.scheduler.stop()
        assert commands(master) == [(DISCONNECT, fd, end(1012, "the server process is restarted"))]
    assert log.records == []


@in_loop
async def test_open_and_close_callbacks_do_not_run_for_handler_connections() -> None:
    ran: list[str] = []

    async def handler(ws: HandlerConnection) -> None:
        await ws.wait_closed()

    callbacks = {name: lambda *_: ran.append("callback") for name in ("open", "message", "close")}
    with AsyncMaster(callbacks, {"/ws": handler}) as master:
        fd = master.connect()
        await say(master, opening(fd, "/ws"), message(fd, "a"))
        await end_connection(master, fd)
        assert ran == []
        await say(master, opening(fd + 1, "/other"), message(fd + 1, "a"), closing(fd + 1))
        assert ran == ["callback"] * 3
