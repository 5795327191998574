"""Exact counts of what the clients of a run have seen, and the notes that they send each other."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

WRONGS = ("lost", "duplicated", "reordered", "stuck", "strays")
KNOWN_FDS = 80  # notes go to the latest ones: some are gone, some belong to a dead master


@dataclass(frozen=True)
class Closing:
    """One connection that the server closed: the client, how it ended, and how many messages had been answered on
    it.
    """

    client: int
    code: int
    answered: int


@dataclass
class Ledger:
    """Exact counts of what the clients saw.

    Attributes:
        answered: messages answered exactly once and in order.
        wrong: wrong replies, by one of WRONGS.
        closings: connections closed by the server, in order.
        refused: connections that could not be opened, by kind of error.
        notes_sent: requested pushes to other connections.
        notes_arrived: those that arrived, once and at the right connection.
    """

    answered: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    closings: list[Closing] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    notes_sent: int = 0
    notes_arrived: int = 0

    @property
    def closed(self) -> Counter[int]:
        """Connections closed by the server, by close code."""
        return Counter(closing.code for closing in self.closings)

    def add(self, other: Ledger) -> None:
        """Add the counts of another run."""
        self.answered += other.answered
        self.wrong += other.wrong
        self.closings += other.closings
        self.refused += other.refused
        self.notes_sent += other.notes_sent
        self.notes_arrived += other.notes_arrived


class Post:
    """Notes: numbered texts that one client has the app push to another's fd, where each may arrive at most once."""

    def __init__(self, chance: random.Random, ledger: Ledger) -> None:
        """Choose recipients with `chance`, and count notes in `ledger`."""
        self._random = chance
        self._ledger = ledger
        self._fds: list[int] = []
        self._given: set[int] = set()
        self._addressed: dict[str, int] = {}  # note -> the fd that it is for
        self._arrived: set[str] = set()

    def introduce(self, fd: int) -> None:
        """Add the fd of a new connection, which no earlier connection has had."""
        if fd in self._given:
            self._ledger.wrong["strays"] += 1
        self._given.add(fd)
        self._fds = [*self._fds[1 - KNOWN_FDS :], fd]

    def order(self) -> str:
        """Return an order to push a new note to some connection."""
        fd = self._random.choice(self._fds)
        self._ledger.notes_sent += 1
        address = f"{fd} {self._ledger.notes_sent}"
        self._addressed[f"note {address}"] = fd
        return f"push {address}"

    def deliver(self, note: str, fd: int) -> None:
        """Check a note that has arrived at a connection."""
        if self._addressed.get(note) != fd:
            self._ledger.wrong["strays"] += 1
        elif note in self._arrived:
            self._ledger.wrong["duplicated"] += 1
        else:
            self._arrived.add(note)
            self._ledger.notes_arrived += 1
