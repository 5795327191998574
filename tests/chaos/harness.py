"""The harness: one app under load, a seeded series of faults, and the account at the end."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import Iterator

from tests.chaos.account import Account
from tests.chaos.apps import APPS
from tests.chaos.baseline import Baseline
from tests.chaos.clients import Client
from tests.chaos.deaths import JOURNAL, Deaths
from tests.chaos.intruders import WINDOW_BYTES, Intruders
from tests.chaos.ledger import Post
from tests.process.server_process import ServerProcess

BUSY = 30
IDLE = 30
PAUSE_S = (0.02, 0.1)  # between two faults
# Kinds of faults and how often each is chosen.
KINDS = {
    "kill one": 6,
    "KILL": 16,
    "KILL all": 8,
    "SEGV": 6,
    "exit": 8,
    "raise": 2,
    "reload": 20,
    "reloads": 1,
    "recycle": 2,
    "pause": 1,
    "garbage": 2,
    "scale": 1,
    "flood": 1,
    "stall": 1,
    "crowd": 1,
}
ALONE = ("flood", "stall", "crowd")  # these start only when earlier faults have no more effects
HANDLER = "handler"


class Harness:
    """One run: an app, a seed, a duration."""

    def __init__(
        self, app: str, seed: int, seconds: float, masters_too: bool = False, workers: int = 2, reactors: int = 1
    ) -> None:
        """Prepare a run.

        Args:
            app: one of APPS.
            seed: determines the series of faults and the pauses between them.
            seconds: duration of the run.
            masters_too: whether masters are killed too, which closes their clients' connections.
            workers: number of workers.
            reactors: number of masters.
        """
        self._app = app
        self._random = random.Random(seed)
        self._seconds = seconds
        self._masters_too = masters_too
        self._account = Account()
        self._post = Post(self._random, self._account.ledger)
        self._server = ServerProcess(
            APPS[app], workers=workers, reactor_num=reactors, handover_timeout=0.5, window_bytes=WINDOW_BYTES
        )
        (self._server.folder / "journal").write_bytes(bytes(JOURNAL.size))

    def run(self) -> Account:
        """Run, check, and return the account."""
        account = self._account
        with self._server as server:
            server.serve()
            baseline = Baseline(server)
            asyncio.run(self._load())
            account.broken += baseline.settle()
            code = server.stop()
            if code != 0:
                account.broken.append(f"exit code {code}")
            account.reloads = server.log().count("reload: done")
            account.broken += unexpected_ends(server.log(), self._account.faults["master"])
        account.judge(self._app == HANDLER)
        return account

    async def _load(self) -> None:
        ledger, port = self._account.ledger, self._server.port
        clients = [Client(number, port, ledger, self._post, idle=number >= BUSY) for number in range(BUSY + IDLE)]
        self._deaths = Deaths(self._server, clients, self._account, self._random)
        self._intruders = Intruders(self._server, self._account, self._post, self._random)
        talking = asyncio.gather(*(client.run() for client in clients))
        end = time.monotonic() + self._seconds
        for number, kind in enumerate(self._series()):
            if time.monotonic() > end and number >= len(KINDS) + self._masters_too:  # each at least once
                break
            await asyncio.sleep(self._random.uniform(*PAUSE_S))
            if kind in ("exit", "raise"):
                self._random.choice(clients[:BUSY]).order = kind
                self._account.faults[kind] += 1
            elif kind not in ALONE or await self._deaths.rest():
                await self._do(kind)
        await self._deaths.rest()
        for client in clients:
            client.stop()
        await talking

    def _series(self) -> Iterator[str]:
        """Yield kinds of faults: each once, then at random with their weights."""
        kinds = {**KINDS, "master": 2} if self._masters_too else KINDS
        yield from self._random.sample(list(kinds), len(kinds))
        while True:
            yield from self._random.choices(list(kinds), list(kinds.values()), k=100)

    async def _do(self, kind: str) -> None:
        """Inject one fault, if it has a target now."""
        server = self._server.process
        if kind == "kill one":
            await self._deaths.kill_one(judged=self._app != HANDLER)
            return
        if kind in ("KILL", "SEGV"):
            if not await self._signal("worker", signal.Signals[f"SIG{kind}"]):
                return
        elif kind == "KILL all":
            for pid in await asyncio.to_thread(self._processes, "worker"):
                if _send(pid, signal.SIGKILL):
                    self._account.faults["KILL"] += 1
        elif kind == "reload":
            server.send_signal(signal.SIGHUP)
        elif kind == "reloads":
            for _ in range(5):
                server.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.01)
        elif kind == "recycle":
            await self._signal("worker", signal.SIGTERM)
        elif kind == "pause":
            pid = await self._signal("worker", signal.SIGSTOP)
            await asyncio.sleep(0.2)
            if pid:
                _send(pid, signal.SIGCONT)
        elif kind == "scale":
            server.send_signal(signal.SIGTTIN)
            await asyncio.sleep(0.3)
            server.send_signal(signal.SIGTTOU)
        elif kind == "master":
            if not await self._signal("master", signal.SIGKILL):
                return
            await asyncio.sleep(0.5)
        else:
            await {
                "garbage": self._intruders.garbage,
                "flood": self._intruders.flood,
                "stall": self._intruders.stall,
                "crowd": self._intruders.crowd,
            }[kind]()
        self._account.faults[kind] += 1

    async def _signal(self, role: str, number: signal.Signals) -> int:
        """Send a signal to one process of the server; return its pid, 0 if there is none."""
        found = await asyncio.to_thread(self._processes, role, True)  # takes a while; the load goes on
        pid = self._random.choice(found) if found else 0
        return pid if pid and _send(pid, number) else 0

    def _processes(self, role: str, serving: bool = False) -> list[int]:
        """Return the pids of a role: of serving processes only, or also of those that boot."""
        processes = self._server.report()["processes"]
        return [p["pid"] for p in processes if p["role"] == role and (p["ready"] or not serving)]


def unexpected_ends(log: str, killed: int) -> list[str]:
    """Return the lines of a server's log that report the end of a master; none if `killed` of them were killed."""
    ends = [line for line in log.splitlines() if re.search(r"ERROR master \d+ \(pid \d+\) ", line)]
    return [line for line in ends if not (killed and "SIGKILL" in line)]


def _send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; return whether the process was there to receive it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
