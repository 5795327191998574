"""The descriptors 0, 1 and 2, if one of them is closed when the process begins (`2>&-` in a shell).

The next file or socket that is opened would get such a number, and all that is written to stderr would go into it. So
zwoole opens /dev/null there as soon as it is imported.
"""

from __future__ import annotations

import os
import sys

STANDARD = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_missing() -> None:
    """Open /dev/null for each standard descriptor that is closed, and make the stream that Python has left out for it.

    A number that something else has taken since the process began is left alone: its stream leads to /dev/null too.

    Raises:
        OSError: /dev/null cannot be opened.
    """
    for number, (name, mode) in enumerate(STANDARD):
        leads_to = number
        if not is_open(number) or getattr(sys, name) is None:
            leads_to = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            os.set_inheritable(leads_to, leads_to == number)
        if getattr(sys, name) is None:
            errors = "backslashreplace" if name == "stderr" else "strict"
            stream = open(leads_to, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def is_open(descriptor: int) -> bool:
    """Tell whether a descriptor is open."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
