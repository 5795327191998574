"""A whole reactor without a process: real parts, a clock that the test advances, and clients and workers within reach.

Clients and workers are the other ends of socket pairs, which deliver at once.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, cast

import msgpack

from tests.client_frames import client_frame
from tests.conftest import Time
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.reactor import reactor
from zwoole.reactor.clients.opening import Routes
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import STAGE_OPEN
from zwoole.reactor.core.deadlines import Clock
from zwoole.reactor.core.worker_link import WorkerLink
from zwoole.reactor.pool.pool import link_limits
from zwoole.shared.memory import mapping
from zwoole.shared.memory.connection_table import ESTABLISHED, ConnectionTable
from zwoole.shared.memory.progress_map import RING, ProgressMap
from zwoole.shared.settings import Settings
from zwoole.shared.wire.batches import BODY_TEXT, BatchReader, BatchWriter
from zwoole.shared.wire.events import ACK
from zwoole.shared.wire.zmtp_socket import ZmtpSocket

STEP_S = 0.5  # step of the clock: more than a second at once would count as a pause of the whole process
SLEEP_S = 0.01  # the longest sleep, in real seconds


class Epoll:
    """An epoll that records its last poll.

    Attributes:
        timeout: how long it was asked to wait.
        found: what was ready.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.register, self.modify, self.unregister = self._epoll.register, self._epoll.modify, self._epoll.unregister
        self.timeout = 0.0
        self.found: list[tuple[int, int]] = []

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        self.timeout = timeout
        self.found = self._epoll.poll(min(timeout, SLEEP_S), most)
        return self.found


class Event(NamedTuple):
    """An event that a worker was sent."""

    sequence: int
    kind: int
    fd: int
    body: Any


class Reactor(reactor.Reactor):
    """A master's parts, built as the program builds them, with a clock and an epoll of the test's own.

    Workers and clients are the test's too: they are made by `worker`, `client` and `open_client`.

    Attributes:
        told: what the supervisor was told: the type of each control message, and its fields.
    """

    def __init__(
        self, places: int = 256, run_dir: Path | None = None, sockets: Sequence[socket.socket] = (), **settings: Any
    ) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="zwoole-test-")
        self.run_dir = run_dir or Path(self.directory.name)
        self.settings = Settings().update({"worker_num": 1, **settings})
        self.epoll = Epoll()
        self.time = Time()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.has_stopped = False
        super().__init__(
            *(self.run_dir, 1, 0, list(sockets), self.new_table(places), self.settings),
            tell=lambda kind, **fields: self.told.append((kind, fields)),
            stopped=self._stopped,
            epoll=cast(select.epoll, self.epoll),
            clock=Clock(self.time),
        )
        self.table = self.registry.table
        self.opening.routes = Routes(callbacks=True, handlers=["/handler"])
        self.workers: list[Worker] = []
        self.clients: list[Client] = []
        self._ready_read, self._ready_write = os.pipe()
        os.write(self._ready_write, b"x")
        self.loop.add_source(self._ready_read, lambda: None)  # always readable, so no turn sleeps

    @property
    def wire_errors(self) -> list[str]:
        """What workers are to be killed for."""
        return [fields["why"] for kind, fields in self.told if kind == "kill"]

    @property
    def served(self) -> list[int]:
        """The workers that have finished their first event."""
        return [fields["incarnation"] for kind, fields in self.told if kind == "served"]

    def reconnect(self, **changed: Any) -> None:
        """Have the loop call something else than the reactor's parts; see Calls for the names."""
        self.loop.connect(self.calls._replace(**changed))

    def _stopped(self) -> None:
        assert not self.has_stopped
        self.has_stopped = True

    def new_table(self, connections: int) -> ConnectionTable:
        """Return an empty connection table."""
        descriptor = mapping.anonymous("table", Path(self.directory.name))
        try:
            return ConnectionTable.create(descriptor, connections, 1)
        finally:
            os.close(descriptor)

    def __enter__(self) -> Reactor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self.clients:
            client.socket.close()
        for connection in self.registry:
            os.close(connection.descriptor)
        for worker in self.workers:
            worker.close()
        self.close()
        os.close(self._ready_read)
        os.close(self._ready_write)
        self.directory.cleanup()

    def turn(self, times: int = 2) -> None:
        """Turn the loop twice, so that the consequences of one turn have happened too."""
        for _ in range(times):
            self.loop.turn()

    def pass_time(self, seconds: float) -> None:
        """Turn the loop while that much time passes."""
        end = self.time.now + seconds
        while self.time.now < end:
            self.time.now = min(end, self.time.now + STEP_S)
            self.turn(1)
        self.turn(1)

    def sleeps(self) -> bool:
        """Return whether the next turn finds nothing to do."""
        self.loop.remove_source(self._ready_read)
        self.loop.turn()
        self.loop.add_source(self._ready_read, lambda: None)
        return self.epoll.timeout > 0 and not self.epoll.found

    def worker(self, worker_id: int = 0, ready: bool = True) -> Worker:
        """Return a new process of a worker, which is ready."""
        worker = Worker(self, worker_id, len(self.workers) + 1)
        self.workers.append(worker)
        self.loop.add_link(worker.link)
        if ready:
            worker.hello()
        return worker

    def client(self, tcp: bool = False) -> Client:
        """Return a new client before its handshake."""
        client = Client(self, tcp=tcp)
        self.clients.append(client)
        self.opening.begin(client.connection)
        return client

    def open_client(self, descriptor: int = 0, tcp: bool = False) -> Client:
        """Return a new client after its handshake, of which its worker was told; see Client for the arguments."""
        client = Client(self, descriptor, tcp)
        self.clients.append(client)
        self.loop.join(client.connection)
        establish(self, client.connection)
        return client

    def bare_connection(self) -> Connection:
        """Return an open connection without a socket."""
        connection = self.registry.add(-1, "127.0.0.1", 40000)
        self.registry.forget_socket(connection)
        establish(self, connection)
        return connection


