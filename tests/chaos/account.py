"""The account of a run: what was done, what came of it, and which invariants did not hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.clients import NO_CLOSE_FRAME
from tests.chaos.ledger import WRONGS, Ledger

DEATHS = ("KILL", "SEGV", "exit")


@dataclass
class Death:
    """What one death of a worker, with nothing else going on, has closed.

    Attributes:
        closed: connections closed by it.
        ages: for each of those, how long before the death its last callback had ended, in seconds; 0 for one that ran.
    """

    closed: int
    ages: list[float]


@dataclass
class Account:
    """What was done and what came of it.

    Attributes:
        deeds: pieces of mischief, by kind.
        reloads: reloads that were completed.
        ledger: what the clients saw.
        measured: the deaths that were measured, each on its own.
        broken: invariants that did not hold, in words.
    """

    deeds: Counter[str] = field(default_factory=Counter)
    reloads: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    measured: list[Death] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, other: Account) -> None:
        """Add another run's account."""
        self.deeds += other.deeds
        self.reloads += other.reloads
        self.ledger.add(other.ledger)
        self.measured += other.measured
        self.broken += other.broken

    @property
    def deaths(self) -> int:
        """Workers that were made to die."""
        return sum(self.deeds[kind] for kind in DEATHS)

    @property
    def mean_closed(self) -> float:
        """Connections closed by a measured death, on average."""
        return sum(death.closed for death in self.measured) / max(len(self.measured), 1)

    def judge(self, handler: bool) -> None:
        """Note every invariant that what the clients saw has broken.

        Args:
            handler: whether the app was a coroutine handler, whose connections its worker's end may cost.
        """
        ledger, deeds = self.ledger, self.deeds
        self.broken += [f"{count} {kind}" for kind, count in ledger.wrong.items()]
        allowed = {1011} if self.deaths or deeds["raise"] else set()
        if handler:
            allowed.add(1012)
        if deeds["stall"]:
            allowed.add(1013)
        if deeds["master"]:
            allowed.add(NO_CLOSE_FRAME)
        elif ledger.refused:
            self.broken.append(f"connections refused: {dict(ledger.refused)}")
        self.broken += [f"{count} closed with {code}" for code, count in ledger.closed.items() if code not in allowed]
        if ledger.answered == 0:
            self.broken.append("nothing was answered")

    def table(self) -> str:
        """Return the account as lines."""
        deeds, ledger = self.deeds, self.ledger
        others = [f"{count} {kind}" for kind, count in sorted(deeds.items()) if kind not in DEATHS]
        ages = [age for death in self.measured for age in death.ages]
        rows = {
            "messages answered": f"{ledger.answered:,}",
            "worker deaths": f"{self.deaths} ({', '.join(f'{deeds[kind]} {kind}' for kind in DEATHS)})",
            "reloads completed": str(self.reloads),
            "mischief beside deaths": ", ".join(others),
            "connections closed, by code": str(dict(sorted(ledger.closed.items()))),
            "connections refused": str(dict(ledger.refused) or 0),
            **{wrong: str(ledger.wrong[wrong]) for wrong in WRONGS},
            "pushes to others": f"{ledger.notes_sent:,} sent, {ledger.notes_arrived:,} arrived",
            "deaths measured": f"{len(self.measured)}; callbacks ended {max(ages, default=0) * 1000:.1f} ms before",
            "closes per kill": f"max {max((d.closed for d in self.measured), default=0)}, mean {self.mean_closed:.2f}",
            "broken invariants": "; ".join(self.broken) or "0",
        }
        return "\n".join(f"{name:<30}{value}" for name, value in rows.items())
