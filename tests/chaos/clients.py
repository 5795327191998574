"""The clients: each keeps several messages outstanding on one connection and checks every reply."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

OUTSTANDING = 8
STUCK_S = 20.0
NO_CLOSE_FRAME = 1006


@dataclass
class Ledger:
    """Exact counts of what the clients saw.

    Attributes:
        answered: messages answered, each once and in its turn.
        wrong: replies by what was wrong with them: lost, duplicated, reordered, stuck.
        closed: connections closed by the server, by close code.
        refused: connections that could not be opened, by kind of error.
    """

    answered: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    closed: Counter[int] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, other: Ledger) -> None:
        """Add the counts of another run."""
        self.answered += other.answered
        self.wrong += other.wrong
        self.closed += other.closed
        self.refused += other.refused


class Client:
    """One client, which connects again whenever its connection is closed.

    Attributes:
        mischief: appended to the next message sent, once: ":raise" or ":exit".
    """

    def __init__(self, number: int, port: int, ledger: Ledger) -> None:
        self.mischief = ""
        self._number = number
        self._port = port
        self._ledger = ledger
        self._stopping = False

    def stop(self) -> None:
        """Send nothing more; take what is still due, and leave."""
        self._stopping = True

    async def run(self) -> None:
        """Talk until told to stop."""
        while not self._stopping:
            try:
                url = f"ws://127.0.0.1:{self._port}/"
                async with connect(
                    url, compression=None, ping_interval=None, proxy=None, open_timeout=STUCK_S
                ) as connection:
                    await self._talk(connection)
            except ConnectionClosed as closed:
                self._ledger.closed[closed.rcvd.code if closed.rcvd else NO_CLOSE_FRAME] += 1
            except (OSError, InvalidHandshake, EOFError, TimeoutError) as error:
                self._ledger.refused[type(error).__name__] += 1
                await asyncio.sleep(0.02)

    async def _talk(self, connection: ClientConnection) -> None:
        due: list[str] = []
        sent = 0
        while due or not self._stopping:
            while len(due) < OUTSTANDING and not self._stopping:
                message = f"{self._number}:{sent}{self.mischief}"
                self.mischief = ""
                sent += 1
                due.append(message)
                await connection.send(message)
            try:
                reply = await asyncio.wait_for(connection.recv(), STUCK_S)
            except TimeoutError:
                self._ledger.wrong["stuck"] += 1
                return
            self._check(str(reply), due)

    def _check(self, reply: str, due: list[str]) -> None:
        if due and reply == due[0]:
            due.pop(0)
            self._ledger.answered += 1
        elif reply in due:  # those before it are missing, or come later, which counts again as duplicated
            self._ledger.wrong["lost"] += due.index(reply)
            del due[: due.index(reply) + 1]
        else:
            self._ledger.wrong["duplicated or reordered"] += 1