def establish(reactor: Reactor, connection: Connection) -> None:
    """Do what a handshake does, without one."""
    connection.record = b"request"
    connection.protocol = reactor.opening.new_protocol(connection, None)
    connection.enter(STAGE_OPEN)
    reactor.table.set_state(connection.fd, ESTABLISHED)
    reactor.router.open(connection)
    for observe in reactor.life.opened:
        observe(connection, "/")


class Worker:
    """A worker process as its master sees it."""

    def __init__(self, reactor: Reactor, worker_id: int, incarnation: int) -> None:
        progress = ProgressMap(reactor.run_dir / f"w{incarnation}.progress", RING, create=True)
        workers = reactor.router.workers
        self.link = WorkerLink(workers[worker_id], incarnation, os.getpid(), progress, **link_limits(reactor.settings))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.link.connect(ours.detach())
        self.wire = ZmtpSocket(theirs.detach())
        while not self.wire.ready:
            assert self.link.receive() is None
            self.wire.readable = True
            assert self.wire.receive() is None
            assert self.link.wire is not None
            self.link.wire.readable = True
        self.writer = BatchWriter()
        self.batches = 0
        self._arrived: list[list[bytes]] = []
        self.received: list[Event] = []
        self._reactor = reactor

    def hello(self) -> None:
        """Become active, as after a hello."""
        self.link.ready = True
        self.link.active = True
        self.link.worker.link = self.link
        self._reactor.loop.serve_later(self.link)

    def die(self) -> None:
        """End with everything finished; the master reacts, without a verdict."""
        self.link.active = self.link.ready = False
        self.link.worker.link = None
        self._reactor.router.forget_queue(self.link)
        for connection in self._reactor.registry.all():
            if connection.owner is self.link:
                self.link.disown(connection)
                self._reactor.router.settle(connection)

    def close(self) -> None:
        """Close both ends."""
        self.wire.close()
        self.link.close()

    def next_batch(self) -> list[bytes] | None:
        """Return the parts of a batch that has arrived; None if there is none."""
        while not self._arrived:
            self.wire.readable = True
            if (parts := self.wire.receive()) is not None:
                return parts
            if self.link.wire is None or not self.link.wire.blocked:
                return None
            self.link.wire.flush()
        return self._arrived.pop(0)

    def has_batch(self) -> bool:
        """Return whether a batch has arrived."""
        if (parts := self.next_batch()) is not None:
            self._arrived.insert(0, parts)
        return parts is not None

    def take(self) -> list[Event]:
        """Return what has arrived since the last call, at the end of the turn."""
        self._reactor.loop.turn()
        events: list[Event] = []
        while (parts := self.next_batch()) is not None:
            batch = BatchReader(parts)
            sequence = batch.first
            while batch.next():
                body: Any = batch.text() if batch.body_type == BODY_TEXT else batch.data() if batch.body_type else None
                events.append(Event(sequence, batch.kind, batch.number, body))
                sequence += 1
        self.received += events
        return events

    def send(self) -> None:
        """Send what was written as one batch."""
        self.wire.send(self.writer.take(self.batches, 0))
        while self.wire.blocked and self.link.wire is not None:  # more than the kernel holds
            self.link.wire.read()
            self.wire.flush()
        self.batches += 1

    def finish(self, *events: Event) -> None:
        """Acknowledge events in a separate batch."""
        for event in events:
            self.writer.add_integer(ACK, event.sequence, 1)
        self.send()
        self._reactor.turn()

    def end_of(self, event: Event) -> list[Any]:
        """Return code, reason and initiator of a close event."""
        end: list[Any] = msgpack.unpackb(event.body)
        return end


