"""A worker's link to one master.

Operations: receive batches; gather pushes and acknowledgements and send them as one batch; know how many bytes the
master has not taken yet.

An acknowledgement is held back while the next event may extend its range. It leaves behind the last pushes of its
callback, in the same batch or in a later one, never in an earlier one.

The worker's own thread uses a link, and so does the flusher (flusher.py) while a callback goes on for long. A method
that touches the socket or the writer takes the links first; `send_waiting` is for callers that have taken them.
"""

from __future__ import annotations

from functools import partial
from logging import DEBUG
from pathlib import Path

import zmq

from zwoole.shared.memory.connection_table import ConnectionTable
from zwoole.shared.memory.progress_map import FINISHED, RING, STARTED, ProgressMap
from zwoole.shared.memory.turn_counter import TurnCounter
from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import endpoint, progress_path
from zwoole.shared.wire.batches import BatchWriter
from zwoole.shared.wire.events import ACK, RINGS, SYNC
from zwoole.shared.wire.payload_ring import SharedMemory
from zwoole.shared.wire.trace import describe
from zwoole.shared.zmq_flags import POLLIN
from zwoole.workers.exits import INTERRUPTED, end_worker
from zwoole.workers.flusher import AGED_S, Flusher, check_signals

FLUSH_BYTES = 65536  # a batch of this size is sent at once
_FLUSH_BYTES = FLUSH_BYTES  # C numbers in the compiled module
_AGED_S = AGED_S

log = get_logger("wire")

_send = zmq.backend.Socket.send  # without the layer of Python above it


def end_if_interrupted(error: BaseException) -> None:
    """End this worker if a signal handler of the app raised `error` in the middle of a batch.

    Then nobody knows how much of the batch was sent or received. After the worker's death the master knows.
    """
    if isinstance(error, zmq.ZMQError):
        return
    words = "this worker ends: a signal handler of the app raised while a batch was sent or received; let it set a flag"
    end_worker(words, code=INTERRUPTED, exc_info=error)


