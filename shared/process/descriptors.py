"""File descriptors: which file one refers to, and the standard ones (0, 1, 2) if the process started without them.

A shell can start a process with a standard descriptor closed (`2>&-`). The next file or socket that the process opens
would then get that number, and text for stderr would be written into it. So zwoole opens /dev/null there as soon as it
is imported.
"""

from __future__ import annotations

import os
import sys

STANDARD = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_missing() -> None:
    """Open /dev/null for each closed standard descriptor, and create the stream that Python left out for it.

    If another file has taken the number since the process started, that file is left alone and the stream writes to
    /dev/null on another descriptor.

    Raises:
        OSError: /dev/null cannot be opened.
    """
    for number, (name, mode) in enumerate(STANDARD):
        target = number
        if not is_open(number) or getattr(sys, name) is None:
            target = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            os.set_inheritable(target, target == number)
        if getattr(sys, name) is None:
            errors = "backslashreplace" if name == "stderr" else "strict"
            stream = open(target, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def is_open(descriptor: int) -> bool:
    """Tell whether a descriptor is open."""
    return file_identity(descriptor) is not None


def file_identity(descriptor: int) -> tuple[int, int] | None:
    """Return the device and inode number of the file that a descriptor refers to; None if it is closed."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino
