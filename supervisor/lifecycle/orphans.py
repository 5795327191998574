"""Orphans: the processes that a dead worker has left behind in its process group.

They are asked to end, and killed if they do not. The dead worker is reaped after that, not before: as long as it stays
in the process table, the kernel gives its process id, which is the id of the group too, to no other process, so that
signals for the group reach nobody else.
"""

from __future__ import annotations

import signal
import time

from zwoole.shared.process import process_groups
from zwoole.shared.process.log import get_logger
from zwoole.supervisor.core.loop import Later
from zwoole.supervisor.core.process import Process

log = get_logger("supervisor")


class Orphans:
    """Ends what dead processes have left.

    Attributes:
        leaders: the dead processes whose groups have not ended, by process id.
    """

    def __init__(self, timeout_s: float, later: Later) -> None:
        """Prepare.

        Args:
            timeout_s: how many seconds they have to end after SIGTERM, before they are killed.
            later: calls a function after a number of seconds.
        """
        self.leaders: dict[int, Process] = {}
        self._timeout_s = timeout_s
        self._later = later

    def end_group(self, process: Process) -> None:
        """End what a dead process has left in its group, then reap that process."""
        pid = process.pid
        if process.leads_group:
            process_groups.send(pid, signal.SIGTERM)
            if left := process_groups.members(pid):
                self.leaders[pid] = process
                log.info("%s left %d process(es) behind, which are ended: %s", process, len(left), left)
                self._look(process, time.monotonic() + self._timeout_s)
                return
        process.reap()

    def kill_all(self) -> None:
        """Kill what is left; what is left later is killed at once."""
        self._timeout_s = 0.0
        for process in list(self.leaders.values()):
            self._kill(process)

    def _look(self, process: Process, deadline: float) -> None:
        """Look whether what a process has left has ended; if not, look again later, or kill it at the deadline."""
        if process.pid not in self.leaders:
            return
        if not process_groups.members(process.pid):
            del self.leaders[process.pid]
            process.reap()
        elif time.monotonic() >= deadline:
            self._kill(process)
        else:
            self._later(process_groups.LOOK_S, lambda: self._look(process, deadline))

    def _kill(self, process: Process) -> None:
        left = process_groups.members(process.pid)
        log.warning("what %s left behind did not end in time, killed: %s", process, left)
        process_groups.send(process.pid, signal.SIGKILL)
        del self.leaders[process.pid]
        process.reap()
