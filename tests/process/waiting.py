"""Waiting for what another process does: for a condition with a deadline, never for a while."""

from __future__ import annotations

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
