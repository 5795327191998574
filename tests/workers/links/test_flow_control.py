"""Coroutines that wait until masters have taken output."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.workers.worker_parts import AsyncMaster, in_loop, message, settle

Frame = Any


@in_loop
async def test_drain_waits_until_the_master_has_taken_enough() -> None:
    done: list[int] = []

    async def callback(_: object, frame: Frame) -> None:
        for i in range(6):
            master.commands.push(frame.fd, b"x" * 1000)
            await master.flow_control.drain()
            done.append(i)

    with AsyncMaster({"message": callback}, up_window=2500) as master:
        master.deliver(message(master.connect(), "a"))
        await settle()
        assert done == [0, 1]
        master.sent()
        master.deliver(credit=master.link.sent)
        master.scheduler.resume()
        await settle()
        assert done == [0, 1, 2, 3, 4]
        master.sent()
        master.deliver(credit=master.link.sent)
        master.scheduler.resume()
        await settle()
        assert done == [0, 1, 2, 3, 4, 5]


@in_loop
async def test_a_cancelled_drain_does_no_harm() -> None:
    with AsyncMaster(up_window=100) as master:
        master.commands.push(master.connect(), b"x" * 200)
        waits = [asyncio.ensure_future(master.flow_control.drain()) for _ in range(2)]
        await settle()
        waits[0].cancel()
        master.sent()
        master.deliver(credit=master.link.sent)
        master.scheduler.resume()
        await settle()
        assert waits[1].done()
