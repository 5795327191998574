"""Health checks: once a second the supervisor looks whether a process hangs, is slow to start, old, or too large."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from zwoole.shared.process.log import get_logger
from zwoole.shared.settings import Settings
from zwoole.supervisor.core.loop import Later
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.processes import Processes
from zwoole.supervisor.core.roles import MASTER

CHECK_S = 1.0
DUMP_S = 1.0  # how long a process that hangs has to write its stacks

log = get_logger("supervisor")


class HealthChecks:
    """Checks the processes of one server."""

    def __init__(
        self,
        processes: Processes,
        settings: Settings,
        later: Later,
        recycle: Callable[[Process, str, str], None],
    ) -> None:
        """Prepare.

        Args:
            processes: those that run.
            settings: the effective settings.
            later: calls a function after a number of seconds.
            recycle: replaces a process: (process, reason as it is counted, reason in words).
        """
        self._processes = processes
        self._settings = settings
        self._later = later
        self._recycle = recycle

    def begin(self) -> None:
        """Check in a while for the first time, and go on until the server stops."""
        self._later(CHECK_S, self._check_all)

    def _check_all(self) -> None:
        if self._processes.stopping:  # a stop has a deadline of its own
            return
        now = time.monotonic()
        for process in self._processes.all():
            self.check(process, now)
        self._later(CHECK_S, self._check_all)

    def check(self, process: Process, now: float) -> None:
        """Check one process.

        Args:
            process: the process.
            now: monotonic seconds.
        """
        self._check_liveness(process, now)
        self._check_start(process, now)
        if process.role.runs_app and process.ready_at is not None and not process.retiring:
            self._check_wear(process, now)

    def _check_liveness(self, process: Process, now: float) -> None:
        """End a process that hangs, or never becomes ready."""
        if process.killed or process.debugged:
            return
        held_before = process.liveness.held
        why = process.liveness.look(now, self._settings.boot_timeout, self._settings.worker_timeout)
        if process.liveness.held and not held_before:
            log.warning("%s does not respond but is left alone: %s", process, process.liveness.held)
        why = why or self._why_unheard(process)
        if why:
            log.error("killing %s: %s; stack dump follows", process, why)
            process.abort(why)
            self._later(DUMP_S, lambda: self._kill(process, why))

    def _why_unheard(self, process: Process) -> str:
        """Return why to end a process whose loop turns, but whose hello no master takes; "" if it is not to be ended.

        The app may have given up the rights that it needs in the run directory. Time in which a master boots does not
        count.
        """
        limit_s = self._settings.boot_timeout
        waits = process.role.linked and process.ready_at is None and not process.liveness.held
        if not (limit_s and waits and process.turns.read()) or self._a_master_boots():
            process.unheard_s = 0.0
            return ""
        process.unheard_s += CHECK_S
        if process.unheard_s < limit_s:
            return ""
        return f"it does not become ready: no master has taken its hello in {limit_s:g} s (boot_timeout)"

    def _a_master_boots(self) -> bool:
        return any(master.ready_at is None for master in self._processes.of(MASTER))

    def _kill(self, process: Process, why: str) -> None:
        if self._processes.runs(process):
            process.kill(why)

    def _check_start(self, process: Process, now: float) -> None:
        """Say what a process that starts is waiting for, each time after twice as long."""
        may_take_its_time = process.killed or process.debugged or process.liveness.held or self._settings.debug
        if process.ready_at is not None or may_take_its_time:
            return
        if now - process.started >= process.next_notice_s:
            log.warning("%s is still starting after %.0f s: %s", process, process.next_notice_s, awaited(process))
        while now - process.started >= process.next_notice_s:
            process.next_notice_s *= 2

    def _check_wear(self, process: Process, now: float) -> None:
        """Recycle a process that has asked for it, is old or too large."""
        age_s, max_age_s = now - process.started, self._settings.max_age * process.age_factor
        limit = self._settings.max_memory
        if process.recycle_for is not None:
            self._recycle(process, *process.recycle_for)
        elif max_age_s and age_s > max_age_s:
            self._recycle(process, "max_age", f"it is {age_s:.0f} s old")
        elif limit and (size := resident_bytes(process.pid)) > limit:
            self._recycle(process, "max_memory", f"it has {size} bytes of memory")


def awaited(process: Process) -> str:
    """Return what a process that starts has not done yet."""
    if not process.role.runs_app:
        return "it has not said hello"
    if not process.connected:
        return "its app has not reached start(): an import, or other code before start(), takes long"
    if not process.turns.read():
        return "worker_start has not returned, or the machine is slow; long work belongs in a task or thread"
    return "no master has taken its hello"


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory; 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
