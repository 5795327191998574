"""What the supervisor counts: restarts by reason, the processes that run, and the counters of those that ended."""

from __future__ import annotations

import collections
import os
import time
from pathlib import Path
from typing import Any

from zwoole.shared.memory import snapshot, stats
from zwoole.shared.process.run_files import remove, snapshot_path
from zwoole.supervisor.core.process import Process

CAPACITY = 1 << 20  # of its snapshot: the counters of a thousand workers


class ProcessStats:
    """The supervisor's snapshot, which all processes of the server can read."""

    def __init__(self, run_dir: Path) -> None:
        """Make the snapshot, and write it for the first time."""
        self._run_dir = run_dir
        self._snapshot = snapshot.Snapshot(snapshot_path(run_dir, stats.SUPERVISOR, 0), CAPACITY)
        self._started = time.monotonic()
        self._restarts: collections.Counter[str] = collections.Counter()
        self._processes: list[tuple[str, int]] = []  # role, incarnation
        self._workers = {"wanted": 0, "ready": 0}
        self._failed_boots: collections.Counter[str] = collections.Counter()
        self._past: dict[str, dict[str, Any]] = {role: {} for role in stats.EMPTY}
        self._write()

    def began(self, process: Process) -> None:
        """Take up a process that was started."""
        self._processes.append((process.role.name, process.incarnation))
        self._write()

    def ended(self, process: Process) -> None:
        """Keep the counters of a process that has ended, then remove its snapshot. A reader that sees the list of
        processes change meanwhile reads again.
        """
        role = process.role.name
        path = snapshot_path(self._run_dir, role, process.incarnation)
        last = snapshot.read(path)
        if last is not None:
            stats.add(self._past[role].setdefault(str(process.id), {}), last["counters"])
        self._processes.remove((role, process.incarnation))
        self._write()
        remove(path)

    def restarted(self, reason: str, processes: int = 1) -> None:
        """Count processes that were replaced."""
        self._restarts[reason] += processes
        self._write()

    def boot_failed(self, process: Process) -> None:
        """Count a worker that ended before it served."""
        if process.role.runs_app:
            self._failed_boots[str(process.id)] += 1
            self._write()

    def workers(self, wanted: int, ready: int) -> None:
        """Note how many workers there are to be, and how many are ready."""
        counts = {"wanted": wanted, "ready": ready}
        if counts != self._workers:
            self._workers = counts
            self._write()

    def _write(self) -> None:
        self._snapshot.write(
            {
                "pid": os.getpid(),
                "started": self._started,
                "restarts": dict(self._restarts),
                "workers": self._workers,
                "failed_boots": dict(self._failed_boots),
                "processes": self._processes,
                "past": self._past,
            }
        )
