"""The connection that a coroutine handler is given. Names that the `websockets` library has too behave as there.

A message is acknowledged when the coroutine asks for the next one. So a handler that reads slowly slows down its own
client and no other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from zwoole.shared.errors import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    only_says_closed,
)
from zwoole.shared.request import Request
from zwoole.shared.websocket.close_codes import (
    CLOSE_ABNORMAL,
    CLOSE_GOING_AWAY,
    CLOSE_NO_STATUS,
    CLOSE_NORMAL,
    check_close,
)
from zwoole.shared.websocket.frames import OP_BINARY, OP_TEXT
from zwoole.workers.arguments import refuse_message
from zwoole.workers.commands import Commands
from zwoole.workers.counts import Counts
from zwoole.workers.flow_control import FlowControl
from zwoole.workers.link import MasterLink

Data = str | bytes
Sendable = str | bytes | bytearray | memoryview  # made once, because making a union takes longer than using it
Handler = Callable[["HandlerConnection"], Awaitable[Any]]

OK_CODES = (CLOSE_NORMAL, CLOSE_GOING_AWAY, CLOSE_NO_STATUS)


class HandlerConnection:
    """One WebSocket connection, as its handler sees it."""

    fd: int
    """The connection's id, as `Server.push` and the other commands take it."""
    request: Request
    """The HTTP request that opened the connection."""
    close_code: int | None
    """The code that the connection was closed with; None while it is open."""
    close_reason: str | None
    """The reason that it was closed with; None while it is open."""

    def __init__(
        self,
        fd: int,
        request: Request,
        link: MasterLink,
        commands: Commands,
        flow_control: FlowControl,
        counts: Counts,
    ) -> None:
        self.fd = fd
        self.request = request
        self.close_code = None
        self.close_reason = None
        self.link = link
        self.task: asyncio.Task[None] | None = None
        self._commands = commands
        self._flow_control = flow_control
        self._counts = counts
        self._messages: deque[tuple[int, Data]] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._unfinished: int | None = None  # sequence number of the message that `recv` returned last
        self._ended = False
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room: asyncio.Future[None] | None = None  # pending while too much is queued for the client
        self._on_way = 0  # bytes of this connection that the master may not have taken

    def __repr__(self) -> str:
        return f"<HandlerConnection fd={self.fd} path={self.request.path!r} close_code={self.close_code}>"

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on, None if there is none."""
        return self.request.subprotocol

    @property
    def remote_address(self) -> tuple[str, int]:
        """The client's address and port."""
        return self.request.remote_addr, self.request.remote_port

    # Receiving.

    async def recv(self) -> Data:
        """Return the next message, `str` for text, `bytes` for binary.

        Cancelling it loses no message.

        Raises:
            ConnectionClosedOK: the connection was closed with 1000, 1001 or without a code.
            ConnectionClosedError: it was closed otherwise.
            ConcurrencyError: another coroutine waits in `recv` already.
        """
        self._finish_last()
        if self._reader is not None:
            raise ConcurrencyError("another coroutine waits in recv() on this connection already")
        while not self._messages:
            if self.close_code is not None:
                raise self._exception()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        sequence, data = self._messages.popleft()
        self._unfinished = sequence
        self.link.started(sequence)
        return data

    async def __aiter__(self) -> AsyncIterator[Data]:
        """Iterate over the messages, until the connection is closed with 1000, 1001 or without a code.

        Raises:
            ConnectionClosedError: it was closed otherwise.
        """
        try:
            while True:
                yield await self.recv()
        except ConnectionClosedOK:
            return

    # Sending.

    async def send(self, message: Sendable | Iterable[Data] | AsyncIterable[Data], text: bool | None = None) -> None:
        """Send a message; suspends while too much is on its way to the master or queued for the client.

        Args:
            message: `str` is sent as text, bytes as binary. The pieces of an iterable are joined to one message; if
                there are no pieces, nothing is sent.
            text: True sends bytes as text, False text as binary.

        Raises:
            ConnectionClosed: the connection is closed.
            TypeError: the message, or a piece of it, is neither `str` nor bytes, or the pieces are of both kinds.
        """
        if not isinstance(message, Sendable):
            pieces = await _join(message)
            if pieces is None:
                return
            message = pieces
        opcode = None if text is None else (OP_TEXT if text else OP_BINARY)
        await self._flow_control.drain()
        link = self.link
        # BUFFER_FULL arrives before the credit for the bytes that filled the buffer.
        if self._on_way > self._flow_control.share:
            self._on_way = 0
            await self._flow_control.sync(link)
        while self._room is not None and self.close_code is None:
            await asyncio.shield(self._room)
        before = link.sent + link.writer.size
        if self._ended or not self._commands.push(self.fd, message, opcode):
            await self.wait_closed()  # the event of its end is on its way, and has the code
            raise self._exception()
        self._on_way += link.sent + link.writer.size - before

    async def close(self, code: int = CLOSE_NORMAL, reason: str = "") -> None:
        """Close the connection and wait for the end of the close handshake; nothing if it is closed already.

        Raises:
            ValueError: a close frame cannot carry that code or reason.
            TypeError: the reason is not a `str`.
        """
        check_close(code, reason)
        self._end(code, reason)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        await asyncio.shield(self._closed)

    # Only the scheduler calls these: hence the underscores.

    def _deliver(self, sequence: int, data: Data) -> None:
        """Take a message; after the handler's end it is acknowledged and dropped."""
        if self._ended:
            self._acknowledge(sequence)
            return
        self._messages.append((sequence, data))
        self._wake()

    def _take_end(self, code: int, reason: str) -> None:
        """Take the end of the connection; messages that arrived before it can still be read."""
        self.close_code = code
        self.close_reason = reason
        if not self._closed.done():
            self._closed.set_result(None)
        self._let_send()
        self._wake()

    def _buffer_changed(self, full: bool) -> None:
        """Take the event that much is queued for the client, so that `send` suspends, or that most of it has left."""
        if full and self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        elif not full:
            self._let_send()

    def _let_send(self) -> None:
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def _end(self, code: int, reason: str) -> None:
        """Have the connection closed, and acknowledge the messages that were not read."""
        if self._ended:
            return
        self._ended = True
        if self.close_code is None:
            self._commands.disconnect(self.fd, code, reason)
        self._finish_last()
        while self._messages:
            self._acknowledge(self._messages.popleft()[0])

    def _acknowledge(self, sequence: int) -> None:
        """Acknowledge an event of this connection."""
        self.link.finished(sequence)
        self._counts.finished += 1
        on_output = self._commands.masters.on_output
        if on_output is not None:
            on_output()

    def _ended_by(self, error: BaseException) -> bool:
        """Tell whether `error` only says that this connection was closed, which is no failure of the handler."""
        if isinstance(error, asyncio.CancelledError):
            return self.close_code == CLOSE_ABNORMAL  # the scheduler cancels a handler whose connection's master died
        return only_says_closed(error, self.fd)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _finish_last(self) -> None:
        if self._unfinished is not None:
            sequence, self._unfinished = self._unfinished, None
            self._acknowledge(sequence)

    def _exception(self) -> ConnectionClosed:
        """Return the exception to raise on a closed connection."""
        code = CLOSE_ABNORMAL if self.close_code is None else self.close_code
        kind = ConnectionClosedOK if code in OK_CODES else ConnectionClosedError
        return kind(code, self.close_reason or "", self.fd)


async def _join(pieces: Iterable[Data] | AsyncIterable[Data]) -> Data | None:
    """Return the pieces of an iterable joined to one message, None if there are none."""
    if not isinstance(pieces, Iterable | AsyncIterable) or isinstance(pieces, dict):  # a dict must be a mistake
        refuse_message(pieces)
    if isinstance(pieces, AsyncIterable):
        parts = [piece async for piece in pieces]
    else:
        parts = list(pieces)
    if not parts:
        return None
    if all(isinstance(part, str) for part in parts):
        return "".join(parts)  # type: ignore[arg-type]
    if all(isinstance(part, bytes | bytearray | memoryview) for part in parts):
        return b"".join(parts)  # type: ignore[arg-type]
    raise TypeError("the pieces of a message must be all str or all bytes")
