"""The name of a process as `top` and `ps -o comm` show it. Its command line is not changed."""

from __future__ import annotations

import ctypes

PR_SET_NAME = 15  # linux/prctl.h
PR_GET_NAME = 16
MAX_NAME_BYTES = 16  # with the zero at its end

_before = b""


def set_name(name: str) -> None:
    """Set this process's name; only its first 15 bytes count."""
    global _before
    prctl = ctypes.CDLL(None).prctl
    before = ctypes.create_string_buffer(MAX_NAME_BYTES)
    prctl(PR_GET_NAME, before, 0, 0, 0)
    _before = _before or before.value
    prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def restore() -> None:
    """Restore the name from before `set_name`: a forked child is not one of the server's processes."""
    if _before:
        ctypes.CDLL(None).prctl(PR_SET_NAME, _before, 0, 0, 0)
