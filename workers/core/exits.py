"""How a worker ends in the middle of what it does, and its exit codes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

from zwoole.shared.errors import WrongProcess
from zwoole.shared.process import forks
from zwoole.shared.process.log import ExcInfo, flush, get_logger

if TYPE_CHECKING:
    import asyncio

CANNOT_START = 1  # the run directory, or a part of it, is gone
LOOP_FAILED = 1  # an exception has ended the loop
INTERRUPTED = 1  # a signal handler of the app has interrupted a batch
BOOT_FAILED = 3  # the app or `worker_start` failed: the supervisor gives up if that happens again and again


def end_worker(
    message: str, *arguments: object, code: int, exc_info: BaseException | ExcInfo | None = None
) -> NoReturn:
    """Log why this worker ends, and end it without running anything else.

    Args:
        message: the reason, with the log's placeholders.
        arguments: what to put into the placeholders.
        code: the exit code.
        exc_info: an exception whose traceback is logged too.
    """
    get_logger("worker").error(message, *arguments, exc_info=exc_info)
    flush()
    os._exit(code)


def end_child(task: asyncio.Task[Any] | None) -> None:
    """End a forked child that has come back to its parent's event loop.

    Args:
        task: the task that forked, None if no task did.
    """
    with forks.child_ends_here():
        if task is not None and not task.done():
            raise WrongProcess(
                "a process that a coroutine has forked cannot await anything: the event loop is its parent's; fork with"
                " multiprocessing or concurrent.futures"
            )
        if task is not None:
            task.result()
