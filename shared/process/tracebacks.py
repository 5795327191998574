"""Tracebacks reduced to the frames of the user's own code, with a suggestion if a name of ours was misspelt."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import TracebackType

from zwoole.shared.suggest import did_you_mean

PACKAGE = Path(__file__).parent.parent.parent
FOLDERS = ("reactor", "workers", "shared", "supervisor", "bench")  # links in a checkout
OURS = tuple(f"{folder.resolve()}/" for folder in (PACKAGE, *(PACKAGE / name for name in FOLDERS)))
COMPILED = "src/zwoole/"  # the prefix of file names in frames of compiled modules
RUNPY = "/runpy.py"


def is_users(filename: str) -> bool:
    """Return whether a frame's file belongs to the user: neither to zwoole nor to the interpreter's way of running
    scripts.
    """
    if filename.startswith(("<", COMPILED)) or filename.endswith(RUNPY):
        return False
    return not str(Path(filename).resolve()).startswith(OURS)


def place(trace: TracebackType | None) -> str:
    """Return "app.py:5: " for the line of the user's code that an error came from, "" if there is none."""
    lines = [frame for frame in traceback.extract_tb(trace) if is_users(frame.filename)]
    return f"{Path(lines[-1].filename).name}:{lines[-1].lineno}: " if lines else ""


def users_part(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """Return an error with only the user's frames in its traceback, in the form that logging and `traceback` take."""
    frames = []
    try:
        trace = error.__traceback__
    except Exception:  # the user's class overrides __traceback__
        trace = None
    while trace is not None:
        if is_users(trace.tb_frame.f_code.co_filename):
            frames.append(trace)
        trace = trace.tb_next
    for frame in reversed(frames):
        trace = TracebackType(trace, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return type(error), error, trace


def text_of(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> str:
    """Return a traceback as Python prints it, without the newline at its end.

    If an attribute of one of our objects was misspelt, the text ends with the name that was probably meant. If the
    user's error raises another error while it is formatted, only its name is given.
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
    """Return what to append to a traceback. From 3.12 on Python has suggestions too, but none for swapped letters."""
    if not isinstance(error, AttributeError):
        return ""
    try:
        if type(error.name) is not str or not text.endswith(f"has no attribute {error.name!r}"):
            return ""
        ours = [each for each in type(error.obj).__mro__ if str(each.__module__).startswith("zwoole.")]
        known = [name for each in ours for name in vars(each) if name[0] != "_" and hasattr(each, name)]
        return did_you_mean(error.name, known)
    except Exception:  # the user's class may have any properties or metaclass
        return ""
