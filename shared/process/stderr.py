"""The line on stderr by which a command, or a script that cannot start, reports what happened."""

from __future__ import annotations

import contextlib
import sys


def print_line(message: str) -> None:
    """Write `message` as a line to stderr. If stderr cannot be written, nothing is raised, so the exit code stays the
    same.
    """
    with contextlib.suppress(OSError):
        print(f"zwoole: {message}", file=sys.stderr, flush=True)
