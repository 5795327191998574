"""The harness: one app under load, a seeded series of mischief, and the account at the end."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.chaos.apps import APPS
from tests.chaos.clients import NO_CLOSE_FRAME, Client, Ledger
from tests.process.server_process import ServerProcess
from tests.process.waiting import wait_for

CLIENTS = 40
PAUSE_S = (0.02, 0.25)  # between two pieces of mischief
GARBAGE = (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 64, b"GET / HT")
DEATHS = ("KILL", "SEGV", "exit")
# Kinds of mischief and how often each is chosen.
KINDS = {
    "KILL": 6,
    "SEGV": 2,
    "exit": 2,
    "raise": 2,
    "reload": 4,
    "recycle": 2,
    "pause": 1,
    "garbage": 2,
    "scale": 1,
}
ALLOWED_GROWTH_BYTES = 64 * 1024 * 1024


@dataclass
class Account:
    """What was done and what came of it.

    Attributes:
        deeds: pieces of mischief, by kind.
        ledger: what the clients saw.
        closes_per_kill: connections closed by the server after each single death of a worker.
        broken: invariants that did not hold, in words.
    """

    deeds: Counter[str] = field(default_factory=Counter)
    ledger: Ledger = field(default_factory=Ledger)
    closes_per_kill: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, other: Account) -> None:
        """Add another run's account."""
        self.deeds += other.deeds
        self.ledger.add(other.ledger)
        self.closes_per_kill += other.closes_per_kill
        self.broken += other.broken

    @property
    def deaths(self) -> int:
        """Workers that were made to die."""
        return sum(self.deeds[kind] for kind in DEATHS)

    def table(self) -> str:
        """Return the account as lines."""
        closes = self.closes_per_kill or [0]
        deeds = self.deeds
        others = [f"{count} {kind}" for kind, count in sorted(deeds.items()) if kind not in (*DEATHS, "reload")]
        rows = {
            "messages answered": f"{self.ledger.answered:,}",
            "worker deaths": f"{self.deaths} ({', '.join(f'{deeds[kind]} {kind}' for kind in DEATHS)})",
            "reloads": str(deeds["reload"]),
            "other mischief": ", ".join(others),
            "connections closed, by code": str(dict(self.ledger.closed)),
            "connections refused": str(dict(self.ledger.refused)),
            "lost, duplicated, reordered, stuck": str(dict(self.ledger.wrong) or 0),
            "closes per kill": f"max {max(closes)}, mean {sum(closes) / len(closes):.2f}",
            "broken invariants": "; ".join(self.broken) or "0",
        }
        return "\n".join(f"{name:<36}{value}" for name, value in rows.items())


