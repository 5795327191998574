"""A worker's link to one master.

Operations: receive batches; gather pushes and acknowledgements and send them as one batch; know how many bytes the
master has not taken yet.

An acknowledgement is held back while the next event may extend its range. It leaves behind the last pushes of its
callback, in the same batch or in a later one, never in an earlier one.

The worker's own thread uses a link, and so does the flusher (flusher.py) while a callback goes on for long. A method
that touches the socket or the writer takes the links first; `send_waiting` is for callers that have taken them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from logging import DEBUG
from pathlib import Path
from select import POLLIN, POLLOUT, poll
from time import monotonic, sleep

from zwoole.shared.memory.connection_table import ConnectionTable
from zwoole.shared.memory.progress_map import FINISHED, RING, STARTED, ProgressMap
from zwoole.shared.memory.turn_counter import TurnCounter
from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import endpoint_path, progress_path
from zwoole.shared.wire.batches import BatchWriter
from zwoole.shared.wire.events import ACK, RINGS, SYNC
from zwoole.shared.wire.payload_ring import SharedMemory
from zwoole.shared.wire.trace import describe
from zwoole.shared.wire.zmtp import ZmtpError
from zwoole.shared.wire.zmtp_socket import ZmtpSocket, connect
from zwoole.workers.core.exits import INTERRUPTED, end_worker
from zwoole.workers.links.flusher import AGED_S, Flusher

FLUSH_BYTES = 65536  # a batch of this size is sent at once
_FLUSH_BYTES = FLUSH_BYTES  # C numbers in the compiled module
_AGED_S = AGED_S

log = get_logger("wire")

RECONNECT_S = 0.01  # how often to try to connect while the master does not listen yet


def end_if_interrupted(error: BaseException) -> None:
    """End this worker if a signal handler of the app raised `error` in the middle of a batch.

    Then nobody knows how much of the batch was sent or received. After the worker's death the master knows.
    """
    if isinstance(error, ZmtpError):
        return
    words = "this worker ends: a signal handler of the app raised while a batch was sent or received; let it set a flag"
    end_worker(words, code=INTERRUPTED, exc_info=error)


class MasterLink:
    """The link to one master incarnation.

    Attributes:
        incarnation: the master's incarnation.
        wire: the connection; None until the master listens, and after the link's end.
        unwatch: called with the descriptor of the connection before it is closed; set by the loop that watches it.
        writer: gathers the next batch.
        table: the master's connection table, from its welcome on.
        credit: bytes of this worker's batches that the master has taken.
        sent: bytes of batches sent.
        received: bytes of batches received from the master.
        up_window: bytes that may be on their way before a callback must wait.
        ready: whether the master has welcomed this worker.
        closed: whether the link has ended, by `close` or because the master has gone; nothing comes or goes any more.
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
        "_flusher",
        "_progress",
        "_run_dir",
        "_unsent_since",
        "_worker_incarnation",
        "closed",
        "credit",
        "inbox",
        "incarnation",
        "memory",
        "owned",
        "ready",
        "received",
        "sent",
        "table",
        "turns",
        "unwatch",
        "up_window",
        "wire",
        "writer",
    )

    def __init__(
        self,
        run_dir: Path,
        worker_incarnation: int,
        incarnation: int,
        flusher: Flusher,
    ) -> None:
        """Create without a connection; see `connect`.

        Args:
            run_dir: the run directory.
            worker_incarnation: this process's incarnation.
            incarnation: the master's.
            flusher: decides which thread may use the link.
        """
        self.incarnation = incarnation
        self.wire: ZmtpSocket | None = None
        self.unwatch: Callable[[int], object] | None = None
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

    def connect(self) -> bool:
        """Connect to the master if it listens by now; return whether the link is connected.

        Raises:
            PermissionError: another user's process listens in the master's place.
        """
        if self.wire is None and not self.closed:
            descriptor = connect(endpoint_path(self._run_dir, self._worker_incarnation, self.incarnation))
            if descriptor >= 0:
                self.wire = ZmtpSocket(descriptor)
                self.flush()
        return self.wire is not None

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
        wire = self.wire
        if wire is None:
            return None
        try:
            parts = wire.receive()
        except BaseException as error:
            end_if_interrupted(error)
            raise
        if parts is None:
            if wire.ended:
                self._end()
            return None
        for part in parts:
            self.received += len(part)
        if self._debug:
            ring = None if self.memory is None else self.memory.down
            log.debug("from master incarnation %d: %s", self.incarnation, describe(parts, ring, down=True))
        return parts

    def wait(self, seconds: float) -> None:
        """Wait until the master has sent something, or has taken some of what waits in the wire, or the time is over.

        Args:
            seconds: how long to wait at most.
        """
        wire = self.wire
        if wire is None:
            sleep(min(seconds, RECONNECT_S))
            self.connect()
            return
        poller = poll()
        poller.register(wire.descriptor, POLLIN | POLLOUT if wire.blocked else POLLIN)
        poller.poll(1000 * seconds)
        wire.readable = True
        self.resume()

    def look(self) -> None:
        """Read the wire the next time that a batch is asked for: the kernel has reported something to read."""
        if self.wire is not None:
            self.wire.readable = True

    def resume(self) -> None:
        """Send what the kernel had not taken."""
        before = self._flusher.enter()
        try:
            if self.wire is not None:
                self.wire.flush()
        finally:
            self._flusher.leave(before)

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
        self._write_ack()
        self._unsent_since = 0.0
        wire = self.wire
        if wire is None or not self.writer.events:
            return
        self.sent += self.writer.ring_bytes
        parts = self.writer.take(self._batches, self.received)
        self._batches += 1
        if self._debug:
            log.debug("to master incarnation %d: %s", self.incarnation, describe(parts, self.writer.ring, down=False))
        for part in parts:
            self.sent += len(part)
        if self.writer.ring is not None:
            self.writer.ring.seal(self.sent)
            self.writer.ring.free(self.credit)
        try:
            wire.send(parts)
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

    def has_batches(self) -> bool:
        """Tell whether a batch may lie ready that has been read already, so that the kernel does not report it."""
        return bool(self.inbox) or (self.wire is not None and self.wire.pending)

    def is_blocked(self) -> bool:
        """Tell whether the kernel has not taken all output: then the loop calls `resume` when it has room."""
        return self.wire is not None and self.wire.blocked

    def close(self, seconds: float) -> None:
        """End the link. What the kernel has taken reaches the master; the rest has `seconds` seconds to leave."""
        deadline = monotonic() + seconds
        while self.is_blocked() and (left := deadline - monotonic()) > 0:
            self.wait(left)
        before = self._flusher.enter()
        try:
            self._end()
        finally:
            self._flusher.leave(before)

    def _end(self) -> None:
        self.closed = True
        self.ready = False
        self.writer.ring = None
        if self.memory is not None:
            self.memory.close_descriptor()  # the memory stays: batches that were received before may lie in it
        wire = self.wire
        self.wire = None
        if wire is not None:
            if self.unwatch is not None:
                self.unwatch(wire.descriptor)
            wire.close()

    def _write_ack(self) -> None:
        if self._ack_count:
            self.writer.add_integer(ACK, self._ack_first, self._ack_count)
            self._ack_count = 0
