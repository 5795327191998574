"""How many CPUs this process may use: what the machine has is no answer in a container, or under `taskset`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

NO_QUOTA = float("inf")


def usable(root: Path = Path("/")) -> int:
    """Return on how many CPUs this process may run, or as many as its time would fill if that is less; 1 at least.

    A quota such as 2.5 CPUs counts as 3: two processes could not use it up.

    Args:
        root: where /proc and /sys are found.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except OSError:  # a sandbox forbids the call
        allowed = os.cpu_count() or 1
    quota = min(_quotas(root), default=NO_QUOTA)
    return allowed if quota >= allowed else max(-int(-quota // 1), 1)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota, in CPUs, of each control group that this process is in, the outer ones included.

    What cannot be read limits nothing that we could know of.
    """
    groups = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        inner = PurePosixPath(path)
        for group in (inner, *inner.parents):
            name = str(group).lstrip("/")
            if not controllers:  # version 2: one file with quota and period, in microseconds
                yield _ratio(*_text(groups / name / "cpu.max").split())
            elif "cpu" in controllers.split(","):
                folder = groups / "cpu" / name
                yield _ratio(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _ratio(quota: str = "", period: str = "") -> float:
    try:
        cpus = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max", or nothing
        return NO_QUOTA
    return cpus if cpus > 0 else NO_QUOTA  # version 1 says -1


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