class Client:
    """The client's end of a connection."""

    def __init__(self, reactor: Reactor, descriptor: int = 0, tcp: bool = False) -> None:
        """Connect it.

        Args:
            reactor: the reactor to connect to.
            descriptor: number for the master's end, or the next higher free one.
            tcp: whether it is a TCP connection, which can be reset.
        """
        ours, self.socket = tcp_pair() if tcp else socket.socketpair()
        ours.setblocking(False)
        self.socket.setblocking(False)
        with ours:
            number = fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, descriptor)
        self.connection = reactor.registry.add(number, "192.0.2.1", 40000)
        self._reactor = reactor
        self._tcp = tcp

    def send(self, data: bytes) -> None:
        """Send bytes and let the master read them."""
        self.socket.sendall(data)
        if self._tcp:
            wait_for(lambda: unacknowledged(self.socket) == 0, "TCP to bring it")
        self._reactor.turn()

    def send_message(self, payload: bytes, opcode: int = 1) -> None:
        """Send one message."""
        self.send(client_frame(opcode, payload))

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame."""
        self.send(client_frame(8, code.to_bytes(2, "big") + reason.encode()))

    def finish_sending(self) -> None:
        """Send FIN."""
        self.socket.shutdown(socket.SHUT_WR)
        self._end_comes()
        self._reactor.turn()

    def leave(self) -> None:
        """Close the connection."""
        self.socket.close()
        self._end_comes()
        self._reactor.turn()

    def _end_comes(self) -> None:
        """Wait until the master's end has noticed; with TCP that may take longer if the kernel is busy."""
        if self._tcp and self.connection.descriptor >= 0:
            poll = select.poll()
            poll.register(self.connection.descriptor, select.POLLRDHUP)
            assert poll.poll(1000 * PATIENCE_S)

    def reset(self) -> None:
        """Close the connection with a RST, as a TCP client can."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.leave()

    def read(self) -> bytes:
        """Return what has arrived."""
        received = b""
        try:
            while data := self.socket.recv(1 << 20):
                received += data
                self._reactor.turn()
        except BlockingIOError:
            pass
        return received

    def at_end(self) -> bool:
        """Return whether FIN has arrived, and nothing before it."""
        try:
            return self.socket.recv(1) == b""
        except BlockingIOError:
            return False


def unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes, including the FIN, the other end of a TCP connection has not acknowledged."""
    found = fcntl.ioctl(sock, termios.TIOCOUTQ, struct.pack("i", 0))  # SIOCOUTQ of tcp(7)
    return int(struct.unpack("i", found)[0])


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends, the server's first, of a TCP connection over loopback with small buffers."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(listener.getsockname())
        return listener.accept()[0], client.dup()