class MasterLink:
    """The link to one master incarnation.

    Attributes:
        incarnation: the master's incarnation.
        descriptor: ZeroMQ's descriptor, for polling.
        writer: gathers the next batch.
        table: the master's connection table, from its welcome on.
        credit: bytes of this worker's batches that the master has taken.
        sent: bytes of batches sent.
        received: bytes of batches received from the master.
        up_window: bytes that may be on their way before a callback must wait.
        ready: whether the master has welcomed this worker.
        closed: whether the socket is closed; nothing comes or goes any more.
        owned: fds of the connections that this worker knows and whose end it has not heard of.
        inbox: batches that were received while a push waited for credit.
        memory: the payload rings, None if there are none.
        turns: counts this process's turns, None if nobody looks at them. The end of an event counts as a turn: a batch
            of slow callbacks does not hang.
    """

    __slots__ = (
        "_ack_count",
        "_ack_first",
        "_batches",
        "_debug",
        "_flags",
        "_flusher",
        "_more",
        "_progress",
        "_run_dir",
        "_unsent_since",
        "_worker_incarnation",
        "closed",
        "credit",
        "descriptor",
        "inbox",
        "incarnation",
        "memory",
        "owned",
        "ready",
        "received",
        "sent",
        "socket",
        "table",
        "turns",
        "up_window",
        "writer",
    )

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        run_dir: Path,
        worker_incarnation: int,
        incarnation: int,
        flusher: Flusher,
    ) -> None:
        """Connect to a master.

        Args:
            context: makes the socket.
            run_dir: the run directory.
            worker_incarnation: this process's incarnation.
            incarnation: the master's.
            flusher: decides which thread may use the link.
        """
        self.incarnation = incarnation
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 10)  # ms; the endpoint may not be bound yet when we start
        self.socket.connect(endpoint(run_dir, worker_incarnation, incarnation))
        self.descriptor = int(self.socket.getsockopt(zmq.FD))
        self.writer = BatchWriter()
        self.table: ConnectionTable  # from `welcome` on
        self.credit = 0
        self.sent = 0
        self.received = 0
        self.up_window = 1 << 20
        self.ready = False
        self.closed = False
        self.owned: set[int] = set()
        self.inbox: list[list[bytes]] = []
        self.memory: SharedMemory | None = None
        self.turns: TurnCounter | None = None
        self._progress: ProgressMap | None = None
        self._flusher = flusher
        self._run_dir = run_dir
        self._worker_incarnation = worker_incarnation
        self._unsent_since = 0.0
        self._batches = 0
        self._debug = log.isEnabledFor(DEBUG)
        self._ack_first = 0
        self._ack_count = 0
        self._flags = int(zmq.DONTWAIT)
        self._more = int(zmq.DONTWAIT | zmq.SNDMORE)

    def welcome(self, up_window: int, table: int, memory: list[int] | None = None) -> None:
        """Open what the master shares with this worker; the master has answered its hello.

        Args:
            up_window: bytes that may be on their way before a callback must wait.
            table: the descriptor of the reactor's connection table.
            memory: the master's process id and its descriptor of the payload rings; None if it has none.

        Raises:
            OSError, ValueError: the progress map or the table cannot be opened.
        """
        self.up_window = up_window
        self._progress = ProgressMap(progress_path(self._run_dir, self._worker_incarnation, self.incarnation), RING)
        self.table = ConnectionTable(table)
        self.ready = True
        if memory is not None:
            self._open_rings(memory)

    def _open_rings(self, memory: list[int]) -> None:
        try:
            self.memory = SharedMemory.open(*memory)
        except (OSError, ValueError) as error:
            log.warning(
                "the payload rings cannot be opened (%s): payloads go through the socket, which is slower", error
            )
            return
        self.writer.add(RINGS, 0)
        self.writer.ring = self.memory.up

    def receive(self) -> list[bytes] | None:
        """Return one batch, None if there is none: first those in the inbox, then those in the socket."""
        if self.inbox:
            return self.inbox.pop(0)
        return self.receive_new()

    def receive_new(self) -> list[bytes] | None:
        """Return one batch from the socket, None if there is none; the inbox is left alone."""
        if self.closed:
            return None
        before = self._flusher.enter()
        try:
            return self._receive()
        finally:
            self._flusher.leave(before)

    def _receive(self) -> list[bytes] | None:
        check_signals()
        socket = self.socket
        if not int(socket.getsockopt(zmq.EVENTS)) & POLLIN:
            return None
        try:
            first: bytes = socket.recv(self._flags)
            parts = [first]
            self.received += len(first)
            while socket.getsockopt(zmq.RCVMORE):
                part: bytes = socket.recv(self._flags)
                self.received += len(part)
                parts.append(part)
        except zmq.Again:
            return None
        except BaseException as error:
            end_if_interrupted(error)
            raise
        if self._debug:
            ring = None if self.memory is None else self.memory.down
            log.debug("from master incarnation %d: %s", self.incarnation, describe(parts, ring))
        return parts

    def started(self, sequence: int) -> None:
        """Mark that an event's callback is about to run."""
        if self._progress is not None:
            self._progress.mark(sequence, STARTED)

    def finished(self, sequence: int) -> None:
        """Mark that an event has finished; its acknowledgement leaves with the next batch."""
        if self._progress is not None:
            self._progress.mark(sequence, FINISHED)
        if self.turns is not None:
            self.turns.tick()
        flusher = self._flusher
        if flusher.has_commands:  # of threads for which the callback may have waited: they leave first
            flusher.behind_commands(partial(self._acknowledge, sequence))
        else:
            before = flusher.enter()
            self._acknowledge(sequence)
            flusher.leave(before)
        flusher.note()

    def _acknowledge(self, sequence: int) -> None:
        if self._ack_count and sequence == self._ack_first + self._ack_count:
            self._ack_count += 1
        else:
            self._write_ack()
            self._ack_first = sequence
            self._ack_count = 1

    def in_flight(self) -> int:
        """Return how many bytes the master has not taken yet, including those that are not sent yet."""
        return self.sent + self.writer.size - self.credit

    def flush_due(self, begun: float, now: float) -> bool:
        """Tell, when an event has ended, whether the output has become much or old.

        Its age counts from the begin of its callback, so that the output of a slow callback does not wait for the next
        one.

        Args:
            begun: when the event's callback began, in monotonic seconds.
            now: the time, by the same clock.
        """
        if not self._ack_count and not self.writer.events:
            return False
        if self.writer.size >= _FLUSH_BYTES:
            return True
        if self._unsent_since == 0.0:
            self._unsent_since = begun
        return now - self._unsent_since >= _AGED_S

    def flush(self) -> None:
        """Send the output as one ZeroMQ message. Never blocks."""
        before = self._flusher.enter()
        try:
            self.send_waiting()
        finally:
            self._flusher.leave(before)

    def send_waiting(self) -> None:
        """Do what `flush` does, in a thread that has taken the links."""
        check_signals()
        self._write_ack()
        self._unsent_since = 0.0
        if self.closed or not self.writer.events:
            return
        self.sent += self.writer.ring_bytes
        parts = self.writer.take(self._batches, self.received)
        self._batches += 1
        if self._debug:
            log.debug("to master incarnation %d: %s", self.incarnation, describe(parts, self.writer.ring))
        for part in parts:
            self.sent += len(part)
        if self.writer.ring is not None:
            self.writer.ring.seal(self.sent)
            self.writer.ring.free(self.credit)
        try:
            while len(parts) > 1:
                _send(self.socket, parts.pop(0), self._more)
            _send(self.socket, parts[0], self._flags)
        except BaseException as error:
            end_if_interrupted(error)
            raise

    def sync(self) -> int:
        """Send the output and ask for the credit for it; return the credit that the answer will bring at least."""
        before = self._flusher.enter()
        try:
            self.writer.add(SYNC, 0)
            self.send_waiting()
        finally:
            self._flusher.leave(before)
        return self.sent

    def readable(self) -> bool:
        """Tell whether a batch lies ready. Ask before sleeping, because the descriptor tells only once."""
        if self.inbox:
            return True
        if self.closed:
            return False
        before = self._flusher.enter()
        try:
            return bool(int(self.socket.getsockopt(zmq.EVENTS)) & POLLIN)
        finally:
            self._flusher.leave(before)

    def close(self, linger_s: float) -> None:
        """Close the socket; what was sent has `linger_s` seconds to reach the master."""
        self.closed = True
        self.ready = False
        before = self._flusher.enter()
        try:
            self.writer.ring = None
            if self.memory is not None:
                self.memory.close_descriptor()  # the memory stays: batches that were received before may lie in it
            self.socket.close(linger=int(linger_s * 1000))
        finally:
            self._flusher.leave(before)

    def _write_ack(self) -> None:
        if self._ack_count:
            self.writer.add_integer(ACK, self._ack_first, self._ack_count)
            self._ack_count = 0
