"""The answer to `zwoole status`: what the supervisor knows, and what each master says when asked."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from zwoole.shared.memory import stats
from zwoole.shared.process import stdio
from zwoole.shared.process.printable import printable
from zwoole.supervisor.control.queries import Queries
from zwoole.supervisor.core.control_tables import Answer, Request, Requests
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.processes import Processes
from zwoole.supervisor.core.roles import WORKER
from zwoole.supervisor.lifecycle.readiness import Readiness
from zwoole.supervisor.system.changed_settings import FileSettings


class Status:
    """Makes status reports."""

    def __init__(
        self,
        processes: Processes,
        readiness: Readiness,
        queries: Queries,
        file_settings: FileSettings,
        run_dir: Path,
        target: str,
        listening: Sequence[str],
    ) -> None:
        """Prepare.

        Args:
            processes: those that run.
            readiness: knows which are missing.
            queries: asks the masters.
            file_settings: the settings that need a restart.
            run_dir: the run directory.
            target: the app's script or module.
            listening: "host:port" of each address that is listened on.
        """
        self._processes = processes
        self._readiness = readiness
        self._queries = queries
        self._file_settings = file_settings
        self._run_dir = run_dir
        self._target = target
        self._listening = listening
        self._started = time.monotonic()

    def requests(self) -> Requests:
        """Return the requests that are carried out here."""
        return {"status": Request({}, self._asked)}

    def _asked(self, answer: Answer) -> None:
        self._queries.ask(answer, what="status", combine=self._report)

    def _report(self, masters: list[Any]) -> dict[str, Any]:
        """Return the report, with what the masters said in it."""
        processes, readiness = self._processes, self._readiness
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started, 1),
            "state": "stopping" if processes.stopping else "serving" if readiness.complete else "starting",
            "target": printable(self._target),
            "listening": self._listening,
            "run_dir": printable(str(self._run_dir)),
            "worker_num": processes.wanted[WORKER],
            "needs_restart": self._file_settings.changed,
            "missing": [dataclasses.asdict(missing) for missing in readiness.missing()],
            "processes": [self._describe(process) for process in processes.all()],
            "masters": masters,
            "log_lines_lost": stdio.lost_lines(),
            "stats": stats.gather(self._run_dir),
        }

    def _describe(self, process: Process) -> dict[str, Any]:
        cpu_s, memory_bytes = use_of(process.pid)
        return {
            "role": process.role.name,
            "id": process.id,
            "pid": process.pid,
            "ready": process.ready_at is not None,
            "retiring": process.retiring,
            "uptime_s": round(time.monotonic() - process.started, 1),
            "cpu_s": cpu_s,
            "memory_bytes": memory_bytes,
            "restarts": self._processes.history(process.role, process.id).restarts,
        }


def use_of(pid: int) -> tuple[float, int]:
    """Return CPU seconds and resident bytes of a process; zeros if it is gone."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return round(times.user + times.system, 2), int(process.memory_info().rss)
    except psutil.Error:
        return 0.0, 0
