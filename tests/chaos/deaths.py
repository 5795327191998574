"""One death at a time: which connections it closes, and whether each of them had to be closed.

Output leaves a worker within 2 ms, so its death may cost the connections whose callback was running, and those whose
callback had ended so shortly before that the word of it may not have left. The apps keep a journal of both that
outlives them.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
import sys
import time

from tests.chaos.account import Account, Death
from tests.chaos.apps import JOURNAL_CLIENTS
from tests.chaos.clients import Client
from tests.process.server_process import ServerProcess
from zwoole.shared.errors import ZwooleError

RECENT_S = 0.02  # the few milliseconds: a flush and the way of its bytes, on cores that are shared
WAITED_S = 0.2  # what a worker may have had to wait for a core
REST_S = 60.0
SEEN_S = 0.1  # what clients take to see that they were closed
KILLER = """
import os, sys, time
time.sleep(float(sys.argv[2]))
print(time.monotonic())
os.kill(int(sys.argv[1]), 9)
"""


class Deaths:
    """Kills single workers while nothing else goes on, and judges what that closes."""

    def __init__(self, server: ServerProcess, clients: list[Client], account: Account, chance: random.Random) -> None:
        self._server = server
        self._clients = clients
        self._account = account
        self._random = chance

    async def rest(self) -> bool:
        """Wait until every process serves and every client is served: what was done before has come to its end."""
        deadline = time.monotonic() + REST_S
        while time.monotonic() < deadline:
            served = all(client.connected and not client.order and not client.troubled for client in self._clients)
            if served and await asyncio.to_thread(self._at_rest):
                return True
            await asyncio.sleep(0.02)
        self._account.broken.append("the server did not come to rest")
        return False

    def _at_rest(self) -> bool:
        try:
            processes = self._server.report()["processes"]
        except ZwooleError:
            return False
        expected = self._server.workers + self._server.reactors
        return len(processes) == expected and all(process["ready"] for process in processes)

    async def kill_one(self, judged: bool) -> None:
        """Kill one worker under load.

        Args:
            judged: whether only connections with a cause may be closed; a handler's may all be.
        """
        if not await self.rest():
            return
        pid = self._random.choice(await asyncio.to_thread(self._server.pids, "worker"))
        closings = self._account.ledger.closings
        before = len(closings)
        killed, journal = await self._kill(pid)
        self._account.deeds["KILL"] += 1
        if await self.rest():
            await asyncio.sleep(SEEN_S)
        if judged:
            self._judge([(closing.client, closing.due) for closing in closings[before:]], journal, killed)

    async def _kill(self, pid: int) -> tuple[float, list[tuple[float, float]]]:
        """Kill a worker; return when that was, and the journal at its end, before its clients have come back.

        Another process does it: between two turns of the clients' loop a quick worker has always answered everything.
        """
        pidfd = os.pidfd_open(pid)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, ended.set)
        killer = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", KILLER, str(pid), str(self._random.uniform(0.02, 0.1))),
            stdout=asyncio.subprocess.PIPE,
        )
        await ended.wait()
        journal = self._read_journal()
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        said, _ = await killer.communicate()
        return float(said), journal

    def _judge(self, closed: list[tuple[int, bool]], journal: list[tuple[float, float]], killed: float) -> None:
        """Compare what was closed with what may be.

        Args:
            closed: for each connection, its client's number and whether answers were due.
            journal: for each client, when its last callback began and ended.
            killed: when the worker was killed.
        """
        ages = []
        without_cause = []
        last = max((max(journal[client]) for client, _ in closed), default=killed)
        # Where it had to wait for a core, the time between its last step and its end is none in which it could send.
        end = last if killed - last < WAITED_S else killed
        for client, due in closed:
            began, ended = journal[client]
            age = 0.0 if began > ended else max(end - ended, 0.0)
            ages.append(age)
            if age > RECENT_S:
                without_cause.append((due, round(age, 3)))
        self._account.measured.append(Death(len(closed), ages))
        # One callback may have been marked as begun and have died in front of its first instruction.
        if len(without_cause) > 1 or not all(due for due, _ in without_cause):
            self._account.broken.append(f"closed without a cause by one death (answers due, age): {without_cause}")

    def _read_journal(self) -> list[tuple[float, float]]:
        numbers = struct.unpack(f"{JOURNAL_CLIENTS * 2}d", (self._server.folder / "journal").read_bytes())
        return list(zip(numbers[::2], numbers[1::2], strict=True))