class Harness:
    """One run: an app, a seed, a time."""

    def __init__(self, app: str, seed: int, seconds: float, masters_too: bool = False) -> None:
        """Prepare a run.

        Args:
            app: one of APPS.
            seed: makes the series of mischief, its kinds and its pauses.
            seconds: how long it lasts.
            masters_too: whether masters are killed, which costs their clients' connections.
        """
        self._app = app
        self._random = random.Random(seed)
        self._seconds = seconds
        self._masters_too = masters_too
        self._account = Account()
        self._server: ServerProcess
        self._clients: list[Client] = []

    def run(self) -> Account:
        """Do it all, and judge."""
        with ServerProcess(APPS[self._app], workers=2, handover_timeout=2.0) as server:
            self._server = server.serve()
            before = self._state()
            asyncio.run(self._load())
            self._settle(before)
            code = server.stop()
            if code != 0:
                self._account.broken.append(f"exit code {code}")
        self._judge()
        return self._account

    async def _load(self) -> None:
        ledger = self._account.ledger
        self._clients = [Client(number, self._server.port, ledger) for number in range(CLIENTS)]
        talking = asyncio.gather(*(client.run() for client in self._clients))
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            await asyncio.sleep(self._random.uniform(*PAUSE_S))
            await self._do(self._choose())
        for client in self._clients:
            client.stop()
        await talking

    def _choose(self) -> str:
        kinds = dict(KINDS)
        if self._masters_too:
            kinds["master"] = 2
        return self._random.choices(list(kinds), list(kinds.values()))[0]

    async def _do(self, kind: str) -> None:
        """Do one piece of mischief, as far as there is somebody to do it to."""
        client = self._random.choice(self._clients)
        if kind in ("KILL", "SEGV"):
            closed = sum(self._account.ledger.closed.values())
            if not self._signal("worker", signal.Signals[f"SIG{kind}"]):
                return
            await asyncio.sleep(0.15)
            self._account.closes_per_kill.append(sum(self._account.ledger.closed.values()) - closed)
        elif kind in ("exit", "raise"):
            client.mischief = f":{kind}"
        elif kind == "reload":
            self._server.process.send_signal(signal.SIGHUP)
        elif kind == "recycle":
            self._signal("worker", signal.SIGTERM)
        elif kind == "pause":
            pid = self._signal("worker", signal.SIGSTOP)
            await asyncio.sleep(0.2)
            if pid:
                psutil.Process(pid).send_signal(signal.SIGCONT)
        elif kind == "garbage":
            await self._send_garbage()
        elif kind == "scale":
            self._server.process.send_signal(signal.SIGTTIN)
            await asyncio.sleep(0.3)
            self._server.process.send_signal(signal.SIGTTOU)
        elif kind == "master" and self._signal("master", signal.SIGKILL):
            await asyncio.sleep(1.0)
        self._account.deeds[kind] += 1

    def _signal(self, role: str, number: signal.Signals) -> int:
        """Send a signal to one process of the server; return its pid, 0 where there is none."""
        room = {"worker": "zwoole.workers", "master": "zwoole.reactor"}[role]
        found = []
        for process in psutil.Process(self._server.process.pid).children():
            try:
                if room in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        if not found:
            return 0
        chosen = self._random.choice(found)
        try:
            chosen.send_signal(number)
        except psutil.Error:
            return 0
        return chosen.pid

    async def _send_garbage(self) -> None:
        """Be a client that makes no sense, and leaves."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
            writer.write(self._random.choice(GARBAGE))
            await writer.drain()
            writer.close()
        except OSError:
            pass

    # The judgement.

    def _state(self) -> dict[str, Any]:
        """Return what must be again as it was when the load is over."""
        self._server.wait_ready()
        master = psutil.Process(self._server.pids("master")[0])
        return {
            "descriptors of the master": master.num_fds(),
            "processes": len(psutil.Process(self._server.process.pid).children(recursive=True)),
            "files": len(list(self._server.run_dir.iterdir())),
            "memory of the master": master.memory_info().rss,
        }

    def _settle(self, before: dict[str, Any]) -> None:
        """Wait for everything to be as before, and note what is not."""

        def differences() -> list[str]:
            now = self._state()
            grown = now.pop("memory of the master") - before["memory of the master"]
            found = [f"{name}: {value}, before {before[name]}" for name, value in now.items() if value > before[name]]
            if grown > ALLOWED_GROWTH_BYTES:
                found.append(f"the master has grown by {grown} bytes")
            status = self._server.status()["masters"][0]
            for name in ("connections", "parked_bytes", "queued_bytes"):
                if status[name]:
                    found.append(f"{name}: {status[name]}")
            if any(worker["outstanding"] for worker in status["workers"]):
                found.append("events are outstanding")
            return found

        try:
            wait_for(lambda: not differences(), "everything to be as before", within=20)
        except AssertionError:
            self._account.broken += differences()

    def _judge(self) -> None:
        ledger, broken, deeds = self._account.ledger, self._account.broken, self._account.deeds
        broken += [f"{count} {kind}" for kind, count in ledger.wrong.items()]
        allowed = {1011} if self._account.deaths or deeds["raise"] else set()
        if self._app == "handler":
            allowed.add(1012)
        if deeds["master"]:
            allowed.add(NO_CLOSE_FRAME)
        broken += [f"{count} closed with {code}" for code, count in ledger.closed.items() if code not in allowed]
        if deeds["master"] == 0 and ledger.refused:
            broken.append(f"connections refused: {dict(ledger.refused)}")
        if ledger.answered == 0:
            broken.append("nothing was answered")
