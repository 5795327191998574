"""Runners: the tasks that run callbacks which may be coroutines.

A task per event would cost more than the event: 4 microseconds, against 0.2 for a step of a coroutine. So a runner is
the coroutine of a task that runs one event after the other, without going back to asyncio's loop. Only if a callback
suspends, its runner does too, with whatever the callback awaits; then the next runner goes on with the queue.

What runs in a callback is asyncio's own task, so `asyncio.current_task()`, `asyncio.timeout()`, task groups and
cancellation do what they do in any task. The task seems to be the callback's own:
- Each callback has context variables of its own (steps.py).
- A task that was cancelled, that somebody watches, or that somebody still has a reference to when its callback has
  ended, runs no other: it is done then, as the callback's own task would be.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from inspect import iscoroutine
from time import monotonic
from types import CoroutineType
from typing import Any

from zwoole.shared.process.forks import leave
from zwoole.shared.wire.events import CLOSE, HANDSHAKE, MESSAGE
from zwoole.workers.core.steps import Steps, references
from zwoole.workers.core.waiter import Waiter
from zwoole.workers.invocation.invocation import Invoker
from zwoole.workers.invocation.lanes import Job, Lanes
from zwoole.workers.invocation.received_frame import frame_of
from zwoole.workers.links.commands import Commands

MAX_IDLE_RUNNERS = 32
_MAX_IDLE_RUNNERS = MAX_IDLE_RUNNERS  # a C number in the compiled module


class Task(asyncio.Task[None]):
    """The task of a runner. It tells its runner if it is cancelled or watched."""

    runner: Runner

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the callback that runs; the task ends with it."""
        self.runner.is_used = True
        return super().cancel(msg)

    def add_done_callback(self, fn: Callable[[Task], object], /, *, context: contextvars.Context | None = None) -> None:
        """Have a function called when the callback that runs has ended; the task ends with it."""
        self.runner.is_used = True
        super().add_done_callback(fn, context=context)


