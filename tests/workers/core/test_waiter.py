"""A waiter is a future as far as a task looks at one, and wakes its task at once."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from tests.workers.worker_parts import by_the_loop, in_loop, settle
from zwoole.workers.core.waiter import Waiter

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@in_loop
async def test_a_task_goes_on_within_wake() -> None:
    log: list[str] = []
    waiter = Waiter(asyncio.get_running_loop())

    async def waits() -> None:
        variable.set("mine")
        await waiter
        log.append(variable.get())
        assert asyncio.current_task() is task

    def wakes() -> None:
        log.append("before")
        waiter.wake()
        log.append("after")

    task = asyncio.ensure_future(waits())
    await settle()
    assert asyncio.isfuture(waiter)
    assert (waiter.done(), waiter.cancelled(), repr(waiter)) == (False, False, "<Waiter pending>")
    with pytest.raises(asyncio.InvalidStateError):
        waiter.result()
    await by_the_loop(wakes)
    assert log == ["before", "mine", "after"]
    assert task.done()
    assert (waiter.done(), waiter.cancelled(), repr(waiter)) == (True, False, "<Waiter done>")
    await by_the_loop(waiter.wake)  # nothing


@in_loop
async def test_a_task_may_be_left_to_the_loop() -> None:
    waiter = Waiter(asyncio.get_running_loop())

    async def waits() -> None:
        await waiter

    task = asyncio.ensure_future(waits())
    await settle()
    waiter.wake_soon()
    assert not task.done()
    await settle()
    assert task.done()
    waiter.wake_soon()  # nothing


@in_loop
async def test_a_wake_before_the_wait_is_not_lost() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    waiter.wake()
    await waiter
    other = Waiter(asyncio.get_running_loop())
    other.wake_soon()
    called: list[Any] = []
    other.add_done_callback(called.append)
    await settle()
    assert called == [other]


@pytest.mark.parametrize("message", [None, "why"])
@in_loop
async def test_a_cancelled_wait_ends_with_cancelled_error(message: str | None) -> None:
    waiter = Waiter(asyncio.get_running_loop())
    raised: list[asyncio.CancelledError] = []

    async def waits() -> None:
        try:
            await waiter
        except asyncio.CancelledError as error:
            raised.append(error)
            raise

    task = asyncio.ensure_future(waits())
    await settle()
    task.cancel(message) if message else task.cancel()
    assert (waiter.done(), waiter.cancelled(), repr(waiter)) == (True, True, "<Waiter cancelled>")
    await by_the_loop(waiter.wake)  # comes too late
    assert task.cancelled()
    assert raised[0].args == (() if message is None else (message,))
    assert waiter.cancel() is False


@in_loop
async def test_a_wait_that_is_over_cannot_be_cancelled() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    waiter.wake()
    assert waiter.cancel() is False
    assert waiter.result() is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_loop_ends_the_loop_and_not_the_owner(error: type[BaseException]) -> None:
    log: list[str] = []

    async def waits(waiter: Waiter) -> None:
        await waiter
        raise error

    def wakes(waiter: Waiter) -> None:
        waiter.wake()
        log.append("the owner goes on")

    async def scenario() -> None:
        waiter = Waiter(loop)
        task = asyncio.ensure_future(waits(waiter))
        await settle()
        loop.call_soon(wakes, waiter)
        await settle()
        assert task.done()
        task.exception()

    loop = asyncio.new_event_loop()
    main = loop.create_task(scenario())
    with pytest.raises(error):
        loop.run_until_complete(main)
    assert log == ["the owner goes on"]
    loop.run_until_complete(main)
    loop.close()
