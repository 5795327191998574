"""Process groups: which processes are in one, and ending those that a worker has started."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

LOOK_S = 0.05


def members(group: int) -> list[int]:
    """Return the ids of the processes in a group, but for its leader and those that have ended."""
    running = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in running if pid != group and is_member(pid, group)]


def is_member(pid: int, group: int) -> bool:
    """Tell whether a process lives and is in a group."""
    try:
        if os.getpgid(pid) != group:
            return False
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):  # it has just ended
        return False
    return state not in (b"Z", b"X")


def send(group: int, number: signal.Signals) -> None:
    """Send a signal to all processes of a group, as far as we may."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def end_own(timeout_s: float) -> None:
    """End the processes that this one has started and that are in its group, if it leads one.

    For a worker without a supervisor, which else does it. This process handles SIGTERM, and is killed itself if others
    have to be: it is to be the last that it does.

    Args:
        timeout_s: seconds for them to end after SIGTERM, before they are killed.
    """
    group = os.getpgrp()
    if group != os.getpid() or not members(group):
        return
    send(group, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while members(group):
        if time.monotonic() > deadline:
            send(group, signal.SIGKILL)
        time.sleep(LOOK_S)
