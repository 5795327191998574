"""The duty of process 1: reaping the orphans that become its children. In a container nothing else does."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Container
from pathlib import Path

PR_GET_CHILD_SUBREAPER = 37  # linux/prctl.h


def is_reaper() -> bool:
    """Tell whether orphans become children of this process: if it is process 1, or was made a subreaper."""
    if os.getpid() == 1:
        return True
    answer = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


def reap(own: Container[int]) -> list[int]:
    """Reap the children that have ended, except our `own`, which are reaped elsewhere; return their process ids."""
    reaped: list[int] = []
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return reaped
        if ended is None:
            return reaped
        if ended.si_pid in own:  # the kernel would report it again and again, and never another
            return reaped + [pid for pid in children() if pid not in own and os.waitpid(pid, os.WNOHANG)[0]]
        os.waitpid(ended.si_pid, 0)
        reaped.append(ended.si_pid)


def children() -> list[int]:
    """Return the process ids of this process's children, dead ones included; none if the kernel does not list them."""
    found: list[int] = []
    for listed in Path("/proc/self/task").glob("*/children"):
        try:
            found += map(int, listed.read_text().split())
        except OSError:  # that thread has just ended
            continue
    return found
