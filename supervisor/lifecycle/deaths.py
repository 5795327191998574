"""The end of a process: whether it is a failure, and when another process is started."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import remove_all
from zwoole.supervisor.core.control_tables import NUMBER, Field, Report, Reports
from zwoole.supervisor.core.loop import Later
from zwoole.supervisor.core.process import Process, backoff, describe_exit, ended_by_signal_for_supervisor, exit_name
from zwoole.supervisor.core.process_stats import ProcessStats
from zwoole.supervisor.core.processes import Processes
from zwoole.supervisor.lifecycle.orphans import Orphans
from zwoole.supervisor.lifecycle.readiness import Readiness
from zwoole.supervisor.lifecycle.rollout import Rollouts
from zwoole.supervisor.lifecycle.staffing import Staffing

BOOT_TRIES = 3  # early deaths of one id that end a start

log = get_logger("supervisor")


class Deaths:
    """Judges the ends of the processes of one server."""

    def __init__(
        self,
        processes: Processes,
        staffing: Staffing,
        readiness: Readiness,
        rollouts: Rollouts,
        orphans: Orphans,
        stats: ProcessStats,
        run_dir: Path,
        later: Later,
        run_callback: Callable[..., None],
        give_up: Callable[[int], None],
    ) -> None:
        """Prepare.

        Args:
            processes: those that run.
            staffing: starts others.
            readiness: knows whether the start is over.
            rollouts: are told of the end of a successor.
            orphans: ends what a process has left behind.
            stats: counts the ends.
            run_dir: the run directory.
            later: calls a function after a number of seconds.
            run_callback: runs a callback of the app: (event, arguments).
            give_up: ends the server with an exit code.
        """
        self._processes = processes
        self._staffing = staffing
        self._readiness = readiness
        self._rollouts = rollouts
        self._orphans = orphans
        self._stats = stats
        self._run_dir = run_dir
        self._later = later
        self._run_callback = run_callback
        self._give_up = give_up

    def reports(self) -> Reports:
        """Return the messages of processes that are acted on here."""
        return {"kill": Report({"incarnation": NUMBER, "why": Field((str,))}, self.kill)}

    def kill(self, master: Process, incarnation: int, why: str) -> None:
        """Handle `kill`: a master cannot go on with a process. Kill it; its end is handled like any other."""
        process = self._processes.linked(incarnation)
        if process is not None:
            process.kill(why)

    def ended(self, pidfd: int) -> None:
        """Handle the end of a process, after its pidfd became readable."""
        process = self._processes.running.pop(pidfd)
        status = process.wait()
        self._orphans.end_group(process)
        self._stats.ended(process)
        if self._was_to_end(process, status):
            pass
        elif self._processes.stopping:
            self._report_while_stopping(process, status)
        else:
            self._failed(process, status)
        self._readiness.update()

    def _was_to_end(self, process: Process, status: int) -> bool:
        """Return whether a process that was told to end has done so, if only by one more signal."""
        if not (process.retiring or self._processes.stopping):
            return False
        if ended_by_signal_for_supervisor(status):
            log.info("%s %s; it was to end anyway", process, describe_exit(status))
            return True
        return status == 0

    def _report_while_stopping(self, process: Process, status: int) -> None:
        if process.connected and not process.ended_by_us(status):
            log.warning("%s %s while stopping", process, describe_exit(status))

    def _failed(self, process: Process, status: int) -> None:
        """Report the end of a process that was to go on, and replace it."""
        self._report(process, status)
        if process.role.leaves:
            remove_all(self._run_dir, process.role.leaves.format(incarnation=process.incarnation))
        if process.standby:
            self._stats.boot_failed(process)
            self._rollouts.died(process, process.describe_end(status))
        elif not process.retiring:
            self._replace(process, status)

    def _report(self, process: Process, status: int) -> None:
        if process.ended_by_us(status):
            log.info("%s %s", process, process.describe_end(status))
        elif status != 0 or not process.role.runs_app:
            log.error("%s %s", process, process.describe_end(status))
            if process.role.runs_app:
                signal_number = -status if status < 0 else 0
                self._run_callback("worker_error", process.id, process.pid, max(status, 0), signal_number)

    def _replace(self, process: Process, status: int) -> None:
        """Start another process, later each time that one ends before it has served."""
        role, id = process.role, process.id
        history = self._processes.history(role, id)
        ended_well = status == 0 and role.runs_app and process.ready_at is not None
        failed = process.died_early and not ended_well
        history.failures = history.failures + 1 if failed else 0
        history.last_end = process.killed if process.ended_by_us(status) else exit_name(status)
        if failed:
            self._stats.boot_failed(process)
            if not self._readiness.complete and history.failures >= BOOT_TRIES:
                failing, tries = role.failing, history.failures
                log.error("the %s does not boot: giving up after %d tries; the reason is above", failing, tries)
                self._give_up(role.exit_code)
                return
        history.restarts += 1
        self._stats.restarted(exit_name(status))
        wait_s = backoff(history.failures)
        if wait_s:
            log.info("%s %d is started again in %.1f s: try %d", role.name, id, wait_s, history.failures + 1)
        history.next_try = time.monotonic() + wait_s
        self._later(wait_s, lambda: self._staffing.fill(role, id))
