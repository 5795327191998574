"""The app's callbacks that run in the supervisor: start, before_shutdown, shutdown, worker_error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from zwoole.shared.process import forks
from zwoole.shared.process.log import get_logger
from zwoole.workers.server import Server

log = get_logger("supervisor")


class AppCallbacks:
    """Runs callbacks of the app in this process."""

    def __init__(self, server: Server) -> None:
        """Prepare to run the callbacks of a server."""
        self._server = server

    def run(self, event: str, *arguments: Any) -> None:
        """Run the callback of an event, if there is one. Its failure is logged, and nothing else comes of it."""
        callback = self._server.callbacks.get(event)
        if callback is None:
            return
        try:
            with forks.child_ends_here():
                result = callback(self._server, *arguments)
                if hasattr(result, "__await__"):
                    asyncio.run(waited_for(result))
        except BaseException:  # SystemExit too: only a signal or `zwoole stop` ends the supervisor gracefully
            log.exception("the %r callback failed", event)


async def waited_for(result: Awaitable[object]) -> None:
    """Await what a callback returned, a coroutine or another awaitable."""
    await result
