"""Tracebacks as a user wants them: the frames of their own code, without those of ours that called it."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import TracebackType

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


def users_part(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """Return an error with the user's own frames of its traceback, as logging and `traceback` take it."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        if is_users(trace.tb_frame.f_code.co_filename):
            frames.append(trace)
        trace = trace.tb_next
    for frame in reversed(frames):
        trace = TracebackType(trace, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return type(error), error, trace


def print_users_part(error: BaseException) -> None:
    """Print the traceback of an error to stderr, with the user's own frames only."""
    traceback.print_exception(*users_part(error), file=sys.stderr)
