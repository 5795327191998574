"""Waiting for what another process does: for a condition with a deadline, never for a while."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

PATIENCE_S = 60.0  # shared cores are slow at times; what takes longer has gone wrong
POLL_S = 0.01


def wait_for(condition: Callable[[], Value], what: str, within: float = PATIENCE_S) -> Value:
    """Return the first true value of a condition; the test fails, saying `what` was awaited, if none comes in time."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:g} s in vain for {what}")
        time.sleep(POLL_S)
    return value


def is_readable(descriptor: int, within: float = 0.0) -> bool:
    """Tell whether there is something to be read, at the latest after so many seconds; of any descriptor's number."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(within * 1000))
