"""Tracebacks as a user wants them: the frames of their own code, without those of ours that called it."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

PACKAGE = Path(__file__).parent.parent  # in a checkout the rooms in it are links
ROOMS = (PACKAGE, PACKAGE / "reactor", PACKAGE / "workers", PACKAGE / "shared")
OURS = tuple(f"{room.resolve()}/" for room in ROOMS)
COMPILED = "src/zwoole/"  # how frames of compiled modules name their files
RUNPY = "/runpy.py"


def is_users(filename: str) -> bool:
    """Tell whether a frame's file is neither ours nor the interpreter's that runs scripts."""
    if filename.startswith(("<", COMPILED)) or filename.endswith(RUNPY):
        return False
    return not str(Path(filename).resolve()).startswith(OURS)


def print_users_part(error: BaseException) -> None:
    """Print the traceback of an error to stderr, with the user's own frames only."""
    shown = traceback.TracebackException.from_exception(error)
    shown.stack = traceback.StackSummary.from_list([frame for frame in shown.stack if is_users(frame.filename)])
    print("".join(shown.format()), end="", file=sys.stderr)
