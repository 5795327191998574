"""From a batch to callbacks: the worker's hot path.

An app without coroutines has its callbacks run right here, one after the other, as the contract in invocation.py says.
An app with coroutines has its events handed to the scheduler (scheduler.py), which keeps each connection's events in
order while those of other connections go on. When a batch is read, it runs them.

Between two events, output leaves if it has become much or old.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import msgpack

from zwoole.shared.process.forks import leave
from zwoole.shared.process.log import get_logger
from zwoole.shared.request import request_of
from zwoole.shared.websocket.close_codes import CLOSE_ABNORMAL
from zwoole.shared.websocket.frames import OP_TEXT
from zwoole.shared.wire.batches import BODY_BYTES, BODY_TEXT, BatchReader
from zwoole.shared.wire.events import ADOPT, CALLBACKS, CLOSE, HANDSHAKE, MESSAGE, MOVED, OPEN, PIPE_MESSAGE
from zwoole.workers.invocation.invocation import Invoker, check_result
from zwoole.workers.invocation.received_frame import frame_of
from zwoole.workers.invocation.scheduler import Scheduler
from zwoole.workers.links.commands import Commands
from zwoole.workers.links.master_link import MasterLink

_OPCODE_OFFSET = BODY_TEXT - OP_TEXT  # a body's type minus its message's opcode: the same for text and bytes

log = get_logger("callbacks")


class Dispatcher:
    """Runs the callbacks for what the masters send.

    Attributes:
        scheduler: runs coroutines; None if the app has none.
        taking: whether a batch is being taken: an exception that is raised now, by a signal handler of the app, loses
            what is left of it.
        unknown: events of a kind that this version does not know.
        invoker: calls the callbacks.
        on_command: called with (link, kind, number, body) for the events that no callback is for; returns whether it
            knew the kind.
    """

    __slots__ = (
        "_commands",
        "_masters",
        "_on_message",
        "_server",
        "invoker",
        "on_command",
        "scheduler",
        "taking",
        "unknown",
    )

    def __init__(self, invoker: Invoker, commands: Commands) -> None:
        self.scheduler: Scheduler | None = None
        self.taking = False
        self.unknown = 0
        self.invoker = invoker
        self.on_command: Callable[[MasterLink, int, int, bytes], bool]
        self._commands = commands
        self._masters = commands.masters
        self._server = invoker.server
        self._on_message = invoker.callbacks.get("message")

    def take_batches(self, link: MasterLink, most: int) -> bool:
        """Take the batches that have arrived on a link, at most `most`; return whether there may be more.

        Compiled, no signal handler of the app runs between the receipt of a batch and its first callback.

        Raises:
            WireError, ZmtpError: the master has broken the protocol.
        """
        self.taking = True
        for _ in range(most):
            parts = link.receive()
            if parts is None:
                self.taking = False
                return False
            self.take_batch(link, parts)
        self.taking = False
        return True

    def take_batch(self, link: MasterLink, parts: list[bytes]) -> None:
        """Run the callback of every event of a batch, or hand the events to the scheduler.

        Raises:
            WireError: the master sent a malformed batch.
        """
        event = BatchReader(parts, None if link.memory is None else link.memory.down)
        if event.credit > link.credit:  # a batch from the inbox is older than what a waiting push has seen
            link.credit = event.credit
        invoker = self.invoker
        counts = invoker.counts
        scheduler = self.scheduler
        sequence = event.first
        before = monotonic()
        while event.next():
            kind = event.kind
            if kind == MESSAGE:
                fd = event.number
                data = event.text() if event.body_type == BODY_TEXT else event.data()
                counts.taken(kind)
                if scheduler is not None:
                    scheduler.add_message(link, sequence, fd, data, event.body_type - _OPCODE_OFFSET)
                else:
                    frame = frame_of(fd, data, event.body_type - _OPCODE_OFFSET)
                    if self._on_message is not None and not self._commands.has_ended(fd):
                        link.started(sequence)
                        try:
                            result = self._on_message(self._server, frame)
                            if result is not None:
                                check_result(result)
                        except BaseException as error:
                            invoker.failed("message", fd, error)
                        if invoker.forked:
                            leave()
                    link.finished(sequence)
                    counts.finished += 1
                    now = monotonic()
                    counts.ran(now - before)
                    if now - before > invoker.slow_s:
                        invoker.report_slow("message", fd, now - before)
                    if link.flush_due(before, now):
                        self._masters.flush()
                        if now >= counts.record_at:
                            counts.on_record()
                        now = monotonic()
                    before = now
            elif kind in CALLBACKS:
                self._take_rare(link, sequence, kind, event)
                before = monotonic()
            else:
                self._take_command(link, sequence, kind, event)
            sequence += 1
        if scheduler is not None:
            scheduler.run()

    def master_died(self, link: MasterLink) -> None:
        """Run `close` for every connection that went with a master."""
        counts = self.invoker.counts
        if self.scheduler is not None:
            self.scheduler.master_died(link)
        for fd in sorted(link.owned):
            body = [CLOSE_ABNORMAL, "the master process died", "server"]
            counts.taken(CLOSE)
            if self.scheduler is not None:
                self.scheduler.add(link, 0, CLOSE, fd, body)
                continue
            self.invoker.call(CLOSE, fd, body)
            self._commands.ended.discard(fd)
            counts.finished += 1
        link.owned.clear()
        if self.scheduler is not None:
            self.scheduler.run()

    def _take_rare(self, link: MasterLink, sequence: int, kind: int, event: BatchReader) -> None:
        """Take one of the events that are not messages."""
        fd: int = event.number
        if kind == PIPE_MESSAGE:  # the sender has a lane of its own below those of the connections
            fd = -1 - fd
        counts = self.invoker.counts
        counts.taken(kind)
        try:
            body = self._body(link, kind, fd, event)
        except (TypeError, ValueError, msgpack.UnpackException) as error:  # a state that the app should not have packed
            self.invoker.failed(CALLBACKS[kind], fd, error)
            link.finished(sequence)
            counts.finished += 1
            return
        if self.scheduler is not None:
            self.scheduler.add(link, sequence, kind, fd, body)
            return
        before = monotonic()
        if CALLBACKS[kind] in self.invoker.callbacks:
            link.started(sequence)
        self.invoker.call(kind, fd, body)
        if kind == CLOSE:
            self._commands.ended.discard(fd)
        link.finished(sequence)
        counts.finished += 1
        if link.flush_due(before, monotonic()):
            self._masters.flush()

    def _body(self, link: MasterLink, kind: int, fd: int, event: BatchReader) -> Any:
        """Return what an event carries, and keep account of the connections that this worker has on the link."""
        if kind == HANDSHAKE:
            return request_of(fd, event.data())
        if kind in (OPEN, ADOPT):
            link.owned.add(fd)
            record, state = msgpack.unpackb(event.data())
            return request_of(fd, record, msgpack.unpackb(state, strict_map_key=False) if state else None)
        if kind == CLOSE:
            link.owned.discard(fd)
        return msgpack.unpackb(event.data(), strict_map_key=False) if event.body_type == BODY_BYTES else None

    def _take_command(self, link: MasterLink, sequence: int, kind: int, event: BatchReader) -> None:
        """Take an event that no callback is for."""
        body = event.data() if event.body_type == BODY_BYTES else b""
        if kind == MOVED:
            link.owned.difference_update(msgpack.unpackb(body))
        elif not self.on_command(link, kind, event.number, body):
            self.unknown += 1
            log.warning("the master sent an event of unknown kind %d", kind)
        link.finished(sequence)
