"""How a worker ends in the middle of what it does, and its exit codes."""

from __future__ import annotations

import os
from typing import NoReturn

from zwoole.shared.process.log import ExcInfo, flush, get_logger

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
