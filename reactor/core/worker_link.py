"""The master's view of a worker: the worker id with its connections, and the wire to each of its processes.

A `Worker` is one worker id, 0 to worker_num - 1, and the connections that belong to it. A `WorkerLink` is the wire to
one incarnation, which is one process of that worker id; each incarnation has its own endpoint, window and progress map.
While a worker has no active link, nothing can be sent to it, and messages are parked on their connections.

The life of a link: it is made when the process starts. It is *ready* when the process has said hello, and *active* when
it gets the events of its worker's connections. It is *retiring* when a successor is active or the worker is given up:
only coroutine handlers and unfinished events keep it. It is *drained* when the master has told the process that nothing
follows, or the process has said goodbye. At last it is *closed*.
"""

from __future__ import annotations

from collections import deque
from logging import DEBUG

import msgpack

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.window import Window
from zwoole.shared.memory.progress_map import RING, ProgressMap
from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import remove
from zwoole.shared.wire.batches import BatchReader, BatchWriter
from zwoole.shared.wire.events import ADOPT, CLOSE, HANDSHAKE, MESSAGE, MOVED, OPEN, PIPE_MESSAGE
from zwoole.shared.wire.payload_ring import RING_MIN_BYTES, SharedMemory
from zwoole.shared.wire.trace import describe
from zwoole.shared.wire.zmtp_socket import ZmtpSocket

log = get_logger("wire")


