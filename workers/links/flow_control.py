"""How coroutines wait until masters have taken output. A `def` callback waits inside `push` instead (masters.py)."""

from __future__ import annotations

import asyncio
from collections import deque

from zwoole.workers.links.master_link import MasterLink
from zwoole.workers.links.masters import Masters


class FlowControl:
    """The coroutines of a worker that wait for masters to take output; belongs to the running asyncio loop.

    Attributes:
        share: bytes that a handler sends to its client before it waits until the master has dealt with them.
    """

    def __init__(self, masters: Masters, output_limit: int) -> None:
        """Prepare to wait.

        Args:
            masters: the links that output goes over.
            output_limit: bytes that may wait to be sent to one client.
        """
        self.share = output_limit // 8
        self._masters = masters
        self._loop = asyncio.get_running_loop()
        self._drained: list[asyncio.Future[None]] = []
        self._syncing: dict[MasterLink, deque[tuple[int, asyncio.Future[None]]]] = {}  # bytes to be taken, in order

    async def drain(self) -> None:
        """Wait until pushes may go on, and until the worker is connected."""
        while self._masters.links[0] is None or self._masters.congested():
            waiter = self._loop.create_future()
            self._drained.append(waiter)
            await waiter

    async def sync(self, link: MasterLink) -> None:
        """Wait until a master has dealt with everything that it was sent, or is gone."""
        sent = link.sync()
        if self._masters.on_output is not None:  # sending may have used up the descriptor's edge
            self._masters.on_output()
        while link.credit < sent and not link.closed:
            waiter = self._loop.create_future()
            self._syncing.setdefault(link, deque()).append((sent, waiter))
            await waiter

    def resume(self) -> bool:
        """Wake the coroutines for which masters have taken enough; return whether events may be started too."""
        for link, line in self._syncing.items():
            while line and (line[0][0] <= link.credit or link.closed):
                _wake(line.popleft()[1])
        if self._masters.congested():
            return False
        for waiter in self._drained:
            _wake(waiter)
        self._drained.clear()
        return True

    def master_died(self, link: MasterLink) -> None:
        """Wake the coroutines that waited for a master."""
        self.resume()
        self._syncing.pop(link, None)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
