"""One clear line instead of a traceback, for mistakes of a script that zwoole can name."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import TracebackType

from zwoole.shared.errors import SettingsError, StartError, WrongProcess
from zwoole.shared.process.stderr import print_line
from zwoole.shared.process.tracebacks import is_users


def install() -> None:
    """Have uncaught SettingsError, StartError and WrongProcess shown as one line; all others as before."""
    previous = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, SettingsError | StartError | WrongProcess):
            print_line(f"{place(trace)}{error}")
        else:
            previous(kind, error, trace)

    sys.excepthook = show


def place(trace: TracebackType | None) -> str:
    """Return "app.py:5: " for the line of the user's code that an error came from, "" if there is none."""
    lines = [frame for frame in traceback.extract_tb(trace) if is_users(frame.filename)]
    return f"{Path(lines[-1].filename).name}:{lines[-1].lineno}: " if lines else ""