class WorkerLink:
    """The wire to one worker incarnation.

    Attributes:
        worker: the worker that the process belongs to.
        incarnation: the number of the incarnation; no number is used twice.
        pid: the process id.
        wire: the connection of the process; None until it has connected to its endpoint.
        interest: the epoll mask with which the loop watches the connection; 0: it does not.
        progress: the progress map, in which the process marks the events that it has begun.
        window: the events that were sent and have not finished.
        writer: the batch that is being written.
        ready: whether the process has said hello.
        active: whether it gets the events of its worker's connections.
        retiring: whether the process is to end when it has finished its events and handlers.
        drained: whether nothing follows: the process was told so, or has said goodbye.
        deaf: whether nothing is read any more, because the link is closed or the process is not to be trusted.
        closed: whether the endpoint is closed; nothing is sent or read any more.
        served: whether the process has finished an event after its welcome.
        connections: how many connections the process was told of, and not yet of their end.
        handlers: how many of them are served by coroutine handlers.
        waiting: a queue of connections whose next message found the window full.
        touched: whether it is in the loop's queue of links to be flushed at the end of the turn.
        batches: how many batches have been received.
        received: how many bytes of batches and of payloads in the ring have been received.
        settled: how many of these bytes are carried out, so that the clients' output queues include them.
        credit_asked: whether the process waits for its credit to be returned, even if little has come together.
        unfinished: the batch that the last turn did not finish; None if there is none.
        turn: the turn of the loop in which it was last read.
        events_left: how many more events that turn may carry out.
        memory: the payload rings; None if there are none.
    """

    __slots__ = (
        "_credit_step",
        "_credit_told",
        "_debug",
        "_moved",
        "active",
        "batches",
        "closed",
        "connections",
        "credit_asked",
        "deaf",
        "drained",
        "events_left",
        "handlers",
        "incarnation",
        "interest",
        "memory",
        "pid",
        "progress",
        "ready",
        "received",
        "retiring",
        "served",
        "settled",
        "touched",
        "turn",
        "unfinished",
        "waiting",
        "window",
        "wire",
        "worker",
        "writer",
    )

    def __init__(
        self,
        worker: Worker,
        incarnation: int,
        pid: int,
        progress: ProgressMap,
        window_events: int,
        window_bytes: int,
        up_window_bytes: int,
        ring_bytes: int,
    ) -> None:
        """Create with an empty window.

        Args:
            worker: the worker that the process belongs to.
            incarnation: the number of the incarnation.
            pid: the process id.
            progress: the progress map that master and process share.
            window_events: how many events the process may have unfinished.
            window_bytes: bytes of memory for their data.
            up_window_bytes: how many bytes the process may have sent up that the master has not carried out.
            ring_bytes: the size of each payload ring in bytes; 0 for no rings.
        """
        self.worker = worker
        self.incarnation = incarnation
        self.pid = pid
        self.wire: ZmtpSocket | None = None
        self.interest = 0
        self.progress = progress
        # Half, since what is sent is in memory twice until it is read: in the window, for a replay, and on the wire.
        self.window = Window(window_events, window_bytes // 2, RING)
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
        self.memory = shared_memory(ring_bytes)
        self._credit_step = up_window_bytes // 4
        self._credit_told = 0
        self._moved: list[int] = []  # fds of connections that others have got, for the next MOVED
        self._debug = log.isEnabledFor(DEBUG)

    def connect(self, descriptor: int) -> None:
        """Take over the socket on which the process has connected."""
        self.wire = ZmtpSocket(descriptor)

    def send_handshake(self, connection: Connection) -> None:
        """Send HANDSHAKE: may this client connect? From now on this link owns the connection."""
        self._own(connection)
        self._enter(connection, HANDSHAKE, connection.record)
        self.writer.add_bytes(HANDSHAKE, connection.fd, connection.record)

    def send_open(self, connection: Connection) -> None:
        """Send OPEN for a new connection. From now on this link owns the connection."""
        self._own(connection)
        self._enter(connection, OPEN, connection.record)
        self.writer.add_bytes(OPEN, connection.fd, msgpack.packb([connection.record, connection.state]))

    def send_adopt(self, connection: Connection) -> None:
        """Send ADOPT: hand a connection over. From now on this link owns it. The window must have a place."""
        self._own(connection)
        self._enter(connection, ADOPT, b"")
        self.writer.add_bytes(ADOPT, connection.fd, msgpack.packb([connection.record, connection.state]))

    def send_message(self, connection: Connection, event: int, data: bytes) -> None:
        """Send one message of a connection; `event` is MESSAGE for text and BINARY_MESSAGE otherwise."""
        self._enter(connection, event, data)
        if len(data) >= RING_MIN_BYTES and self.writer.ring is not None:
            self.writer.ring.free(self.window.oldest)
        if event == MESSAGE:
            self.writer.add_text(MESSAGE, connection.fd, data)
        else:
            self.writer.add_bytes(MESSAGE, connection.fd, data)

    def send_close(self, connection: Connection) -> None:
        """Send CLOSE: a connection has ended, and the link no longer owns it. The window must have a place."""
        self._enter(connection, CLOSE, b"")
        end = [connection.close_code, connection.close_reason, connection.close_initiator]
        self.writer.add_bytes(CLOSE, connection.fd, msgpack.packb(end))
        self.disown(connection)

    def send_command(self, kind: int, number: int, body: bytes) -> None:
        """Send an event that the window counts for no connection.

        Args:
            kind: the kind of event.
            number: its number, such as an fd or a version.
            body: its body; empty: it has none.
        """
        self._enter(None, kind, b"")
        if body:
            self.writer.add_bytes(kind, number, body)
        else:
            self.writer.add(kind, number)

    def send_pipe_message(self, source: int, body: bytes) -> None:
        """Send a message from the worker with the id `source`."""
        self._enter(None, PIPE_MESSAGE, body)
        self.writer.add_bytes(PIPE_MESSAGE, source, body)

    def disown(self, connection: Connection) -> None:
        """Give up the ownership of a connection, if this link has it."""
        if connection.owner is self:
            connection.owner = None
            self.connections -= 1
            if connection.handler:
                self.handlers -= 1

    def hand_over(self, connection: Connection) -> None:
        """Give up the ownership of a connection that another process gets; this process is told so."""
        self.disown(connection)
        if not self.closed:
            self._moved.append(connection.fd)

    def may_drain(self) -> bool:
        """Tell whether a retiring link has been sent all that it will ever be sent.

        The process may still work on it: a handler can keep its last message long after the client has left.
        """
        if not self.retiring or self.drained or self.closed or self.handlers > 0:
            return False
        return self.connections == 0 or self.window.places == 0

    def owes_credit(self) -> bool:
        """Tell whether credit must be returned now, even if there is no event to send it with."""
        return self.credit_asked or self.settled - self._credit_told >= self._credit_step

    def receive(self) -> list[bytes] | None:
        """Return the parts of one batch from the wire; None if there is none.

        Raises:
            ZmtpError: the process has broken ZeroMQ's protocol.
        """
        if self.deaf or self.wire is None:
            return None
        return self.wire.receive()

    def flush(self) -> None:
        """Send the batch as one ZeroMQ message, and return credit with it.

        This never blocks: what the kernel does not take waits in the wire, and the window bounds that. If there is only
        credit to return, the batch has no event and takes no sequence number.
        """
        if self.wire is None:  # the process died in this turn, after the link was queued to be flushed
            return
        writer = self.writer
        if self._moved and not self.drained and self.window.has_place():
            moved, self._moved = self._moved, []
            self.send_command(MOVED, 0, msgpack.packb(moved))
        if not (writer.events or self.owes_credit()):
            return
        self._credit_told = self.settled
        if self.settled == self.received:
            self.credit_asked = False
        if writer.ring is not None:
            writer.ring.seal(self.window.next_sequence)
        parts = writer.take(self.window.next_sequence - writer.events, self.settled)
        if self._debug:
            log.debug(
                "to worker %d (incarnation %d): %s",
                self.worker.id,
                self.incarnation,
                describe(parts, writer.ring, down=True),
            )
        self.wire.send(parts)

    def close(self) -> None:
        """Close the endpoint and remove its progress map."""
        self.closed = True
        self.deaf = True
        self.unfinished = None
        self.ready = False
        self.active = False
        if self.wire is not None:
            self.wire.close()
            self.wire = None
        if self.memory is not None:
            self.memory.close_descriptor()
            self.memory = self.writer.ring = None
        remove(self.progress.path)
        self.progress.close()

    def _enter(self, connection: Connection | None, event: int, data: bytes) -> None:
        window = self.window
        if window.next_sequence - window.oldest >= RING and window.is_taken():
            self.flush()  # the numbers of one batch must be consecutive
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
    """Return the memory for the two payload rings of a link; None if they are off or the kernel refuses it."""
    if not ring_bytes:
        return None
    try:
        return SharedMemory.create(ring_bytes)
    except OSError as error:
        log.warning("no shared memory for payloads (%s): they travel through sockets, slower", error.strerror)
        return None


class Worker:
    """A worker id and the connections that belong to it.

    Attributes:
        id: the worker id, from 0.
        link: the link to the active incarnation; None if there is none.
        connections: how many connections belong to it.
        adoptions: a queue of connections to be handed over to the active link.
        pending_closes: a queue of connections whose CLOSE could not be sent yet.
        held_back: a queue of connections that are not read because no more messages may be parked.
        notices: connections whose BUFFER_FULL or BUFFER_EMPTY could not be sent yet; the values are None.
        pipe: a queue of messages from other workers: (the sender's worker id, packed value).
        pipe_bytes: the size of these values.
        gone_since: since when something waits for a process of it, on the loop's clock; 0 if it has one.
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
