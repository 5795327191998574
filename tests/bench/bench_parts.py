"""Servers for the tests of the load tester, correct ones and faulty ones, each on an event loop in its own thread."""

from __future__ import annotations

import asyncio
import queue
import socket
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.utils import accept_key

from zwoole.bench.loadtest.client import Clock, LoadClient, Window
from zwoole.bench.loadtest.connection import clock_ns
from zwoole.bench.loadtest.opener import Address, Dialer, Opened, open_connections
from zwoole.bench.loadtest.plan import Plan, Target
from zwoole.bench.loadtest.tally import FOREVER_NS

DEADLINE_S = 60
OVER_NS = 10**15
CERTIFICATE = Path(__file__).with_name("localhost.pem")

_closed = socket.socket()
_closed.bind(("127.0.0.1", 0))

Handler = Callable[[ServerConnection], Awaitable[None]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextmanager
def in_thread(server: Callable[[], AbstractAsyncContextManager[int]], secure: bool = False) -> Iterator[Target]:
    """Run a server, given as a context manager that yields its port."""
    started: queue.Queue[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def run() -> None:
        stop = asyncio.Event()
        async with server() as port:
            started.put((port, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    port, loop, stop = started.get(timeout=DEADLINE_S)
    try:
        yield Target("127.0.0.1", port, "/", secure)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def websocket_server(handler: Handler, secure: bool = False, **options: Any) -> AbstractContextManager[Target]:
    """Return a server of the websockets library; ``options`` are passed to its serve()."""
    patience = {"open_timeout": DEADLINE_S, "close_timeout": DEADLINE_S}
    given = {"compression": None, "ping_interval": None, "max_size": 2**21, **patience, **options}

    @asynccontextmanager
    async def server() -> AsyncIterator[int]:
        tls = server_context() if secure else None
        async with serve(handler, "127.0.0.1", 0, ssl=tls, **given) as running:
            yield next(iter(running.sockets)).getsockname()[1]

    return in_thread(server, secure)


def raw_server(handler: RawHandler) -> AbstractContextManager[Target]:
    @asynccontextmanager
    async def server() -> AsyncIterator[int]:
        async with await asyncio.start_server(handler, "127.0.0.1", 0) as running:
            yield running.sockets[0].getsockname()[1]

    return in_thread(server)


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def closed_port() -> Target:
    """Return a port that refuses connections: this process has bound it and does not listen."""
    return Target("127.0.0.1", _closed.getsockname()[1], "/")


async def echo(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


def echo_but(number: int, answer: Callable[[ServerConnection, str | bytes], Awaitable[None]]) -> Handler:
    """Return a handler that echoes, except that ``answer`` handles the message of that number."""

    async def handler(connection: ServerConnection) -> None:
        seen = 0
        try:
            async for message in connection:
                if seen == number:
                    await answer(connection, message)
                else:
                    await connection.send(message)
                seen += 1
        except ConnectionClosed:
            pass

    return handler


class Room:
    """A handler that sends every message to all connections, possibly changed by ``spoil``.

    ``spoil`` receives the number of the copy and the message, and returns what to send instead.
    """

    def __init__(self, spoil: Callable[[int, str | bytes], list[str | bytes]] = lambda _, message: [message]) -> None:
        self._members: set[ServerConnection] = set()
        self._spoil = spoil

    async def __call__(self, connection: ServerConnection) -> None:
        self._members.add(connection)
        copies = 0
        try:
            async for message in connection:
                for sent in self._spoil(copies, message):
                    broadcast(self._members, sent)
                copies += 1
        except ConnectionClosed:
            pass
        finally:
            self._members.discard(connection)


def answering(response: bytes, then_close: bool = False) -> RawHandler:
    """Return a handler that answers every request with these bytes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        if not then_close:
            await reader.read()
        writer.close()

    return handler


def upgrading_only(
    greeting: bytes = b"", fields: bytes = b"", after: Callable[..., Awaitable[Any]] | None = None
) -> RawHandler:
    """Return a handler that answers the upgrade, with a greeting in the same write, and sends nothing else.

    It closes the connection after ``after(reader, writer)``, by default when the client has closed it.
    """

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = request.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        response = f"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n"
        writer.write(response.encode() + fields + b"\r\n" + greeting)
        try:
            await (after(reader, writer) if after else reader.read())
        finally:
            writer.close()

    return handler


# The client's side.


def open_to(
    plan: Plan, timeout_s: float = DEADLINE_S, report: Callable[[int, Counter[str]], None] | None = None
) -> Opened:
    """Open the connections of a plan without trying the server first."""
    address = Address(socket.AF_INET, (plan.target.host, plan.target.port))
    return open_connections(Dialer(plan, address, timeout_s), plan.connections, report=report)


def window(opens_in_s: float = 0.0, duration_s: float = 0.0) -> Window:
    """Return a window with one interval; without a duration it does not end."""
    now_ns = clock_ns()
    length_ns = int(duration_s * 1e9) or FOREVER_NS - now_ns
    return Window(now_ns, now_ns + int(opens_in_s * 1e9), length_ns, 1)


class Until(Clock):
    """Real time until a condition holds; then every wait is over."""

    def __init__(self, condition: Callable[[LoadClient], bool]) -> None:
        self.client: LoadClient
        self._condition = condition
        self._over = False

    def now_ns(self) -> int:
        self._over = self._over or self._condition(self.client)
        return clock_ns() + OVER_NS * self._over


class Run:
    """The counts of a LoadClient on a plan, in the window and, in ``later``, after it."""

    def __init__(
        self, plan: Plan, when: Window | None = None, until: Callable[[LoadClient], bool] = lambda _: False
    ) -> None:
        """Run the client; stop waiting when ``until`` is true of it."""
        opened = open_to(plan)
        assert not opened.errors, opened.first_error
        clock = Until(until)
        self.client = clock.client = LoadClient(plan, opened.attempts, clock=clock)
        self.client.run(when or window())
        self.client.close()
        self.errors = dict(self.client.errors)
        parts = self.client.tally.take_finished()
        self.later = sum(part[1] for part in parts if part[0] > 0)
        counted = [part for part in parts if part[0] == 0]
        self.messages = sum(part[1] for part in counted)
        self.payload_bytes = sum(part[2] for part in counted)
        self.latencies = [sum(counts) for counts in zip(*(part[3] for part in counted), strict=True)]
