"""The connection that a coroutine handler is given. Names that the `websockets` library has too behave as there.

A message is acknowledged when the coroutine asks for the next one. So a handler that reads slowly slows down its own
client and no other.

A handler that waits in `recv` goes on as soon as the batch with its message is read: the scheduler runs its next step
(waiter.py). It takes all messages that have come without another wait, and its answers leave together.
"""

from __future__ import annotations

import asyncio
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
from zwoole.workers.core.counts import Counts
from zwoole.workers.core.fifo import Fifo
from zwoole.workers.core.waiter import Waiter
from zwoole.workers.links.arguments import refuse_message
from zwoole.workers.links.commands import Commands
from zwoole.workers.links.flow_control import FlowControl
from zwoole.workers.links.master_link import MasterLink

Data = str | bytes
Sendable = str | bytes | bytearray | memoryview  # made once, because making a union takes longer than using it
Handler = Callable[["HandlerConnection"], Awaitable[Any]]

OK_CODES = (CLOSE_NORMAL, CLOSE_GOING_AWAY, CLOSE_NO_STATUS)


class Received:
    """A message that the handler has not read.

    Attributes:
        sequence: the sequence number of its event.
        data: what it says.
    """

    __slots__ = ("data", "sequence")

    def __init__(self, sequence: int, data: Data) -> None:
        self.sequence = sequence
        self.data = data


class HandlerConnection:
    """One WebSocket connection, as its handler sees it. A handler may give it attributes of its own.

    Attributes:
        fd: the connection's id, as `Server.push` and the other commands take it.
        request: the HTTP request that opened the connection.
        close_code: the code that the connection was closed with; None while it is open.
        close_reason: the reason that it was closed with; None while it is open.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_closed",
        "_commands",
        "_counts",
        "_ended",
        "_flow_control",
        "_is_woken",
        "_link",
        "_loop",
        "_masters",
        "_messages",
        "_on_way",
        "_reader",
        "_room",
        "_share",
        "_task",
        "_unfinished",
        "close_code",
        "close_reason",
        "fd",
        "request",
    )

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
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self._link = link
        self._task: asyncio.Task[None] | None = None
        self._commands = commands
        self._masters = commands.masters
        self._flow_control = flow_control
        self._share = flow_control.share
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._messages = Fifo()  # those that were not read
        self._reader: Waiter | None = None  # of the task that waits in `recv`
        self._is_woken = False  # whether the scheduler is about to wake it
        self._unfinished: Received | None = None  # the message that `recv` returned last
        self._ended = False
        self._closed: asyncio.Future[None] = self._loop.create_future()
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
        while self._messages.is_empty():
            if self.close_code is not None:
                raise self._exception()
            self._reader = Waiter(self._loop)
            try:
                await self._reader
            finally:
                self._reader = None
        return self._take()

    def __aiter__(self) -> AsyncIterator[Data]:
        """Iterate over the messages, until the connection is closed with 1000, 1001 or without a code."""
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Data]:
        try:
            while True:
                if self._is_ready():
                    yield self._take()
                elif self.close_code is not None or self._reader is not None:
                    yield await self.recv()  # which raises
                else:
                    self._reader = Waiter(self._loop)  # the same as in `recv`, without a coroutine of its own
                    try:
                        await self._reader
                    finally:
                        self._reader = None
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
        if type(message) is not str and not isinstance(message, Sendable):
            pieces = await _join(message)
            if pieces is None:
                return
            message = pieces
        opcode = None if text is None else (OP_TEXT if text else OP_BINARY)
        if self._must_wait():
            await self._wait_for_room()
        if not self._push(message, opcode):
            await self.wait_closed()  # the event of its end is on its way, and has the code
            raise self._exception()

    def _must_wait(self) -> bool:
        """Tell whether too much is on its way to the master, or queued for the client."""
        return (
            self._on_way > self._share
            or self._room is not None
            or self._masters.links[0] is None
            or self._masters.congested()
        )

    async def _wait_for_room(self) -> None:
        await self._flow_control.drain()
        # BUFFER_FULL arrives before the credit for the bytes that filled the buffer.
        if self._on_way > self._share:
            self._on_way = 0
            await self._flow_control.sync(self._link)
        while self._room is not None and self.close_code is None:
            await asyncio.shield(self._room)

    def _push(self, message: Sendable, opcode: int | None) -> bool:
        """Push a message, and count its bytes; return False if the connection is closed."""
        link = self._link
        before = link.sent + link.writer.size
        if self._ended or not self._commands.push(self.fd, message, opcode):
            return False
        self._on_way += link.sent + link.writer.size - before
        return True

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
        received = Received.__new__(Received)
        received.sequence = sequence
        received.data = data
        self._messages.add(received)

    def _is_to_wake(self) -> bool:
        """Tell, once, that a task waits in `recv` and is to be woken."""
        if self._reader is None or self._is_woken:
            return False
        self._is_woken = True
        return True

    def _wake(self) -> None:
        """Have the task that waits in `recv` go on. Only code that no task runs may call it."""
        self._is_woken = False
        if self._reader is not None:
            self._reader.wake()

    def _wake_soon(self) -> None:
        """Have the loop let the task that waits in `recv` go on."""
        self._is_woken = False
        if self._reader is not None:
            self._reader.wake_soon()

    def _take_end(self, code: int, reason: str) -> None:
        """Take the end of the connection; messages that arrived before it can still be read."""
        self.close_code = code
        self.close_reason = reason
        if not self._closed.done():
            self._closed.set_result(None)
        self._let_send()

    def _buffer_changed(self, full: bool) -> None:
        """Take the event that much is queued for the client, so that `send` suspends, or that most of it has left."""
        if full and self._room is None:
            self._room = self._loop.create_future()
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
        while not self._messages.is_empty():
            received: Received = self._messages.take()
            self._acknowledge(received.sequence)

    def _acknowledge(self, sequence: int) -> None:
        """Acknowledge an event of this connection."""
        self._link.finished(sequence)
        self._counts.finished += 1
        on_output = self._commands.masters.on_output
        if on_output is not None:
            on_output()

    def _ended_by(self, error: BaseException) -> bool:
        """Tell whether `error` only says that this connection was closed, which is no failure of the handler."""
        if isinstance(error, asyncio.CancelledError):
            return self.close_code == CLOSE_ABNORMAL  # the scheduler cancels a handler whose connection's master died
        return only_says_closed(error, self.fd)

    def _is_ready(self) -> bool:
        """Finish the last message; tell whether there is another one that may be read."""
        self._finish_last()
        return not self._messages.is_empty() and self._reader is None

    def _take(self) -> Data:
        """Return the first message that was not read; there must be one."""
        received: Received = self._messages.take()
        self._unfinished = received
        return received.data

    def _finish_last(self) -> None:
        if self._unfinished is not None:
            sequence = self._unfinished.sequence
            self._unfinished = None
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
