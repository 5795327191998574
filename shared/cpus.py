"""How many CPUs this process may use, which is less than the machine has in a container or under `taskset`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

NO_QUOTA = float("inf")


def usable(root: Path = Path("/")) -> int:
    """Return the number of CPUs that this process may use, by affinity and quota; at least 1.

    A quota is rounded up: 2.5 CPUs count as 3, since two processes could not use them up.

    Args:
        root: the folder that contains proc and sys.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except OSError:  # a sandbox forbids the call
        allowed = os.cpu_count() or 1
    quota = min(_quotas(root), default=NO_QUOTA)
    return allowed if quota >= allowed else max(-int(-quota // 1), 1)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota, in CPUs, of each control group that contains this process, outer ones included.

    Files that cannot be read count as no quota.
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
    except (ValueError, ZeroDivisionError):  # "max", or unreadable
        return NO_QUOTA
    return cpus if cpus > 0 else NO_QUOTA  # version 1 uses -1 for no quota


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
