"""What the supervisor counts: restarts by their reason, which processes there are, what those that ended counted."""

from __future__ import annotations

import collections
import os
import time
from pathlib import Path
from typing import Any

from zwoole.shared.memory import snapshot, stats
from zwoole.shared.process.run_files import remove, snapshot_path
from zwoole.supervisor.process import Child

CAPACITY = 1 << 20  # of its snapshot: the counters of a thousand workers' places


class Ledger:
    """The supervisor's snapshot."""

    def __init__(self, run_dir: Path) -> None:
        """Make the snapshot, and write it for the first time."""
        self._run_dir = run_dir
        self._snapshot = snapshot.Snapshot(snapshot_path(run_dir, stats.SUPERVISOR, 0), CAPACITY)
        self._started = time.monotonic()
        self._restarts: collections.Counter[str] = collections.Counter()
        self._processes: list[tuple[str, int]] = []
        self._workers = {"wanted": 0, "ready": 0}
        self._failed_boots: collections.Counter[str] = collections.Counter()
        self._past: dict[str, dict[str, Any]] = {stats.MASTER: {}, stats.WORKER: {}}
        self._write()

    def began(self, child: Child) -> None:
        """Take up a process that was started."""
        self._processes.append((child.role, child.incarnation))
        self._write()

    def ended(self, child: Child) -> None:
        """Keep what a process counted that has ended, and remove its snapshot; who reads meanwhile reads again."""
        path = snapshot_path(self._run_dir, child.role, child.incarnation)
        last = snapshot.read(path)
        if last is not None:
            stats.add(self._past[child.role].setdefault(str(child.index), {}), last["counters"])
        self._processes.remove((child.role, child.incarnation))
        self._write()
        remove(path)

    def restarted(self, reason: str, processes: int = 1) -> None:
        """Count processes that were replaced."""
        self._restarts[reason] += processes
        self._write()

    def boot_failed(self, index: int) -> None:
        """Count a process of a worker's place that ended before it served anybody."""
        self._failed_boots[str(index)] += 1
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
