"""The answer to `zwoole status`: what the supervisor knows, and what each master says when asked."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import psutil

from zwoole.shared.memory import stats
from zwoole.shared.process import stdio
from zwoole.shared.process.printable import printable
from zwoole.supervisor.process import Child
from zwoole.supervisor.processes import Crew


class Status:
    """Makes status reports."""

    def __init__(self, crew: Crew, run_dir: str, target: str, listening: list[str]) -> None:
        """Prepare to report on a crew that runs the app `target` and serves the addresses `listening`."""
        self._target = target
        self._crew = crew
        self._run_dir = run_dir
        self._listening = listening
        self._started = time.monotonic()

    def report(self, masters: list[Any]) -> dict[str, Any]:
        """Return the report, with what the masters said in it."""
        crew = self._crew
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started, 1),
            "state": "stopping" if crew.stopping else "serving" if crew.complete else "starting",
            "target": printable(self._target),
            "listening": self._listening,
            "run_dir": printable(self._run_dir),
            "worker_num": crew.worker_num,
            "needs_restart": crew.file_settings.changed,
            "missing": [dataclasses.asdict(missing) for missing in crew.missing()],
            "processes": [self._describe(child) for child in crew.children.values()],
            "masters": masters,
            "log_lines_lost": stdio.lost_lines(),
            "stats": stats.gather(Path(self._run_dir)),
        }

    def _describe(self, child: Child) -> dict[str, Any]:
        cpu_s, memory_bytes = use_of(child.process.pid)
        return {
            "role": child.role,
            "index": child.index,
            "pid": child.process.pid,
            "ready": child.ready_at is not None,
            "retiring": child.retiring,
            "uptime_s": round(time.monotonic() - child.started, 1),
            "cpu_s": cpu_s,
            "memory_bytes": memory_bytes,
            "restarts": self._crew.restarts[child.role, child.index],
        }


def use_of(pid: int) -> tuple[float, int]:
    """Return CPU seconds and resident bytes of a process; zeros where it is gone."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return round(times.user + times.system, 2), int(process.memory_info().rss)
    except psutil.Error:
        return 0.0, 0
