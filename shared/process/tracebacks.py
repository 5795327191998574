"""Tracebacks as a user wants them: the frames of their own code, without those of ours that called it, and a name of
ours that was mistyped answered with the right one.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import TracebackType

from zwoole.shared.suggest import did_you_mean

PACKAGE = Path(__file__).parent.parent.parent
FOLDERS = ("reactor", "workers", "shared", "supervisor", "bench")  # in a checkout these are links
OURS = tuple(f"{folder.resolve()}/" for folder in (PACKAGE, *(PACKAGE / name for name in FOLDERS)))
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
    try:
        trace = error.__traceback__
    except Exception:  # the user's class has one of its own
        trace = None
    while trace is not None:
        if is_users(trace.tb_frame.f_code.co_filename):
            frames.append(trace)
        trace = trace.tb_next
    for frame in reversed(frames):
        trace = TracebackType(trace, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return type(error), error, trace


def text_of(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> str:
    """Return a traceback as Python prints it, without the newline at its end. Where an attribute of an object of ours
    was mistyped, it ends with the name that was probably meant. An error of the user's whose own code fails when it is
    shown is named only.
    """
    try:
        text = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")
        return text + _suggestion(error, text)
    except Exception as why:
        return f"{kind.__name__}, which cannot be shown: {type(why).__name__} in its own code"


def print_users_part(error: BaseException) -> None:
    """Print the traceback of an error to stderr, with the user's own frames only."""
    print(text_of(*users_part(error)), file=sys.stderr)


def _suggestion(error: BaseException, text: str) -> str:
    """Return what to add to a traceback. Python has suggestions too, from 3.12 on, but none for swapped letters."""
    if not isinstance(error, AttributeError):
        return ""
    try:
        if type(error.name) is not str or not text.endswith(f"has no attribute {error.name!r}"):
            return ""
        ours = [each for each in type(error.obj).__mro__ if str(each.__module__).startswith("zwoole.")]
        known = [name for each in ours for name in vars(each) if name[0] != "_" and hasattr(each, name)]
        return did_you_mean(error.name, known)
    except Exception:  # of the user's code: anything may be a property, or have a metaclass
        return ""
