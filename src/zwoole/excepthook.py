"""One clear line instead of a traceback, for mistakes of a script that zwoole can name."""

from __future__ import annotations

import sys
from types import TracebackType

from zwoole.shared.errors import SettingsError, StartError, WrongProcess
from zwoole.shared.process.stderr import print_line
from zwoole.shared.process.tracebacks import place


def install() -> None:
    """Have uncaught SettingsError, StartError and WrongProcess shown as one line; all others as before."""
    previous = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, SettingsError | StartError | WrongProcess):
            print_line(f"{place(trace)}{error}")
        else:
            previous(kind, error, trace)

    sys.excepthook = show
