"""Writes a worker's counters where every process of the server can read them: seldom, and never per message."""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import get_ident
from typing import Any

from zwoole.shared.memory import stats
from zwoole.shared.memory.snapshot import Snapshot
from zwoole.shared.process import stdio
from zwoole.shared.process.run_files import snapshot_path
from zwoole.workers.core.counts import Counts
from zwoole.workers.links.masters import Masters

RECORD_S = 0.5  # least time between two writes


class Recorder:
    """One worker's snapshot."""

    def __init__(self, run_dir: Path, worker_id: int, incarnation: int, counts: Counts, masters: Masters) -> None:
        """Make the snapshot and write it for the first time. It belongs to the thread that makes it."""
        self._run_dir = run_dir
        self._snapshot = Snapshot(snapshot_path(run_dir, stats.WORKER, incarnation))
        self._named = {"role": stats.WORKER, "id": worker_id, "pid": os.getpid(), "incarnation": incarnation}
        self._started = time.monotonic()
        self._counts = counts
        self._masters = masters
        self._thread = get_ident()
        self._written = 0  # events taken plus events finished, when the snapshot was last written
        counts.on_record = self.write
        self.write()

    def write(self) -> None:
        """Write the snapshot now."""
        counts = self._counts
        links = [link for link in self._masters.links if link is not None and not link.closed]
        gauges = {
            "unfinished": counts.total - counts.finished,
            "in_flight_bytes": sum(link.in_flight() for link in links),
        }
        times = {"started": self._started, "written": time.monotonic()}
        counters = {**counts.as_dict(), "log_lines_lost": stdio.lost_lines()}
        self._snapshot.write({**self._named, **times, "counters": counters, "gauges": gauges})
        self._written = counts.total + counts.finished
        counts.record_at = time.monotonic() + RECORD_S

    def turn(self, sleep_s: float) -> float:
        """Write if something is new and it is time; return how long the loop may sleep, `sleep_s` at most."""
        counts = self._counts
        if counts.total + counts.finished == self._written:
            return sleep_s
        wait = counts.record_at - time.monotonic()
        if wait > 0:
            return min(wait, sleep_s)
        self.write()
        return sleep_s

    def stats(self) -> dict[str, Any]:
        """See Server.stats. This worker's own counters are up to date, unless another thread asks."""
        if get_ident() == self._thread:
            self.write()
        return stats.gather(self._run_dir)
