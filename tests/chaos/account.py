"""The account of a run: the injected faults, their effects, and the invariants that did not hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.clients import NO_CLOSE_FRAME
from tests.chaos.ledger import WRONGS, Ledger

DEATHS = ("KILL", "SEGV", "exit")


@dataclass
class Death:
    """The connections that were closed by the death of one worker, without other faults at the same time.

    Attributes:
        closed: number of connections closed.
        ages: for each of them, seconds between the end of its last callback and the death; 0 if a callback was running.
    """

    closed: int
    ages: list[float]


@dataclass
class Account:
    """The injected faults and their effects.

    Attributes:
        faults: injected faults, by kind.
        reloads: completed reloads.
        ledger: what the clients saw.
        measured: deaths that were measured one at a time.
        broken: invariants that did not hold, in words.
    """

    faults: Counter[str] = field(default_factory=Counter)
    reloads: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    measured: list[Death] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, other: Account) -> None:
        """Add the account of another run."""
        self.faults += other.faults
        self.reloads += other.reloads
        self.ledger.add(other.ledger)
        self.measured += other.measured
        self.broken += other.broken

    @property
    def deaths(self) -> int:
        """Number of workers that were killed or made to exit."""
        return sum(self.faults[kind] for kind in DEATHS)

    @property
    def mean_closed(self) -> float:
        """Average number of connections closed by a measured death."""
        return sum(death.closed for death in self.measured) / max(len(self.measured), 1)

    def judge(self, handler: bool) -> None:
        """Record every invariant that is broken according to the clients.

        Args:
            handler: whether the app is a coroutine handler, whose connections may end with their worker.
        """
        ledger, faults = self.ledger, self.faults
        self.broken += [f"{count} {kind}" for kind, count in ledger.wrong.items()]
        allowed = {1011} if self.deaths or faults["raise"] else set()
        if handler:
            allowed.add(1012)
        if faults["stall"]:
            allowed.add(1013)
        if faults["master"]:
            allowed.add(NO_CLOSE_FRAME)
        elif ledger.refused:
            self.broken.append(f"connections refused: {dict(ledger.refused)}")
        self.broken += [f"{count} closed with {code}" for code, count in ledger.closed.items() if code not in allowed]
        if ledger.answered == 0:
            self.broken.append("nothing was answered")

    def table(self) -> str:
        """Return the account as lines."""
        faults, ledger = self.faults, self.ledger
        others = [f"{count} {kind}" for kind, count in sorted(faults.items()) if kind not in DEATHS]
        ages = [age for death in self.measured for age in death.ages]
        rows = {
            "messages answered": f"{ledger.answered:,}",
            "worker deaths": f"{self.deaths} ({', '.join(f'{faults[kind]} {kind}' for kind in DEATHS)})",
            "reloads completed": str(self.reloads),
            "faults besides deaths": ", ".join(others),
            "connections closed, by code": str(dict(sorted(ledger.closed.items()))),
            "connections refused": str(dict(ledger.refused) or 0),
            **{wrong: str(ledger.wrong[wrong]) for wrong in WRONGS},
            "pushes to others": f"{ledger.notes_sent:,} sent, {ledger.notes_arrived:,} arrived",
            "deaths measured": f"{len(self.measured)}; callbacks ended {max(ages, default=0) * 1000:.1f} ms before",
            "closes per kill": f"max {max((d.closed for d in self.measured), default=0)}, mean {self.mean_closed:.2f}",
            "broken invariants": "; ".join(self.broken) or "0",
        }
        return "\n".join(f"{name:<30}{value}" for name, value in rows.items())
