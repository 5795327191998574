"""The tasks and threads that the app runs beside its callbacks: their failures are logged, and none ends unnoticed.

Python reports a failed task when the task is garbage-collected, so never while something refers to it. It reports a
failed thread in several lines without time and process. Here both are logged as the failure of a callback is.

A task that still runs when the worker ends is cancelled and named in the log, so that no job disappears silently. A
task that the app has cancelled itself may clean up, and is not named.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from zwoole.shared.errors import only_says_closed
from zwoole.shared.process.log import get_logger

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

RETRIEVE_S = 1.0  # a failed task is logged if nothing has asked for its result in this time
END_S = 1.0  # how long a cancelled task may clean up, and how long a thread may go on before it is named
NAMED = 10  # tasks or threads that one line of the log names

log = get_logger("callbacks")


def watch_threads() -> None:
    """Log failures of threads, and exceptions that Python cannot raise, unless the app has its own hooks for them."""
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_failed
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def waited_for() -> list[threading.Thread]:
    """Return the threads of the app that keep this process from ending."""
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if thread is not main and not thread.daemon]


def name_threads(threads: Iterable[threading.Thread]) -> None:
    """Log which of the threads this process still waits for, if there are any."""
    left = [thread.name for thread in threads if thread.is_alive()]
    if left:
        log.info("this worker has ended, but waits for %d thread(s): %s", len(left), _list(left))


async def end_executor() -> None:
    """Wait until the threads of `asyncio.to_thread` and the like have finished, and name them if that takes long."""
    threads = waited_for()  # before asyncio starts a thread to wait in
    ending = asyncio.ensure_future(asyncio.get_running_loop().shutdown_default_executor())
    await asyncio.wait({ending}, timeout=END_S)
    if not ending.done():
        name_threads(threads)
    await ending


if sys.version_info >= (3, 11):
    _Task = asyncio.Task

    def was_cancelled(task: asyncio.Task[Any]) -> bool:
        """Tell whether the app has cancelled a task, which may not have ended yet."""
        return task.cancelling() > 0

else:

    class _Task(asyncio.Task[Any]):
        """A task that knows whether it was cancelled, as tasks of later Pythons do."""

        asked_to_end = False

        def cancel(self, msg: Any = None) -> bool:
            """Cancel it, and remember that."""
            self.asked_to_end = True
            return super().cancel(msg)

    def was_cancelled(task: asyncio.Task[Any]) -> bool:
        """Tell whether the app has cancelled a task, which may not have ended yet."""
        return getattr(task, "asked_to_end", False)


class Tasks:
    """The tasks of one asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch the tasks that this loop makes from now on."""
        self._loop = loop
        loop.set_task_factory(self._make)
        loop.set_exception_handler(_loop_failed)

    def _make(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = _Task(coroutine, loop=loop, **more)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        """Look at a failed task again a little later: something may await it until then."""
        if task._log_traceback:  # failed, and nothing has asked for its result
            self._loop.call_later(RETRIEVE_S, self._look, weakref.ref(task))

    def _look(self, reference: weakref.ref[asyncio.Task[Any]]) -> None:
        task = reference()
        if task is not None:
            self._report(task)

    def _report(self, task: asyncio.Task[Any]) -> None:
        if not task._log_traceback:
            return
        context = {"message": "a task failed, and nothing awaits it", "exception": task.exception(), "task": task}
        self._loop.call_exception_handler(context)

    async def end(self) -> None:
        """Wait for the tasks that the app has cancelled, then cancel and name the others; END_S at most for each step.

        A task that the app has cancelled, and that still runs after END_S, counts as one of the others.
        """
        own = {asyncio.current_task()}
        watched = asyncio.all_tasks() - own
        await asyncio.sleep(0)  # a task that was cancelled a moment ago has not run since
        await _wait([task for task in watched if not task.done() and was_cancelled(task)])
        running = asyncio.all_tasks() - own
        for task in running:
            task.cancel()
        if running:
            names = _list(_describe(task) for task in running)
            log.info(
                "%d task(s) of the app still ran when this worker ended, and were cancelled: %s", len(running), names
            )
        await _wait(running)
        left = [task for task in running if not task.done()]
        for task in watched | running:
            if task.done() and not task.cancelled():
                self._report(task)
        if left:
            log.warning("%d task(s) went on after they were cancelled: %s", len(left), _list(map(_describe, left)))


async def _wait(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Wait until tasks have ended, END_S at most."""
    if tasks:
        await asyncio.wait(tasks, timeout=END_S)


def _loop_failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio reports: a task that failed, or a callback of its loop that raised."""
    error = context.get("exception")
    task = context.get("task") or context.get("future")
    if isinstance(error, SystemExit) or only_says_closed(error):
        return
    if isinstance(task, asyncio.Task) and error is not None:
        log.error("the task %s failed", _describe(task), exc_info=error)
    else:
        log.error("asyncio: %s", context["message"], exc_info=error)


def _thread_failed(arguments: threading.ExceptHookArgs) -> None:
    if not isinstance(arguments.exc_value, SystemExit) and not only_says_closed(arguments.exc_value):
        name = arguments.thread.name if arguments.thread is not None else "that has ended"
        log.error("the thread %s failed", name, exc_info=arguments.exc_value)


def _unraisable(arguments: UnraisableHookArgs) -> None:
    where = arguments.err_msg or "Exception ignored in"
    log.error("an exception could not be raised: %s: %r", where, arguments.object, exc_info=arguments.exc_value)


def _describe(task: asyncio.Task[Any]) -> str:
    """Return a task's name, and the function that it runs."""
    coroutine: Any = task.get_coro()
    return f"{task.get_name()} ({getattr(coroutine, '__qualname__', repr(coroutine))})"


def _list(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
