"""A worker's parts without a process: a real link whose master end belongs to the test, and an asyncio loop."""

from __future__ import annotations

import asyncio
import functools
import os
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import msgpack
import zmq

from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.shared.memory import mapping
from zwoole.shared.memory.connection_table import ESTABLISHED, ConnectionTable
from zwoole.shared.memory.progress_map import RING, ProgressMap
from zwoole.shared.process.run_files import endpoint, progress_path
from zwoole.shared.request import pack_request
from zwoole.shared.wire.batches import BODY_INTEGER, BODY_TEXT, BatchReader, BatchWriter
from zwoole.shared.wire.events import ACK, CLOSE, HANDSHAKE, MESSAGE, OPEN
from zwoole.workers.invocation.dispatch import Dispatcher
from zwoole.workers.invocation.invocation import Invoker
from zwoole.workers.invocation.scheduler import Scheduler
from zwoole.workers.links.commands import Commands
from zwoole.workers.links.flow_control import FlowControl
from zwoole.workers.links.master_link import MasterLink
from zwoole.workers.links.masters import Masters

Command = tuple[int, int, Any]  # kind, number, body
SERVER = object()
PIPE_QUEUE_BYTES = 4 << 20
PATIENCE_MS = int(1000 * PATIENCE_S)
SLOW_S = 3600.0  # so no callback is reported as slow, unless the test advances the clock
M = TypeVar("M", bound="Master")


class Sent(NamedTuple):
    """What a worker sent: the commands and acknowledgements of all batches, in order."""

    commands: list[Command]
    batches: int

    @property
    def acknowledged(self) -> list[int]:
        """Sequence numbers in the order of their acknowledgements."""
        return [first + i for kind, first, count in self.commands if kind == ACK for i in range(count)]

    @property
    def others(self) -> list[Command]:
        """Everything except the acknowledgements."""
        return [command for command in self.commands if command[0] != ACK]


class Master:
    """The master's end of one link, a socket of libzmq, and what it shares with the worker."""

    def __init__(self, callbacks: dict[str, Callable[..., Any]] | None = None, up_window: int = 1 << 20) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="zwoole-test-")
        run_dir = Path(self._directory.name)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.bind(endpoint(run_dir, 1, 1))
        self.progress = ProgressMap(progress_path(run_dir, 1, 1), RING, create=True)
        table = mapping.anonymous("table", run_dir)
        self.table = ConnectionTable.create(table, 4096, 1)
        self.masters = Masters(1, up_window)
        self.commands = Commands(self.masters, PIPE_QUEUE_BYTES)
        self.link = MasterLink(run_dir, 1, 1, self.masters.flusher)
        while not (self.link.connect() and self.link.wire is not None and self.link.wire.ready):
            self.link.wait(PATIENCE_S)
            assert self.link.receive_new() is None
        self.up_window = up_window
        self.link.welcome(up_window, table)
        os.close(table)
        self.masters.links[0] = self.link
        self.masters.on_wait = lambda: None
        self.invoker = Invoker(SERVER, callbacks or {}, self.commands, SLOW_S)
        self.counts = self.invoker.counts
        self.dispatcher = Dispatcher(self.invoker, self.commands)
        self.rare: list[Command] = []
        self.dispatcher.on_command = self._take_command
        self.sequence = 0
        self.received = 0

    def __enter__(self: M) -> M:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.link.close(0)
        self.socket.close()
        self.context.term()
        self.masters.mailbox.abandon()
        self.progress.close()
        self._directory.cleanup()

    def _take_command(self, link: MasterLink, kind: int, number: int, body: bytes) -> bool:
        self.rare.append((kind, number, body))
        return kind < 100

    def connect(self) -> int:
        """Return the fd of a new established connection."""
        fd = self.table.next_sequence() + 1
        self.table.set_state(fd, ESTABLISHED)
        return fd

    def batch(self, *events: Command, credit: int = 0) -> list[bytes]:
        """Return the parts of a batch of events."""
        writer = BatchWriter()
        for kind, number, body in events:
            if isinstance(body, str):
                writer.add_text(kind, number, body.encode())
            elif body is None:
                writer.add(kind, number)
            else:
                writer.add_bytes(kind, number, body)
        parts = [bytes(part) for part in writer.take(self.sequence, credit)]
        self.sequence += len(events)
        return parts

    def send(self, *events: Command, credit: int = 0) -> None:
        """Send a batch over the link."""
        self.socket.send_multipart(self.batch(*events, credit=credit))

    def deliver(self, *events: Command, credit: int = 0) -> None:
        """Make the dispatcher take a batch."""
        self.dispatcher.take_batch(self.link, self.batch(*events, credit=credit))

    def sent(self) -> Sent:
        """Return everything that the worker has sent since the last call, including what it held back."""
        self.link.flush()
        commands: list[Command] = []
        batches = 0
        while self.received < self.link.sent:
            assert self.socket.poll(PATIENCE_MS)
            parts = self.socket.recv_multipart()
            self.received += sum(len(part) for part in parts)
            batches += 1
            event = BatchReader(parts)
            while event.next():
                body: Any = None
                if event.body_type == BODY_INTEGER:
                    body = event.body_integer
                elif event.body_type:
                    body = event.text() if event.body_type == BODY_TEXT else event.data()
                commands.append((event.kind, event.number, body))
        return Sent(commands, batches)