class Runners:
    """The runners of one worker: those that run callbacks, and those that wait for events.

    Attributes:
        lanes: the events that wait.
        stopping: whether no further event may begin.
        running: the runners whose tasks have not ended.
        begins: whether a runner was made and has not begun.
        call_run: has the loop call `Scheduler.run`; set by the builder.
    """

    __slots__ = (
        "_commands",
        "_idle",
        "_invoker",
        "_loop",
        "_masters",
        "_on_message",
        "_runs",
        "_server",
        "begins",
        "call_run",
        "lanes",
        "running",
        "stopping",
    )

    def __init__(self, invoker: Invoker, commands: Commands, loop: asyncio.AbstractEventLoop) -> None:
        """Prepare to run callbacks.

        Args:
            invoker: knows the callbacks, and what their failures mean.
            commands: know which connections this worker has ended.
            loop: the loop of the tasks.
        """
        self.lanes = Lanes()
        self.stopping = False
        self.running: set[Runner] = set()
        self.begins = False
        self.call_run: Callable[[], None]
        self._idle: list[Runner] = []
        self._invoker = invoker
        self._commands = commands
        self._masters = commands.masters
        self._loop = loop
        self._server = invoker.server
        self._on_message = invoker.callbacks.get("message")
        self._runs = False  # whether `run` is being executed

    def want_one(self) -> bool:
        """Tell whether some event is queued and may begin."""
        return self.lanes.waits() and not self.stopping and not self._masters.congested()

    def run(self, debug: bool) -> None:
        """Have runners run the events that are queued. Only code that no task runs may call it.

        An idle runner does so until no event is left, or until a callback suspends; then the next one goes on. If none
        is idle, one is made.

        Args:
            debug: whether the loop is in debug mode. Then the loop runs each step, so that its log names the task of a
                step that takes long.
        """
        self._runs = True
        try:
            while self.want_one() and not self._invoker.forked:
                if not self._idle:
                    self._make()
                    break
                waiter = self._idle.pop().waiter
                if waiter is None:
                    continue
                if debug:
                    waiter.wake_soon()
                    break
                waiter.wake()
        finally:
            self._runs = False

    def leave(self) -> None:
        """Have another runner go on with the queue, since one that has run events ends or is suspended."""
        if self._runs or not self.want_one():
            return
        if self._idle:
            self.call_run()
        else:
            self._make()

    def _make(self) -> None:
        """Make a runner, which begins in the next iteration of the loop; nothing if another is about to begin."""
        if not self.begins:
            self.begins = True
            runner = Runner(self)
            runner.task = task = Task(runner, loop=self._loop)
            task.runner = runner
            self.running.add(runner)

    def suspended(self) -> list[tuple[int, int]]:
        """Return kind and fd of the events whose callbacks are suspended."""
        found = []
        for runner in self.running:
            job = runner._job
            if job is not None:
                found.append((job.kind, job.fd))
        return found

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of all runners."""
        return [runner.task for runner in self.running if runner.task is not None]


class Runner:
    """Runs callbacks one after the other. It is the coroutine of its task, which calls all methods here.

    Attributes:
        task: its task; None when that has ended.
        is_used: whether the task was cancelled or is watched, so that it must end with the callback that runs.
        waiter: what it waits on while it is idle.
    """

    __slots__ = ("_before", "_expected", "_job", "_name", "_now", "_runners", "_steps", "is_used", "task", "waiter")

    def __init__(self, runners: Runners) -> None:
        self.task: Task | None = None
        self.is_used = False
        self.waiter: Waiter | None = None
        self._runners = runners
        self._steps = Steps()
        self._job: Job | None = None  # the event whose callback is suspended
        self._name = "message"  # of that event
        self._before = 0.0  # when that callback began, in monotonic seconds; 0 while none runs
        self._now = 0.0  # when the last event ended, which is when the next one begins
        self._expected = -1  # references to the task if nobody else has one; -1: not known

    # What asyncio asks of a coroutine.

    def __await__(self) -> Runner:
        return self

    def __iter__(self) -> Runner:
        return self

    def __next__(self) -> Any:
        return self._advance(None)

    def send(self, value: object) -> Any:
        """Go on when what was awaited is there."""
        return self._advance(None)

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        """Go on with an exception, such as CancelledError. An idle runner ends with it."""
        error = kind
        if isinstance(kind, type):
            error = kind() if value is None else value
        return self._advance(error)

    def close(self) -> None:
        """End the callback that is suspended."""
        coroutine, self._job = self._steps.coroutine, None
        self._steps.end()
        if coroutine is not None and hasattr(coroutine, "close"):
            coroutine.close()

    def __repr__(self) -> str:
        return f"<Runner {self.__qualname__}>"

    def __getattr__(self, name: str) -> Any:
        """Return the name of what the runner does, for the log and for debuggers."""
        if name not in ("__name__", "__qualname__"):
            raise AttributeError(name)
        coroutine = self._steps.coroutine
        return f"idle after {self._name}" if coroutine is None else getattr(coroutine, "__qualname__", repr(coroutine))

    @property
    def cr_frame(self) -> Any:
        """The frame of the callback that is suspended, for `Task.get_stack`."""
        return getattr(self._steps.coroutine, "cr_frame", None)

    @property
    def cr_await(self) -> Any:
        """What the callback that is suspended awaits."""
        return getattr(self._steps.coroutine, "cr_await", None)

    @property
    def cr_running(self) -> bool:
        """Whether its callback is being executed."""
        return getattr(self._steps.coroutine, "cr_running", False)

    @property
    def cr_code(self) -> Any:
        """The code of the callback that is suspended."""
        return getattr(self._steps.coroutine, "cr_code", None)

    # The steps.

    def _advance(self, error: BaseException | None) -> Any:
        """Go on with the callback that was suspended, then with the queue; return what to wait for.

        Raises:
            StopIteration: this runner has ended.
            BaseException: the same, by the error that was thrown into it.
        """
        runners = self._runners
        if self._job is not None:
            awaited = self._step(self._job, error)
            if self._job is not None:
                return awaited
        elif error is not None:
            self._leave()
            raise error
        if self._expected < 0:
            self._expected = references(self.task)
            runners.begins = False
        self.waiter = None
        self._now = monotonic()
        while not (runners.stopping or self.is_used or references(self.task) > self._expected):
            job = None if runners._masters.congested() else runners.lanes.take()
            if job is None:
                if len(runners._idle) >= _MAX_IDLE_RUNNERS:
                    break
                self.waiter = waiter = Waiter(runners._loop)
                runners._idle.append(self)
                return waiter.__next__()
            awaited = self._begin(job)
            if self._job is not None:
                runners.leave()
                return awaited
        self._leave()
        raise StopIteration

    def _leave(self) -> None:
        """Note that the task ends."""
        runners = self._runners
        if self._expected < 0:  # cancelled before it began
            runners.begins = False
        runners.running.discard(self)
        if self in runners._idle:
            runners._idle.remove(self)
        self.task = self.waiter = None
        runners.leave()

    def _begin(self, job: Job) -> Any:
        """Run an event's callback up to its first await, as the contract in invocation.py says.

        If it has suspended then, `_job` is set; return what it awaits.
        """
        runners = self._runners
        invoker = runners._invoker
        steps = self._steps
        link = job.link
        arguments: tuple[Any, ...] | None = None
        if job.kind == MESSAGE:
            self._name = "message"
            callback = None if runners._commands.has_ended(job.fd) else runners._on_message
        else:
            self._name, callback, arguments = invoker.arguments(job.kind, job.fd, job.body)
        if callback is None or (link.closed and job.kind != CLOSE):  # closed: its connection died with its master
            if job.kind == HANDSHAKE:
                invoker.accept_unasked(job.fd)
            self._finish(job, self._now)
            return None
        link.started(job.sequence)
        self._before = before = self._now
        steps.begin()
        runners._masters.may_block = True
        try:
            if arguments is None:
                result = steps.call(callback, runners._server, frame_of(job.fd, job.body, job.opcode))
            else:
                result = steps.call_all(callback, arguments)
        except BaseException as error:
            runners._masters.may_block = False
            self._fail(job, error)
            now = monotonic()
            if now - before > invoker.slow_s:
                invoker.report_slow(self._name, job.fd, now - before)
            self._finish(job, now)
            return None
        runners._masters.may_block = False
        if type(result) is not CoroutineType:
            now = monotonic()
            if now - before > invoker.slow_s:
                invoker.report_slow(self._name, job.fd, now - before)
            if result is None or not hasattr(result, "__await__"):
                self._succeed(job, result, now)
                return None
            if not iscoroutine(result):
                result = result.__await__()
        steps.coroutine = result
        self._job = job
        awaited = self._step(job, None)
        if self._job is not None:
            runners.lanes.suspended(job)
        return awaited

    def _step(self, job: Job, error: BaseException | None) -> Any:
        """Run the next step of an event's callback; return what it awaits. If it has ended, `_job` is None then."""
        steps = self._steps
        try:
            awaited = steps.send() if error is None else steps.throw(error)
        except BaseException as failure:
            self._job = None
            if self._runners.stopping and isinstance(failure, asyncio.CancelledError):
                steps.end()
                self._leave()
                raise
            self._fail(job, failure)
            self._finish(job, monotonic())
            return None
        if steps.ended:
            self._job = None
            self._succeed(job, steps.result, monotonic())
            return None
        return awaited

    def _succeed(self, job: Job, result: object, now: float) -> None:
        """Deal with what a callback has returned."""
        invoker = self._runners._invoker
        if invoker.forked:
            leave()
        if job.kind == HANDSHAKE:
            try:
                invoker.answer_handshake(job.body, result)
            except BaseException as error:
                self._fail(job, error)
        self._finish(job, now)

    def _fail(self, job: Job, error: BaseException) -> None:
        self._runners._invoker.failed(self._name, job.fd, error)

    def _finish(self, job: Job, now: float) -> None:
        """Acknowledge an event that has finished, and let the next one of its connection follow."""
        runners = self._runners
        counts = runners._invoker.counts
        self._steps.end()
        begun = now
        if self._before > 0.0:
            counts.ran(now - self._before)
            if not job.has_lane:  # else what it has pushed before it was suspended has left long ago
                begun = self._before
            self._before = 0.0
        self._now = now
        link = job.link
        link.finished(job.sequence)
        counts.finished += 1
        if job.kind == CLOSE:
            runners._commands.ended.discard(job.fd)
        if now >= counts.record_at:
            counts.on_record()
        runners.lanes.ended(job)
        if link.flush_due(begun, now):
            runners._masters.flush()
            self._now = monotonic()
        if runners._masters.on_output is not None:
            runners._masters.on_output()
