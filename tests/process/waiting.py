"""Waiting for another process: for a condition with a deadline, never for a fixed time."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

PATIENCE_S = 60.0  # shared cores are slow at times; anything longer is a failure
POLL_S = 0.01


def wait_for(condition: Callable[[], Value], what: str, within: float = PATIENCE_S) -> Value:
    """Return the first true value of a condition. If there is none in time, the test fails and names `what` it
    waited for.
    """
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:g} s in vain for {what}")
        time.sleep(POLL_S)
    return value


def is_readable(descriptor: int, within: float = 0.0) -> bool:
    """Return whether a descriptor of any number becomes readable within the timeout."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(within * 1000))
