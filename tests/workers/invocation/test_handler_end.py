"""How the end of a coroutine handler ends its connection."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import pytest

from tests.workers.handler_parts import begin, commands, end_connection, say
from tests.workers.worker_parts import AsyncMaster, closing, end, in_loop, message, opening, settle
from zwoole.shared.errors import ConnectionClosed, ConnectionClosedError
from zwoole.shared.wire.events import DISCONNECT
from zwoole.workers.invocation.handlers import HandlerConnection


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


class Group(Exception):
    """Replaces ExceptionGroup, which Python 3.10 lacks."""

    def __init__(self, *exceptions: BaseException) -> None:
        super().__init__(exceptions)
        self.exceptions = exceptions


async def ending(ws: HandlerConnection) -> BaseException:
    """Return a way for a handler to learn of its connection's end; a different exception object each time."""
    try:
        await ws.recv()
    except ConnectionClosed as closed:
        return closed
    raise AssertionError("a message came")


async def raise_first(ws: HandlerConnection) -> None:
    first = await ending(ws)
    await ending(ws)
    raise first


async def raise_group(ws: HandlerConnection) -> None:
    raise Group(await ending(ws), Group(await ending(ws)))


async def raise_from(ws: HandlerConnection) -> None:
    raise LookupError("the user has left") from await ending(ws)


async def gather(ws: HandlerConnection) -> None:
    await asyncio.gather(ending_raised(ws), ending_raised(ws, 1), ws.wait_closed())


async def task_group(ws: HandlerConnection) -> None:
    if sys.version_info < (3, 11):  # lacks TaskGroup; then it is the same as `gather`
        await gather(ws)
    else:
        async with asyncio.TaskGroup() as group:
            group.create_task(ending_raised(ws))
            group.create_task(ending_raised(ws, 1))


async def ending_raised(ws: HandlerConnection, after: int = 0) -> None:
    """Wait for the end and raise it again; without two concurrent `recv`, which is a mistake."""
    if after:
        await ws.wait_closed()
    await ws.recv()


@pytest.mark.parametrize("code", [1000, 1006])
@pytest.mark.parametrize("handler", [raise_first, raise_group, raise_from, gather, task_group])
@in_loop
async def test_the_end_of_the_connection_is_no_failure_in_whatever_dress(
    log: pytest.LogCaptureFixture, handler: Callable[[HandlerConnection], Awaitable[None]], code: int
) -> None:
    master, fd = await begin(handler)
    with master:
        await end_connection(master, fd, code)
        assert master.scheduler.connections == {}
        assert master.counts.failures == {}
    assert log.records == []


@pytest.mark.parametrize("kind", ["group with another error", "raised while it ended", "of another connection"])
@in_loop
async def test_what_only_goes_along_with_the_end_is_a_failure(log: pytest.LogCaptureFixture, kind: str) -> None:
    async def handler(ws: HandlerConnection) -> None:
        closed = await ending(ws)
        if kind == "group with another error":
            raise Group(closed, ValueError("mine"))
        if kind == "of another connection":
            raise ConnectionClosedError(1006, "", ws.fd + 1)
        try:
            raise closed
        except ConnectionClosed:
            raise ValueError("mine")  # noqa: B904 - a mistake in what cleans up

    master, fd = await begin(handler)
    with master:
        await end_connection(master, fd)
        assert master.counts.failures == {"handler": 1}
    assert len(log.records) == 1


@in_loop
async def test_a_handler_whose_master_died_has_not_failed(log: pytest.LogCaptureFixture) -> None:
    async def handler(ws: HandlerConnection) -> None:
        await asyncio.Event().wait()

    master, _ = await begin(handler)
    with master:
        master.scheduler.master_died(master.link)
        await settle()
        assert master.counts.failures == {}
    assert log.records == []


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
