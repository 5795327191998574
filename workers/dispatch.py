"""From a batch to callbacks: the worker's hot path.

An app without coroutines has its callbacks run right here, one after the other. An app with coroutines has its events
handed to the scheduler (schedule.py), which keeps each connection's in order while others go on.

Around every callback: its progress is marked before and after, its exception ends its connection with 1011 and never
the worker, its acknowledgement leaves behind its pushes, and what waits to be sent leaves when it is much or old.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgpack

from zwoole.shared.answers import Accept, Refuse, answer_of
from zwoole.shared.process.forks import leave
from zwoole.shared.process.log import get_logger
from zwoole.shared.request import Request, unpack_request
from zwoole.shared.websocket.close_codes import CLOSE_ABNORMAL, CLOSE_INTERNAL_ERROR
from zwoole.shared.wire.batches import ADOPT, CLOSE, HANDSHAKE, MESSAGE, OPEN, PIPE_MESSAGE, BatchReader
from zwoole.workers.commands import Commands
from zwoole.workers.counts import NAMES, Counts
from zwoole.workers.frame import Frame
from zwoole.workers.link import MasterLink

if TYPE_CHECKING:
    from zwoole.workers.scheduler import Scheduler

NO_LOOP = ("no running event loop", "There is no current event loop")  # how asyncio says so

log = get_logger("callbacks")


class NeverAwaited(TypeError):
    """A callback of an app without coroutines returned an awaitable, for which there is no asyncio loop."""


def check_result(result: object) -> None:
    """Check what a callback returned in an app without coroutines.

    Raises:
        NeverAwaited: it must be awaited, and nothing here can.
    """
    if result is None or not hasattr(result, "__await__"):
        return
    if inspect.iscoroutine(result):
        result.close()  # or Python warns, later, that it was never awaited
    raise NeverAwaited(
        "returned a coroutine, but the worker has no asyncio loop: it has one if some callback or handler is"
        " `async def`, so write this one as `async def`"
    )


def hint(error: BaseException) -> str:
    """Return what to add to the log's line about an error: asyncio cannot say why there is no loop."""
    if isinstance(error, RuntimeError) and str(error).startswith(NO_LOOP):
        return ": the worker has an asyncio loop only if some callback or handler is `async def`"
    return ""


