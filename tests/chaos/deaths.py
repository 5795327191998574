"""One death at a time: which connections it closes, and whether each of them had to be closed.

A worker's death may close connections whose callback was running, and those whose callback ended so shortly before that
the acknowledgement may not have left. Order decides that: a worker's messages to a master leave in the order in which
they were written. So if a later callback of the same worker was answered over the same master, all earlier
acknowledgements have arrived, and none of those connections may be closed. The apps keep a journal that outlives them.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
import sys
import time
from typing import NamedTuple

from tests.chaos.account import Account, Death
from tests.chaos.apps import JOURNAL_CLIENTS, JOURNAL_MESSAGES, JOURNAL_WORDS
from tests.chaos.clients import OUTSTANDING, Client
from tests.chaos.ledger import Closing
from tests.process.server_process import ServerProcess
from zwoole.shared.errors import ZwooleError

JOURNAL = struct.Struct(f"{JOURNAL_CLIENTS * JOURNAL_MESSAGES * JOURNAL_WORDS}d")
REST_S = 60.0
KILLER = """
import os, sys, time
time.sleep(float(sys.argv[2]))
print(time.monotonic())
os.kill(int(sys.argv[1]), 9)
"""


class Entry(NamedTuple):
    """The journal's entry for one message: when its callback began and ended, the worker's pid, the fd."""

    began: float
    ended: float
    pid: int
    fd: int


class Deaths:
    """Kills single workers without other faults at the same time, and checks which connections that closes."""

    def __init__(self, server: ServerProcess, clients: list[Client], account: Account, chance: random.Random) -> None:
        self._server = server
        self._clients = clients
        self._account = account
        self._random = chance

    async def rest(self) -> bool:
        """Wait until every process serves and every client is served, so that earlier faults have no more effects."""
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

    async def _all_see(self) -> None:
        """Wait until every client has seen whether its connection is alive."""
        deadline = time.monotonic() + REST_S
        marks = [client.mark() for client in self._clients]
        while not all(client.is_past(mark) for client, mark in zip(self._clients, marks, strict=True)):
            if time.monotonic() > deadline:
                self._account.broken.append("a client has not seen whether its connection lives")
                return
            await asyncio.sleep(0.02)

    async def kill_one(self, judged: bool) -> None:
        """Kill one worker under load.

        Args:
            judged: whether connections may be closed only for a reason; those of a handler may all be closed.
        """
        if not await self.rest():
            return
        pid = self._random.choice(await asyncio.to_thread(self._server.pids, "worker"))
        closings = self._account.ledger.closings
        before = len(closings)
        killed, journal = await self._kill(pid)
        self._account.faults["KILL"] += 1
        await self.rest()
        await self._all_see()
        if judged:
            self._judge(pid, closings[before:], journal, killed)

    async def _kill(self, pid: int) -> tuple[float, list[list[Entry]]]:
        """Kill a worker; return the time, and the journal at its death, before its clients reconnect.

        A separate process kills it: between two turns of the clients' loop, a fast worker has always answered
        everything.
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

    def _judge(self, pid: int, closed: list[Closing], journal: list[list[Entry]], killed: float) -> None:
        """Compare the closed connections with those that may be closed.

        Args:
            pid: the worker's pid.
            closed: the connections that its death closed.
            journal: each client's entries, one per recent message.
            killed: when the worker was killed.
        """
        heard = self._heard(pid, closed, journal)
        ages = []
        without_cause = []
        for client in (closing.client for closing in closed):
            last = max(journal[client])
            ran = last.began > last.ended
            ages.append(0.0 if ran else max(killed - last.ended, 0.0))
            if not ran and (last.pid != pid or last.ended < heard[self._master(last.fd)]):
                without_cause.append(client)
        self._account.measured.append(Death(len(closed), ages))
        # One callback may be marked as begun although its worker died before its first instruction.
        if len(without_cause) > 1:
            self._account.broken.append(f"closed without a cause by one death: clients {without_cause}")

    def _heard(self, pid: int, closed: list[Closing], journal: list[list[Entry]]) -> list[float]:
        """Return for each master when the last callback began whose end it certainly knows of.

        It knows of all callbacks that ended on live connections, and on other connections of those that were answered.
        """
        answered = {closing.client: closing.answered for closing in closed}
        heard = [0.0] * self._server.reactors
        for client, entries in enumerate(journal):
            if client in answered:
                last = answered[client]
                entries = [entries[number % JOURNAL_MESSAGES] for number in range(max(last - OUTSTANDING, 0), last)]
            for entry in entries:
                if entry.pid == pid and entry.ended > entry.began:
                    master = self._master(entry.fd)
                    heard[master] = max(heard[master], entry.began)
        return heard

    def _master(self, fd: int) -> int:
        return (fd - 1) % self._server.reactors

    def _read_journal(self) -> list[list[Entry]]:
        words = JOURNAL.unpack((self._server.folder / "journal").read_bytes())
        entries = [
            Entry(began, ended, int(pid), int(fd))
            for began, ended, pid, fd in zip(*[iter(words)] * JOURNAL_WORDS, strict=True)
        ]
        return [entries[start : start + JOURNAL_MESSAGES] for start in range(0, len(entries), JOURNAL_MESSAGES)]
