"""The clients: each keeps messages outstanding on one connection and checks every reply; when closed it comes again."""

from __future__ import annotations

import asyncio
import random
import time

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.chaos.ledger import Closing, Ledger, Post

OUTSTANDING = 8
STUCK_S = 60.0
NOTES = 0.05  # of all messages, those that have a note pushed to somebody else
IDLE_S = (0.1, 1.0)  # what an idle client waits between two messages
NO_CLOSE_FRAME = 1006


class Client:
    """One client that echoes through the app.

    Attributes:
        number: its number, by which the journal knows it.
        order: carried by the next message, once.
        connected: whether its connection is open and an answer has come on it.
        troubled: whether it has given an order that will end its connection, and that has not happened yet.
    """

    def __init__(
        self, number: int, port: int, ledger: Ledger, post: Post, idle: bool = False, flood: tuple[int, int] = (0, 0)
    ) -> None:
        """Prepare.

        Args:
            number: tells it from the others, and seeds its own chance.
            port: the server's.
            ledger: counts what it sees.
            post: whom it has notes pushed to.
            idle: whether it sends single messages with pauses between them.
            flood: send so many messages of so many bytes each, all before the first answer is read, and leave.
        """
        self.number = number
        self.order = ""
        self.connected = False
        self.troubled = False
        self._port = port
        self._ledger = ledger
        self._post = post
        self._idle = idle
        self._flood = flood
        self._random = random.Random(number)
        self._stopping = False
        self._begun = 0
        self._begin()

    def stop(self) -> None:
        """Send nothing more; take what is still due, and leave."""
        self._stopping = True

    def mark(self) -> tuple[int, int]:
        """Return where it stands, for `is_past`."""
        return self._begun, self._sent

    def is_past(self, mark: tuple[int, int]) -> bool:
        """Tell whether it has seen since then that its connection lives, by an answer to what it sent later, or has
        seen the end of it.
        """
        begun, sent = mark
        return self._begun != begun or self._sent - len(self._due) > sent

    async def run(self) -> None:
        """Talk until told to stop, or until a flood is over."""
        while not self._stopping:
            try:
                url = f"ws://127.0.0.1:{self._port}/"
                async with connect(
                    url, compression=None, ping_interval=None, proxy=None, open_timeout=STUCK_S
                ) as connection:
                    self._begin()
                    await self._talk(connection)
                    self._stopping = self._stopping or bool(self._flood[0])
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else NO_CLOSE_FRAME
                self._ledger.closings.append(Closing(self.number, code, self._sent - len(self._due)))
            except (OSError, InvalidHandshake, EOFError, TimeoutError) as error:
                self._ledger.refused[type(error).__name__] += 1
                await asyncio.sleep(0.02)
            finally:
                if self._skipped:
                    self._ledger.wrong["lost"] += len(self._skipped)
                self._begin()

    def _begin(self) -> None:
        """Have a new connection, on which nothing has been said."""
        self._begun += 1
        self.connected = False
        self.troubled = False
        self._fd = 0
        self._sent = 0
        self._due: list[str] = []
        self._skipped: set[str] = set()  # not answered though later ones were
        self._moved_at = time.monotonic()

    async def _talk(self, connection: ClientConnection) -> None:
        while not self._fd or self._due or not self._stopping:
            if self._flood[0] or (self._fd and not (self._idle and self._sent)):
                await self._send(connection)
            waits = self._due or not self._fd
            seconds = self._moved_at + STUCK_S - time.monotonic() if waits else self._random.uniform(*IDLE_S)
            try:
                text = await asyncio.wait_for(connection.recv(), max(seconds, 0.0))
            except TimeoutError:
                if waits:
                    self._ledger.wrong["stuck"] += 1
                    return
                await self._send(connection)
                continue
            self._take(str(text))
            if self._flood[0] and self._sent == self._flood[0] and not self._due:
                return

    async def _send(self, connection: ClientConnection) -> None:
        """Send as many messages as may be outstanding."""
        most = 1 if self._idle else OUTSTANDING
        if self._flood[0]:
            most = self._flood[0] - self._sent + len(self._due)
        while len(self._due) < most and not self._stopping:
            message = f"{self.number}:{self._sent}:{self._next_order()}"
            if not self._due:
                self._moved_at = time.monotonic()
            self._sent += 1
            self._due.append(message)
            await connection.send(message)

    def _next_order(self) -> str:
        order, self.order = self.order, ""
        self.troubled = self.troubled or bool(order)
        if self._flood[0]:
            return "x" * self._flood[1]
        return order or (self._post.order() if self._random.random() < NOTES else "")

    def _take(self, text: str) -> None:
        """Check one text from the server: our fd, a note, or the answer that is due."""
        if text.startswith("fd ") and not self._fd:
            self._fd = int(text[3:])
            self._post.introduce(self._fd)
        elif text.startswith("note "):
            self._post.deliver(text, self._fd)
        elif self._due and text == self._due[0]:
            self._due.pop(0)
            self._ledger.answered += 1
            self._moved_at = time.monotonic()
            self.connected = True
        else:
            self._take_wrong(text)

    def _take_wrong(self, text: str) -> None:
        """Say what is wrong with an answer that is not the one due."""
        number, _, rest = text.partition(":")
        if text in self._due:
            self._skipped |= set(self._due[: self._due.index(text)])
            del self._due[: self._due.index(text) + 1]
        elif text in self._skipped:
            self._skipped.remove(text)
            self._ledger.wrong["reordered"] += 1
        elif number == str(self.number) and int(rest.partition(":")[0]) < self._sent:
            self._ledger.wrong["duplicated"] += 1
        else:
            self._ledger.wrong["strays"] += 1
