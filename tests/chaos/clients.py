"""Clients that keep messages outstanding on one connection, check every reply, and reconnect when they are closed."""

from __future__ import annotations

import asyncio
import random
import time

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.chaos.ledger import Closing, Ledger, Post

OUTSTANDING = 8
STUCK_S = 60.0
NOTES = 0.05  # share of messages whose callback pushes a note to another client
IDLE_S = (0.1, 1.0)  # pauses of an idle client between two messages
NO_CLOSE_FRAME = 1006


class Client:
    """One client that echoes through the app.

    Attributes:
        number: its number in the journal.
        order: carried by the next message, once.
        connected: whether its connection is open and has received an answer.
        troubled: whether it has sent an order that will end its connection, and the connection has not ended yet.
    """

    def __init__(
        self, number: int, port: int, ledger: Ledger, post: Post, idle: bool = False, flood: tuple[int, int] = (0, 0)
    ) -> None:
        """Prepare.

        Args:
            number: identifies the client and seeds its random numbers.
            port: the server's port.
            ledger: counts what the client sees.
            post: chooses the recipients of notes.
            idle: whether it sends single messages with pauses between them.
            flood: number and size of messages to send before it reads the first answer; then it leaves.
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
        """Send nothing more, wait for outstanding answers, and leave."""
        self._stopping = True

    def mark(self) -> tuple[int, int]:
        """Return the current state for `is_past`."""
        return self._begun, self._sent

    def is_past(self, mark: tuple[int, int]) -> bool:
        """Return whether the client has seen, since `mark`, that its connection is alive (a later message was
        answered) or has ended.
        """
        begun, sent = mark
        return self._begun != begun or self._sent - len(self._due) > sent

    async def run(self) -> None:
        """Run until told to stop, or until a flood is over."""
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
        """Start a new connection on which nothing was sent yet."""
        self._begun += 1
        self.connected = False
        self.troubled = False
        self._fd = 0
        self._sent = 0
        self._due: list[str] = []
        self._skipped: set[str] = set()  # unanswered, though later ones were answered
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
        """Check one text from the server: the fd, a note, or the expected answer."""
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
        """Record what is wrong with an unexpected answer."""
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