class Dispatcher:
    """Runs the callbacks for what the master sends.

    Attributes:
        scheduler: who runs coroutines, None where the app has none.
        counts: what is counted of events and their callbacks.
        events: events finished since the start.
        slow_s: seconds after which a callback is reported as slow.
        unknown: events of a kind that this version does not know.
        exit_requested: whether a callback raised SystemExit: the worker is to be recycled.
        forked: whether this process is a child that a callback has forked: it ends where the callback does.
        record_at: when, in monotonic seconds, the counters are to be written where others can read them.
        on_record: called to write them; it says when to do so next.
        on_command: called with (link, kind, number, body) for the events that no callback is for.
    """

    __slots__ = (
        "_callbacks",
        "_commands",
        "_never_awaited",
        "_on_message",
        "_server",
        "counts",
        "events",
        "exit_requested",
        "forked",
        "on_command",
        "on_record",
        "record_at",
        "scheduler",
        "slow_s",
        "unknown",
    )

    def __init__(
        self, server: object, callbacks: dict[str, Callable[..., Any]], commands: Commands, slow_callback_s: float
    ) -> None:
        self.scheduler: Scheduler | None = None
        self.counts = Counts()
        self.events = 0
        self.unknown = 0
        self.exit_requested = False
        self.forked = False
        self.record_at = float("inf")
        self.on_record: Callable[[], None]
        self.on_command: Callable[[MasterLink, int, int, bytes], bool]
        self._server = server
        self._commands = commands
        self._callbacks = callbacks
        self._on_message = callbacks.get("message")
        self._never_awaited: set[str] = set()  # events whose callbacks cannot run, once that has been said
        self.slow_s = slow_callback_s or float("inf")

    def take_batch(self, link: MasterLink, parts: list[bytes]) -> None:
        """Run, or hand to the scheduler, every event of a batch.

        Raises:
            WireError: the master sent what is no batch.
        """
        event = BatchReader(parts, None if link.memory is None else link.memory.down)
        if event.credit > link.credit:  # a batch from the inbox is older than what a waiting push has seen
            link.credit = event.credit
        sequence = event.first
        before = monotonic()
        while event.next():
            kind = event.kind
            if kind == MESSAGE:
                fd = event.number
                data = event.text() if event.body_type == 2 else event.data()
                frame = Frame(fd, data, event.body_type - 1)
                self.counts.taken(kind)
                if self.scheduler is not None:
                    self.scheduler.add(link, sequence, kind, fd, frame)
                else:
                    if self._on_message is not None and not self._commands.has_ended(fd):
                        link.started(sequence)
                        try:
                            result = self._on_message(self._server, frame)
                            if result is not None:
                                check_result(result)
                        except BaseException as error:
                            self.callback_failed("message", fd, error)
                        if self.forked:
                            leave()
                    link.finished(sequence)
                    self.events += 1
                    now = monotonic()
                    self.counts.ran(now - before)
                    if now - before > self.slow_s:
                        self.report_slow("message", fd, now - before)
                    if link.flush_due(before, now):
                        self._commands.flush()
                        if now >= self.record_at:
                            self.on_record()
                        now = monotonic()
                    before = now
            elif kind in NAMES:
                self._take_rare(link, sequence, kind, event)
                before = monotonic()
            else:
                self._take_command(link, sequence, kind, event)
            sequence += 1

    def master_died(self, link: MasterLink) -> None:
        """Run `close` for every connection that went with a master."""
        if self.scheduler is not None:
            self.scheduler.master_died(link)
        for fd in sorted(link.owned):
            body = [CLOSE_ABNORMAL, "the master process died", "server"]
            self.counts.taken(CLOSE)
            if self.scheduler is not None:
                self.scheduler.add(link, 0, CLOSE, fd, body)
                continue
            self._run(CLOSE, fd, body)
            self.events += 1
        link.owned.clear()

    def callback_failed(self, event: str, fd: int, error: BaseException) -> None:
        """An exception came out of a callback: log it, close its connection (fd, below 0 for none), keep the worker."""
        if self.forked:
            leave(error)
        if isinstance(error, SystemExit):
            what = "handler" if event == "handler" else f"{event!r} callback"
            where = f" for fd {fd}" if fd >= 0 else ""
            log.info("the %s raised SystemExit%s: this worker will be replaced", what, where)
            self.exit_requested = True
            if event == "handshake":
                self._commands.answer_handshake(fd, Refuse(503, "the server is restarting"))
            return
        self.counts.failures[event] += 1
        if isinstance(error, NeverAwaited):
            self._say_never_awaited(event, error)
        elif event == "handshake":
            words = "the 'handshake' callback failed for fd %d, which is answered with 500%s"
            log.error(words, fd, hint(error), exc_info=error)
        elif fd < 0:
            log.error("the %r callback failed%s", event, hint(error), exc_info=error)
        elif event == "close":
            log.error("the 'close' callback failed for fd %d, which is gone%s", fd, hint(error), exc_info=error)
        else:
            words = "the %r callback failed for fd %d, which is closed with 1011%s"
            log.error(words, event, fd, hint(error), exc_info=error)
        if event == "handshake":
            self._commands.answer_handshake(fd, Refuse(500, "the server could not decide"))
        elif fd >= 0 and event != "close":
            self._commands.fail(fd, CLOSE_INTERNAL_ERROR, "callback failed")

    def _say_never_awaited(self, event: str, error: Exception) -> None:
        """Say once for each callback that it must be `async def`: every call of it fails in the same way."""
        if event not in self._never_awaited:
            self._never_awaited.add(event)
            log.error("the %r callback %s", event, error)

    def answer_handshake(self, request: Request, result: object) -> None:
        """Send the master what a `handshake` callback has returned, and what it has left in the request's state.

        Raises:
            TypeError: the result means nothing, or the state cannot be packed.
            ValueError: the state is too large.
        """
        answer = answer_of(result)
        if request.state is not None and isinstance(answer, Accept):
            self._commands.set_state(request.fd, request.state)
        self._commands.answer_handshake(request.fd, answer)

    def report_slow(self, event: str, fd: int, seconds: float) -> None:
        """Say that a callback kept its worker for long."""
        log.warning("the %r callback took %.1f s for fd %d: nothing else ran in this worker", event, seconds, fd)

    def arguments(self, kind: int, fd: int, body: Any) -> tuple[str, Callable[..., Any] | None, tuple[Any, ...]]:
        """Return an event's name, its callback, and what that is called with."""
        if kind == MESSAGE:
            return "message", self._on_message, (self._server, body)
        name = NAMES[kind]
        callback = self._callbacks.get(name)
        if kind == CLOSE:
            code, reason, initiator = body
            return name, callback, (self._server, fd, code, reason, initiator)
        if kind == PIPE_MESSAGE:
            return name, callback, (self._server, -1 - fd, body)
        return name, callback, (self._server, fd if body is None else body)

    def _take_rare(self, link: MasterLink, sequence: int, kind: int, event: BatchReader) -> None:
        """Take one of the events that are not messages."""
        fd: int = event.number
        if kind == PIPE_MESSAGE:  # the sender has a lane of its own below those of the connections
            fd = -1 - fd
        body = self._body(link, kind, fd, event)
        self.counts.taken(kind)
        if self.scheduler is not None:
            self.scheduler.add(link, sequence, kind, fd, body)
            return
        before = monotonic()
        if NAMES[kind] in self._callbacks:
            link.started(sequence)
        self._run(kind, fd, body)
        link.finished(sequence)
        self.events += 1
        if link.flush_due(before, monotonic()):
            self._commands.flush()

    def _run(self, kind: int, fd: int, body: Any) -> None:
        """Run the callback of an event that is no message, if the app has one."""
        name, callback, arguments = self.arguments(kind, fd, body)
        if callback is not None:
            before = monotonic()
            try:
                result = callback(*arguments)
                if self.forked:
                    leave()
                check_result(result)
                if kind == HANDSHAKE:
                    self.answer_handshake(body, result)
            except BaseException as error:
                self.callback_failed(name, fd, error)
            seconds = monotonic() - before
            self.counts.ran(seconds)
            if seconds > self.slow_s:
                self.report_slow(name, fd, seconds)
        elif kind == HANDSHAKE:  # asked for by a predecessor whose code had the callback
            self._commands.answer_handshake(fd, Accept())
        if kind == CLOSE:
            self._commands.ended.discard(fd)

    def _body(self, link: MasterLink, kind: int, fd: int, event: BatchReader) -> Any:
        """Return what an event carries, and keep the account of whose connection it is."""
        if kind == HANDSHAKE:
            return unpack_request(fd, event.data())
        if kind in (OPEN, ADOPT):
            link.owned.add(fd)
            record, state = msgpack.unpackb(event.data())
            request = unpack_request(fd, record)
            request.state = msgpack.unpackb(state, strict_map_key=False) if state else None
            return request
        if kind == CLOSE:
            link.owned.discard(fd)
            return msgpack.unpackb(event.data())
        if kind == PIPE_MESSAGE:
            return msgpack.unpackb(event.data(), strict_map_key=False)
        return None

    def _take_command(self, link: MasterLink, sequence: int, kind: int, event: BatchReader) -> None:
        """Take what is no callback's."""
        body = event.data() if event.body_type == 3 else b""
        if not self.on_command(link, kind, event.number, body):
            self.unknown += 1
            log.warning("the master sent an event of unknown kind %d", kind)
        link.finished(sequence)
