"""The way out: from a worker's batch to the connections' output queues."""

from __future__ import annotations

from collections.abc import Callable
from logging import DEBUG

import msgpack

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.core.commands import Commands
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import STAGE_ENDING, STAGE_OPEN
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.output import ALL_BYTES, LARGE
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.worker_link import WorkerLink
from zwoole.reactor.routing.pipes import Pipes
from zwoole.reactor.routing.router import Router
from zwoole.reactor.sending.compression import Compression
from zwoole.reactor.sending.output_limits import OutputLimits
from zwoole.shared.process.log import get_logger
from zwoole.shared.request import MAX_STATE_BYTES
from zwoole.shared.websocket.close_codes import is_sendable
from zwoole.shared.websocket.frames import MAX_CONTROL_PAYLOAD, OP_BINARY, OP_PING, OP_TEXT, build_frame
from zwoole.shared.wire.batches import BODY_BYTES, BODY_INTEGER, BODY_TEXT, BatchReader, WireError
from zwoole.shared.wire.events import (
    ACK,
    BROADCAST,
    DISCONNECT,
    DRAIN,
    FAIL,
    PING,
    PUSH,
    SET_STATE,
    SYNC,
)
from zwoole.shared.wire.trace import describe
from zwoole.shared.wire.zmtp import ZmtpError

BATCHES_PER_TURN = 16
EVENTS_PER_TURN = 4096  # of one worker; a broadcast counts once for each connection; they take about 1 ms
_LARGE = LARGE  # a C integer in the compiled module

log = get_logger("outbound")


