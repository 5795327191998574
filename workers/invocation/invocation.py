"""How the app's callbacks are called: one contract for all of them.

1. **Marked.** The event of a connection is marked in the progress map before its callback begins and after it ended.
   The master knows by these marks what a dead worker had begun. An event without a callback is only marked as finished.
2. **Called.** A callback is called with the arguments that `Invoker.arguments` returns. Its result is checked: an app
   without coroutines has no asyncio loop, so an awaitable is an error there; with coroutines it is awaited. The result
   of `handshake` is the answer to the client.
3. **Timed.** The time that it took is counted. If a `def` callback kept the worker for longer than `slow_callback_s`, a
   warning says so, also if it raised. Of a callback that returns an awaitable only the call is measured for that, not
   the time in which it is awaited; so nothing of an `async def` is.
4. **Failures stay in it.** An exception is logged and counted, and closes the connection with 1011; after `handshake`
   the client is answered with 500. The worker goes on. SystemExit is no failure: it has this worker replaced.
5. **Forks end.** If a callback has forked, the child ends where the callback ends.
6. **Acknowledged.** The acknowledgement of the event leaves behind everything that the callback has pushed.

`Invoker.call` does this for a `def` callback. Two callers have the same steps inline, because they are the hot paths:
`Dispatcher.take_batch` for messages, and `Runner._begin` for callbacks that may be coroutines. Marks and
acknowledgements are theirs in any case, since they know the link.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from time import monotonic
from typing import Any

from zwoole.shared.answers import Accept, Refuse, answer_of
from zwoole.shared.process import forks
from zwoole.shared.process.forks import leave
from zwoole.shared.process.log import get_logger
from zwoole.shared.request import Request
from zwoole.shared.websocket.close_codes import CLOSE_INTERNAL_ERROR
from zwoole.shared.wire.events import CALLBACKS, CLOSE, HANDSHAKE, MESSAGE, PIPE_MESSAGE
from zwoole.workers.core.counts import Counts
from zwoole.workers.links.commands import Commands

NO_LOOP = ("no running event loop", "There is no current event loop")  # asyncio's words if no loop runs
NO_CONNECTION = -1  # stands for the fd if a callback is about none

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
        "returned a coroutine, but the worker has no asyncio loop: it has one only if some callback or handler is"
        " `async def`, so write this one as `async def`"
    )


def hint(error: BaseException) -> str:
    """Return what to add to the log's line about an error: asyncio cannot say why there is no loop."""
    if isinstance(error, RuntimeError) and str(error).startswith(NO_LOOP):
        return ": the worker has an asyncio loop only if some callback or handler is `async def`"
    return ""


class Invoker:
    """Calls the callbacks of one app, and deals with what comes out of them.

    Attributes:
        counts: counts events, their callbacks' times and failures.
        slow_s: seconds after which a callback is reported as slow.
        exit_requested: whether a callback raised SystemExit, so that this worker is to be replaced.
        forked: whether this process is a child that a callback has forked.
        server: the app's Server, the first argument of every callback.
        callbacks: the app's callbacks, by event.
    """

    __slots__ = (
        "_commands",
        "_never_awaited",
        "_on_message",
        "callbacks",
        "counts",
        "exit_requested",
        "forked",
        "server",
        "slow_s",
    )

    def __init__(
        self, server: object, callbacks: dict[str, Callable[..., Any]], commands: Commands, slow_callback_s: float
    ) -> None:
        """Prepare to call callbacks.

        Args:
            server: the first argument of every callback.
            callbacks: the callbacks by event, each made to take all arguments of its event.
            commands: close the connections of callbacks that fail, and answer handshakes.
            slow_callback_s: seconds after which a callback is reported as slow; 0 for never.
        """
        self.counts = Counts()
        self.slow_s = slow_callback_s or float("inf")
        self.exit_requested = False
        self.forked = False
        self.server = server
        self.callbacks = callbacks
        self._commands = commands
        self._on_message = callbacks.get("message")
        self._never_awaited: set[str] = set()  # events whose callbacks cannot run, once that has been said

    def arguments(self, kind: int, fd: int, body: Any) -> tuple[str, Callable[..., Any] | None, tuple[Any, ...]]:
        """Return an event's name, its callback or None, and the arguments to call that with.

        Args:
            kind: which event.
            fd: the connection; for a message of another worker, -1 - the sender's id.
            body: what the event carries, decoded.
        """
        if kind == MESSAGE:
            return "message", self._on_message, (self.server, body)
        name = CALLBACKS[kind]
        callback = self.callbacks.get(name)
        if kind == CLOSE:
            code, reason, initiator = body
            return name, callback, (self.server, fd, code, reason, initiator)
        if kind == PIPE_MESSAGE:
            return name, callback, (self.server, -1 - fd, body)
        return name, callback, (self.server, fd if body is None else body)

    def call(self, kind: int, fd: int, body: Any) -> None:
        """Call the `def` callback of an event, if the app has one. Arguments as in `arguments`."""
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
                self.failed(name, fd, error)
            seconds = monotonic() - before
            self.counts.ran(seconds)
            if seconds > self.slow_s:
                self.report_slow(name, fd, seconds)
        elif kind == HANDSHAKE:
            self.accept_unasked(fd)

    def call_for_worker(self, event: str, worker_id: int) -> Any:
        """Call a callback that is about the worker itself, such as `worker_start`; return its result unchecked."""
        callback = self.callbacks.get(event)
        with forks.child_ends_here():
            return None if callback is None else callback(self.server, worker_id)

    def answer_handshake(self, request: Request, result: object) -> None:
        """Send the master what a `handshake` callback has returned, and the state that it has put into the request.

        Raises:
            TypeError: the result is none of the possible answers, or the state cannot be packed.
            ValueError: the state is too large.
        """
        answer = answer_of(result)
        if request.state is not None and isinstance(answer, Accept):
            self._commands.set_state(request.fd, request.state)
        self._commands.answer_handshake(request.fd, answer)

    def accept_unasked(self, fd: int) -> None:
        """Accept a client in an app without a `handshake` callback: the code before a reload had one."""
        self._commands.answer_handshake(fd, Accept())

    def report_slow(self, event: str, fd: int, seconds: float) -> None:
        """Log that a callback kept its worker for long."""
        log.warning("the %r callback took %.1f s for fd %d: nothing else ran in this worker", event, seconds, fd)

    def failed(self, event: str, fd: int, error: BaseException) -> None:
        """Deal with an exception that came out of a callback: log it, and close its connection.

        Args:
            event: the event, or "handler" for a handler that raised SystemExit.
            fd: the connection; below 0 if there is none.
            error: the exception.
        """
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

    def handler_failed(self, fd: int, error: BaseException) -> None:
        """Log and count the failure of a coroutine handler; the scheduler closes its connection."""
        self.counts.failures["handler"] += 1
        log.error("the handler failed for fd %d, closed with 1011", fd, exc_info=error)

    def failed_for_worker(self, event: str, error: BaseException) -> None:
        """Log the failure of a callback about the worker's own end, which has no other consequence."""
        if not isinstance(error, SystemExit):
            self.failed(event, NO_CONNECTION, error)

    def _say_never_awaited(self, event: str, error: Exception) -> None:
        """Say once for each callback that it must be `async def`: every call of it fails in the same way."""
        if event not in self._never_awaited:
            self._never_awaited.add(event)
            log.error("the %r callback %s", event, error)
