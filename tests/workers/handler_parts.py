"""A coroutine handler and the master that it talks to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.workers.worker_parts import AsyncMaster, closing, opening, settle
from zwoole.shared.memory.connection_table import CLOSING
from zwoole.workers.invocation.handlers import HandlerConnection

Handler = Callable[[HandlerConnection], Awaitable[Any]]


async def begin(handler: Handler) -> tuple[AsyncMaster, int]:
    """Return a master and the fd of a connection that the handler serves."""
    master = AsyncMaster(handlers={"/ws": handler})
    fd = master.connect()
    master.deliver(opening(fd, "/ws"))
    await settle()
    return master, fd


async def say(master: AsyncMaster, *events: Any) -> None:
    master.deliver(*events)
    await settle()


async def end_connection(master: AsyncMaster, fd: int, code: int = 1000, reason: str = "") -> None:
    master.table.set_state(fd, CLOSING)
    await say(master, closing(fd, code, reason))


def commands(master: AsyncMaster) -> list[Any]:
    return master.sent().others