class Outbound:
    """Carries out the commands that workers send up.

    Attributes:
        messages: how many messages were queued for clients.
        bytes: the bytes of their payloads.
        dropped: how many pushes and pings were for connections that were gone or closing.
    """

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        router: Router,
        closing: Closing,
        pipes: Pipes,
        limits: OutputLimits,
        compression: Compression,
        commands: Commands,
        served: Callable[[int], None],
        distrust: Callable[[WorkerLink, str], None],
    ) -> None:
        """Create with nothing sent.

        Args:
            loop: the master's loop.
            registry: all connections.
            router: takes acknowledgements, and sends what they make room for.
            closing: closes connections for workers.
            pipes: sends the messages of other workers when there is room.
            limits: decides what may be queued.
            compression: queues messages for connections that agreed on compression.
            commands: the functions that carry out the rarer kinds of events.
            served: called with the incarnation of a worker that has finished its first event.
            distrust: called with a link and a reason if its process has sent a malformed batch.
        """
        self.messages = 0
        self.bytes = 0
        self.dropped = 0
        self._loop = loop
        self._registry = registry
        self._router = router
        self._closing = closing
        self._pipes = pipes
        self._limits = limits
        self._compression = compression
        self._commands = commands.by_kind
        self._served = served
        self._distrust = distrust
        self._debug = log.isEnabledFor(DEBUG)
        self._limit = limits.limit
        self._room = limits.room()
        for kind, carry_out in (
            (DISCONNECT, self._disconnect),
            (FAIL, self._disconnect),
            (PING, self._ping),
            (SET_STATE, self._set_state),
            (SYNC, self._sync),
        ):
            commands.register(kind, carry_out)

    def receive(self, link: WorkerLink) -> bool:
        """Carry out the batches that have arrived on a link, up to a limit; return whether there may be more.

        If a batch exceeds the limit, the next turn continues with it.
        """
        if link.turn != self._loop.turns:
            link.turn = self._loop.turns
            link.events_left = EVENTS_PER_TURN
        for _ in range(BATCHES_PER_TURN):
            if link.events_left <= 0:
                return True
            try:
                event = link.unfinished
                if event is None:
                    parts = link.receive()
                    if parts is None:
                        return False
                    event = self._begin(link, parts)
                link.unfinished = None
                if not self._carry_out(link, event):
                    link.unfinished = event
                    return True
            except (WireError, ZmtpError) as error:
                self._distrust(link, str(error))
                return False
        return True

    def send(self, connection: Connection, opcode: int, data: bytes) -> bool:
        """Queue a message that does not come from a worker; return False if the connection is not open."""
        if connection.stage != STAGE_OPEN or connection.descriptor < 0:
            return False
        if connection.deflater is None:
            frame = build_frame(opcode, data)
            self._queue_frame(connection, frame, len(frame))
        elif self._compression.push(connection, opcode, data):
            self._queued(len(data))
        return True

    def drain_if_done(self, link: WorkerLink) -> None:
        """Send DRAIN to a retiring worker, which means that nothing follows, as soon as that is true."""
        if link.may_drain():
            link.drained = True
            link.send_command(DRAIN, 0, b"")
            self._loop.touch(link)

    def _begin(self, link: WorkerLink, parts: list[bytes]) -> BatchReader:
        """Open a batch, and count its bytes as received.

        Raises:
            WireError: it is malformed, or is not the next one.
        """
        event = BatchReader(parts, None if link.memory is None else link.memory.up)
        if event.first != link.batches:
            raise WireError(f"batch {event.first} came where {link.batches} was due")
        link.batches += 1
        for part in parts:
            link.received += len(part)
        if self._debug:
            trace = describe(parts, None if link.memory is None else link.memory.up, down=False)
            log.debug("from worker %d (incarnation %d): %s", link.worker.id, link.incarnation, trace)
        return event

    def _carry_out(self, link: WorkerLink, event: BatchReader) -> bool:
        """Carry out the events of a batch in order, up to the limit of this turn.

        The pushes of a callback come before its acknowledgement.

        Returns:
            Whether the batch is finished.
        """
        while event.next():
            kind = event.kind
            if kind == PUSH:
                self._push(event)
            elif kind == ACK:
                self._acknowledge(link, event)
            elif kind == BROADCAST:
                link.events_left -= self._broadcast(event)
            elif kind in self._commands:
                self._commands[kind](link, event)
            else:
                log.warning("worker %d sent an event of unknown kind %d", link.worker.id, kind)
            link.events_left -= 1
            if link.events_left <= 0 and event.left:
                return False
        link.received += event.ring_bytes
        self._router.serve(link)
        if link.worker.pipe:
            self._pipes.serve(link)
        if not link.served and link.window.oldest > 1:  # event 0 is WELCOME
            link.served = True
            self._served(link.incarnation)
        if link.retiring:
            self.drain_if_done(link)
        if link.writer.events:
            self._loop.touch(link)
        return True

    def _push(self, event: BatchReader) -> None:
        connection = self._registry.find(event.number)
        if (
            connection is None
            or connection.stage < STAGE_OPEN
            or connection.stage > STAGE_ENDING
            or connection.descriptor < 0
        ):
            self.dropped += 1
            return
        size = event.body_size
        if connection.deflater is not None:
            if self._compression.push(connection, _opcode(event), event.data()):
                self._queued(size)
            return
        if not self._admits(connection, size):
            return
        opcode = _opcode(event)
        output = connection.output
        sent = 0
        if size >= _LARGE:
            sent = output.send_from_ring(connection.transport, connection.descriptor, opcode, event)
        if sent < 0:
            self._closing.broken(connection, -sent)
            self.dropped += 1
            return
        if sent == 0:
            output.queue_message(opcode, event)
        elif self._debug:
            log.debug("fd %d: %d bytes sent from the payload ring", connection.fd, size - output.queued)
        self._loop.flush_later(connection)
        self._queued(size)

    def _broadcast(self, event: BatchReader) -> int:
        """Queue one frame, built once, for every open connection; return how many connections there are in all."""
        opcode = _opcode(event)
        data = event.data()
        frame = build_frame(opcode, data)
        size = len(frame)
        compressed = None
        connections = list(self._registry.by_descriptor.values())
        for connection in connections:
            if connection.stage != STAGE_OPEN:
                continue
            if connection.deflater is None:
                self._queue_frame(connection, frame, size)
                continue
            if compressed is None:
                compressed = self._compression.broadcast(opcode, data)
            if compressed.queue_for(connection):
                self._queued(size)
        return len(connections)

    def _queue_frame(self, connection: Connection, frame: bytes, size: int) -> None:
        if not self._admits(connection, size):
            return
        connection.output.queue(frame)
        self._loop.flush_later(connection)
        self._queued(size)

    def _admits(self, connection: Connection, size: int) -> bool:
        """Tell whether a message of `size` bytes may be queued. The limits are asked only if it may not fit."""
        output = connection.output
        if not output.framed and output.queued + output.pending + size <= self._limit:
            return True
        return self._limits.admit(connection, size)

    def _queued(self, size: int) -> None:
        """Count a queued message of `size` bytes.

        If this turn has queued as much as `output_total_bytes` allows, connections are flushed at once: only then it is
        known how much stays queued.
        """
        self.messages += 1
        self.bytes += size
        self._room -= size + 10
        if self._room < 0:
            self._loop.flush_connections(ALL_BYTES)
            self._room = self._limits.room()

    def _acknowledge(self, link: WorkerLink, event: BatchReader) -> None:
        if event.body_type != BODY_INTEGER:
            raise WireError("an acknowledgement that does not say of how many")
        sequence = event.number
        for _ in range(event.body_integer):
            self._router.finished(link, sequence)
            sequence += 1

    def _ping(self, _: WorkerLink, event: BatchReader) -> None:
        if event.body_type != BODY_BYTES or event.body_size > MAX_CONTROL_PAYLOAD:
            raise WireError("no payload of a ping")
        connection = self._registry.find(event.number)
        if connection is None or connection.stage != STAGE_OPEN:
            self.dropped += 1
        elif self._admits(connection, event.body_size):
            connection.output.queue(build_frame(OP_PING, event.data()))
            self._loop.flush_later(connection)

    def _sync(self, link: WorkerLink, _: BatchReader) -> None:
        """Let credit be returned soon: the worker waits until all that it sent before is carried out."""
        link.credit_asked = True

    def _set_state(self, _: WorkerLink, event: BatchReader) -> None:
        connection = self._registry.find(event.number)
        if connection is not None and event.body_size <= MAX_STATE_BYTES:
            connection.state = event.data()

    def _disconnect(self, _: WorkerLink, event: BatchReader) -> None:
        code, reason = unpack_end(event.data())
        connection = self._registry.find(event.number)
        if connection is not None:
            self._closing.server_close(connection, code, reason)


def _opcode(event: BatchReader) -> int:
    """Return the opcode for the body of an event.

    Raises:
        WireError: the body is neither text nor bytes.
    """
    if event.body_type == BODY_TEXT:
        return OP_TEXT
    if event.body_type == BODY_BYTES:
        return OP_BINARY
    raise WireError("a message without a payload")


def unpack_end(body: bytes) -> tuple[int, str]:
    """Return the close code and reason of a disconnect or fail event.

    Raises:
        WireError: the body holds something else.
    """
    try:
        code, reason = msgpack.unpackb(body)
    except (ValueError, TypeError, msgpack.UnpackException):
        raise WireError("not a close code and a reason") from None
    if not isinstance(code, int) or not is_sendable(code) or not isinstance(reason, str):
        raise WireError("not a close code and a reason")
    return code, reason
