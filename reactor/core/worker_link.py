"""The master's end of the wire to a worker.

A worker is a worker's place, 0 to worker_num - 1; connections belong to it. A link is one incarnation: the process
that holds the place now, with its own endpoint, window and progress map. While a worker has no active link its window
is 0, and messages wait parked on their connections.

A link's life: made when its process starts; *ready* when it said hello; *active* when its worker's connections are its
own; *retiring* when a successor is active and only coroutine handlers and unfinished events keep it; *drained* when
it was told that nothing follows, or has said so itself; *closed*.
"""

from __future__ import annotations

from collections import deque
from logging import DEBUG

import msgpack
import zmq

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.window import Window
from zwoole.shared.memory.progress_map import RING, ProgressMap
from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import remove
from zwoole.shared.settings import Settings
from zwoole.shared.wire.batches import BatchReader, BatchWriter
from zwoole.shared.wire.events import ADOPT, CLOSE, HANDSHAKE, MESSAGE, OPEN, PIPE_MESSAGE
from zwoole.shared.wire.payload_ring import RING_MIN_BYTES, SharedMemory
from zwoole.shared.wire.trace import describe

log = get_logger("wire")

_POLLIN = int(zmq.POLLIN)  # an enum's & costs more than the call it is for


class WorkerLink:
    """The wire to one worker incarnation.

    Attributes:
        worker: the place it holds, or will hold.
        incarnation: its number; no two workers ever have the same.
        pid: its process.
        ready: whether it said hello.
        active: whether its worker's connections are its own.
        retiring: whether a successor has taken its place.
        drained: whether nothing follows: it was told so, or has said goodbye.
        deaf: whether nothing is read from it any more, since it is closed or not to be trusted.
        closed: whether the endpoint is closed; nothing comes or goes any more.
        served: whether it has finished an event.
        connections: how many it was told of, and not of their end.
        handlers: how many of them are served by coroutine handlers.
        waiting: connections whose next message found the window full, in order.
        touched: whether it stands in the line to be flushed at the end of the turn.
        batches: how many batches came up.
        received: bytes of batches and payloads taken from it, in all.
        settled: how many of them have been dealt with, to where the clients' buffers and their marks show it.
        credit_asked: whether it waits for credit, however little.
        unfinished: the batch that was more than a turn should take, None where there is none.
        turn: the turn of the loop that has read from it last.
        events_left: how many more events that turn should take.
        memory: the payload rings, None where there are none.
    """

    __slots__ = (
        "_credit_step",
        "_credit_told",
        "_debug",
        "_flags",
        "_more",
        "active",
        "batches",
        "closed",
        "connections",
        "credit_asked",
        "deaf",
        "descriptor",
        "drained",
        "events_left",
        "handlers",
        "incarnation",
        "memory",
        "pid",
        "progress",
        "ready",
        "received",
        "retiring",
        "served",
        "settled",
        "socket",
        "touched",
        "turn",
        "unfinished",
        "waiting",
        "window",
        "worker",
        "writer",
    )

    def __init__(
        self,
        worker: Worker,
        incarnation: int,
        pid: int,
        socket: zmq.Socket[bytes],
        progress: ProgressMap,
        settings: Settings,
    ) -> None:
        self.worker = worker
        self.incarnation = incarnation
        self.pid = pid
        self.socket = socket
        self.descriptor = int(socket.getsockopt(zmq.FD))
        self.progress = progress
        # Half, for what is sent is held twice until it is read: in the window, to be sent again, and on the wire.
        self.window = Window(settings.window_events, settings.window_bytes // 2, RING)
        self.writer = BatchWriter()
        self.ready = False
        self.active = False
        self.retiring = False
        self.drained = False
        self.closed = False
        self.deaf = False
        self.served = False
        self.connections = 0
        self.handlers = 0
        self.waiting: deque[Connection] = deque()
        self.touched = False
        self.batches = 0
        self.unfinished: BatchReader | None = None
        self.turn = 0
        self.events_left = 0
        self.received = 0
        self.settled = 0
        self.credit_asked = False
        self.memory = shared_memory(settings.payload_ring_bytes)
        self._credit_step = settings.up_window_bytes // 4
        self._credit_told = 0
        self._debug = log.isEnabledFor(DEBUG)
        self._flags = int(zmq.DONTWAIT)
        self._more = int(zmq.DONTWAIT | zmq.SNDMORE)

    def send_handshake(self, connection: Connection) -> None:
        """Ask whether a client may connect; its connection is this worker's from here on."""
        self._own(connection)
        self._enter(connection, HANDSHAKE, connection.record)
        self.writer.add_bytes(HANDSHAKE, connection.fd, connection.record)

    def send_open(self, connection: Connection) -> None:
        """Tell of a new connection, which is this worker's from here on."""
        self._own(connection)
        self._enter(connection, OPEN, connection.record)
        self.writer.add_bytes(OPEN, connection.fd, msgpack.packb([connection.record, connection.state]))

    def send_adopt(self, connection: Connection) -> None:
        """Hand a connection over, which is this worker's from here on; the window must have a place."""
        self._own(connection)
        self._enter(connection, ADOPT, b"")
        self.writer.add_bytes(ADOPT, connection.fd, msgpack.packb([connection.record, connection.state]))

    def send_message(self, connection: Connection, event: int, data: bytes) -> None:
        """Send one message of a connection; `event` is MESSAGE for text, else BINARY_MESSAGE."""
        self._enter(connection, event, data)
        if len(data) >= RING_MIN_BYTES and self.writer.ring is not None:
            self.writer.ring.free(self.window.oldest)
        if event == MESSAGE:
            self.writer.add_text(MESSAGE, connection.fd, data)
        else:
            self.writer.add_bytes(MESSAGE, connection.fd, data)

    def send_close(self, connection: Connection) -> None:
        """Tell of a connection's end; the window must have a place for it."""
        self._enter(connection, CLOSE, b"")
        end = [connection.close_code, connection.close_reason, connection.close_initiator]
        self.writer.add_bytes(CLOSE, connection.fd, msgpack.packb(end))
        self.disown(connection)

    def send_command(self, kind: int, number: int, body: bytes) -> None:
        """Send an event that belongs to no connection."""
        self._enter(None, kind, b"")
        self.writer.add_bytes(kind, number, body)

    def send_pipe_message(self, source: int, body: bytes) -> None:
        """Send a message of another worker, whose id is `source`."""
        self._enter(None, PIPE_MESSAGE, body)
        self.writer.add_bytes(PIPE_MESSAGE, source, body)

    def disown(self, connection: Connection) -> None:
        """The connection is not this worker's any more."""
        if connection.owner is self:
            connection.owner = None
            self.connections -= 1
            if connection.handler:
                self.handlers -= 1

    def may_drain(self) -> bool:
        """Tell whether a retiring worker has been sent all that it will ever be.

        It need not have finished that: a handler may keep the last message that it took long after its client has left.
        """
        if not self.retiring or self.drained or self.handlers > 0:
            return False
        return self.connections == 0 or self.window.places == 0

    def owes_credit(self) -> bool:
        """Tell whether the worker is to be told how much was dealt with, though nothing else goes down."""
        return self.credit_asked or self.settled - self._credit_told >= self._credit_step

    def receive(self) -> list[bytes] | None:
        """Take one batch from the wire; None where there is none."""
        socket = self.socket
        if self.deaf:
            return None
        if not int(socket.getsockopt(zmq.EVENTS)) & _POLLIN:
            return None
        try:
            first: bytes = socket.recv(self._flags)
        except zmq.Again:
            return None
        parts = [first]
        while socket.getsockopt(zmq.RCVMORE):
            parts.append(socket.recv(self._flags))
        return parts

    def flush(self) -> None:
        """Send what was gathered, as one ZeroMQ message. Never blocks: the window bounds what lies in ZeroMQ.

        Where there is nothing but credit to return, that is a batch without an event, which takes no place anywhere.
        """
        writer = self.writer
        if self.closed or not (writer.events or self.owes_credit()):
            return
        self._credit_told = self.settled
        if self.settled == self.received:
            self.credit_asked = False
        if writer.ring is not None:
            writer.ring.seal(self.window.next_sequence)
        parts = writer.take(self.window.next_sequence - writer.events, self.settled)
        if self._debug:
            log.debug(
                "to worker %d (incarnation %d): %s", self.worker.id, self.incarnation, describe(parts, writer.ring)
            )
        try:
            while len(parts) > 1:
                self.socket.send(parts.pop(0), self._more)
            self.socket.send(parts[0], self._flags)
        except zmq.Again:  # the worker is gone; its window remembers what it did not get, for the verdict
            pass

    def readable(self) -> bool:
        """Tell whether a batch lies ready: to be asked after every send, since the descriptor will not tell again."""
        return not self.deaf and bool(int(self.socket.getsockopt(zmq.EVENTS)) & _POLLIN)

    def close(self) -> None:
        """Close the endpoint and remove its progress map."""
        self.closed = True
        self.deaf = True
        self.unfinished = None
        self.ready = False
        self.active = False
        self.socket.close(0)
        if self.memory is not None:
            self.memory.close_descriptor()
            self.memory = self.writer.ring = None
        remove(self.progress.path)
        self.progress.close()

    def _enter(self, connection: Connection | None, event: int, data: bytes) -> None:
        window = self.window
        if window.next_sequence - window.oldest >= RING and window.is_taken():
            self.flush()  # the numbers within a batch follow each other
            window.skip_taken()
        self.progress.mark(window.enter(connection, event, data), 0)

    def _own(self, connection: Connection) -> None:
        if connection.owner is self:
            return
        connection.owner = self
        self.connections += 1
        if connection.handler:
            self.handlers += 1


def shared_memory(ring_bytes: int) -> SharedMemory | None:
    """Return the memory for a pair's payload rings; None where they are off or the kernel has none to give."""
    if not ring_bytes:
        return None
    try:
        return SharedMemory.create(ring_bytes)
    except OSError as error:
        log.warning("no shared memory for payloads (%s): they travel through sockets, slower", error.strerror)
        return None


class Worker:
    """A worker's place and the connections that belong to it.

    Attributes:
        id: the worker id, from 0.
        link: the active incarnation, or None.
        connections: how many belong here.
        adoptions: those to be handed over to the active link, in order.
        pending_closes: those whose end no worker could be told yet, in order.
        held_back: those that are not read because all that may be parked is parked, in order.
        notices: those whose worker could not be told that their buffer is full, or is not any more.
        pipe: messages from other workers that wait for its worker: (the sender's id, packed value), in order.
        pipe_bytes: their size.
        gone_since: when it lost its link, on the loop's clock; 0 while it has one.
    """

    __slots__ = (
        "adoptions",
        "connections",
        "gone_since",
        "held_back",
        "id",
        "link",
        "notices",
        "pending_closes",
        "pipe",
        "pipe_bytes",
    )

    def __init__(self, worker_id: int) -> None:
        self.id = worker_id
        self.link: WorkerLink | None = None
        self.connections = 0
        self.adoptions: deque[Connection] = deque()
        self.pending_closes: deque[Connection] = deque()
        self.held_back: deque[Connection] = deque()
        self.notices: dict[Connection, None] = {}
        self.pipe: deque[tuple[int, bytes]] = deque()
        self.pipe_bytes = 0
        self.gone_since = 0.0
