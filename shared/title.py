"""The name of a process as `top` and `ps -o comm` show it; its whole command line says the rest."""

from __future__ import annotations

import ctypes

PR_SET_NAME = 15  # linux/prctl.h


def set_name(name: str) -> None:
    """Name this process, by 15 bytes at most."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