class AsyncMaster(Master):
    """The same for an app with coroutines; created in the running loop."""

    def __init__(
        self,
        callbacks: dict[str, Callable[..., Any]] | None = None,
        handlers: dict[str, Callable[..., Awaitable[Any]]] | None = None,
        up_window: int = 1 << 20,
        output_limit: int = 2 << 20,
    ) -> None:
        super().__init__(callbacks, up_window)
        self.masters.may_block = False
        self.flow_control = FlowControl(self.masters, output_limit)
        self.scheduler = Scheduler(self.invoker, self.commands, self.flow_control, handlers or {})
        self.dispatcher.scheduler = self.scheduler


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine as a test."""

    @functools.wraps(test)
    def run(*arguments: Any, **keywords: Any) -> None:
        async def scenario() -> None:
            await asyncio.wait_for(test(*arguments, **keywords), PATIENCE_S)

        asyncio.run(scenario())

    return run


def in_thread(function: Callable[[], object]) -> Any:
    """Return what the function returned or raised in another thread."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


async def settle() -> None:
    """Let the loop run until nothing is left to do."""
    for _ in range(20):
        await asyncio.sleep(0)


def next_batch(link: MasterLink) -> list[bytes]:
    """Return the next batch that the master has sent, which is not in the inbox."""

    def arrived() -> list[bytes]:
        link.wait(0.0)
        return link.receive_new() or []

    return wait_for(arrived, "a batch")


async def by_the_loop(function: Callable[[], object]) -> None:
    """Have the loop call a function, as it calls the worker's own code: no task runs meanwhile."""
    asyncio.get_running_loop().call_soon(function)
    await settle()


def opening(fd: int, path: str = "/", state: bytes = b"") -> Command:
    record = pack_request(path.encode(), [(b"Host", b"h")], "192.0.2.1", 4000, None)
    return OPEN, fd, msgpack.packb([record, state])


def asking(fd: int, path: str = "/") -> Command:
    return HANDSHAKE, fd, pack_request(path.encode(), [(b"Host", b"h")], "192.0.2.1", 4000, None)


def message(fd: int, data: str | bytes) -> Command:
    return MESSAGE, fd, data


def closing(fd: int, code: int = 1000, reason: str = "", initiator: str = "client") -> Command:
    return CLOSE, fd, msgpack.packb([code, reason, initiator])


def end(code: int, reason: str) -> bytes:
    """Return the body of a disconnect or fail."""
    packed: bytes = msgpack.packb([code, reason])
    return packed
