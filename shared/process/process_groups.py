"""Process groups: listing their members, and ending the processes that a worker has started."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

LOOK_S = 0.05


def members(group: int) -> list[int]:
    """Return the ids of the live processes in a group, without its leader."""
    running = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in running if pid != group and is_member(pid, group)]


def is_member(pid: int, group: int) -> bool:
    """Return whether a process is alive and in a group."""
    try:
        if os.getpgid(pid) != group:
            return False
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):  # it has just ended
        return False
    return state not in (b"Z", b"X")


def send(group: int, number: signal.Signals) -> None:
    """Send a signal to all processes of a group, ignoring those that are gone or that belong to another user."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def end_own(timeout_s: float) -> None:
    """End the other processes in this process's group, if this process leads the group.

    A worker calls this if it has no supervisor, which would otherwise do it. It must be the last thing that the process
    does: SIGKILL goes to the whole group, this process included. SIGTERM goes to this process too, which must handle
    it.

    Args:
        timeout_s: seconds between SIGTERM and SIGKILL.
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
