"""The processes that a worker leaves behind in its process group when it ends.

They are asked to end, and killed if they do not. The dead worker is reaped after that and not before: as long as it
stays in the process table, the kernel gives its id, which is the group's too, to no other process, and a signal for the
group reaches no stranger.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from zwoole.shared.process import process_groups
from zwoole.shared.process.log import get_logger
from zwoole.supervisor.process import Child

log = get_logger("supervisor")


class Orphans:
    """Ends what dead workers have left.

    Attributes:
        leaders: the dead workers whose groups have not ended, by process id.
    """

    def __init__(self, timeout_s: float, later: Callable[[float, Callable[[], None]], None]) -> None:
        """Prepare.

        Args:
            timeout_s: seconds that they have to end after SIGTERM, before they are killed.
            later: calls a function after so many seconds.
        """
        self.leaders: dict[int, Child] = {}
        self._timeout_s = timeout_s
        self._later = later

    def end_group(self, child: Child) -> None:
        """End what a dead child has left in its group, then reap the child."""
        pid = child.process.pid
        if child.leads_group:
            process_groups.send(pid, signal.SIGTERM)
            if left := process_groups.members(pid):
                self.leaders[pid] = child
                log.info("%s has left %d process(es), which are ended: %s", child, len(left), left)
                self._look(child, time.monotonic() + self._timeout_s)
                return
        child.reap()

    def kill_all(self) -> None:
        """Kill what is left, and from now on all that will be."""
        self._timeout_s = 0.0
        for child in list(self.leaders.values()):
            self._kill(child)

    def _look(self, child: Child, deadline: float) -> None:
        """Look again and again whether they have ended."""
        if child.process.pid not in self.leaders:
            return
        if not process_groups.members(child.process.pid):
            del self.leaders[child.process.pid]
            child.reap()
        elif time.monotonic() >= deadline:
            self._kill(child)
        else:
            self._later(process_groups.LOOK_S, lambda: self._look(child, deadline))

    def _kill(self, child: Child) -> None:
        left = process_groups.members(child.process.pid)
        log.warning("what %s has left did not end in time: killed: %s", child, left)
        process_groups.send(child.process.pid, signal.SIGKILL)
        del self.leaders[child.process.pid]
        child.reap()
