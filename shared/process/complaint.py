"""The one line on stderr by which a command, or a script that cannot start, says what is wrong."""

from __future__ import annotations

import contextlib
import sys


def say(message: str) -> None:
    """Write a message to stderr, if that takes it: a pipe that is closed changes no exit code."""
    with contextlib.suppress(OSError):
        print(f"zwoole: {message}", file=sys.stderr, flush=True)
