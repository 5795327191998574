"""The end of a worker that was replaced, or is no longer wanted: it gets time to finish, and no more."""

from __future__ import annotations

from collections.abc import Callable

from zwoole.shared.process.log import get_logger
from zwoole.shared.settings import FINISH_SHARE
from zwoole.supervisor.core.loop import Later
from zwoole.supervisor.core.process import KILL_GRACE_S, Process
from zwoole.supervisor.core.processes import Processes

log = get_logger("supervisor")


class Retirement:
    """Retires processes of one server."""

    def __init__(
        self,
        processes: Processes,
        tell: Callable[..., None],
        later: Later,
        handover_timeout_s: float,
        max_wait_time_s: float,
    ) -> None:
        """Prepare.

        Args:
            processes: those that run.
            tell: sends a control message: (identity, kind, fields).
            later: calls a function after a number of seconds.
            handover_timeout_s: how long handing over its connections may take.
            max_wait_time_s: how long its end may take after that.
        """
        self._processes = processes
        self._tell = tell
        self._later = later
        self._cancelled_after_s = handover_timeout_s + FINISH_SHARE * max_wait_time_s
        self._killed_after_s = handover_timeout_s + max_wait_time_s + KILL_GRACE_S

    def begin(self, process: Process) -> None:
        """Tell a process to finish and end. What it still runs after a while is cancelled; later it is killed."""
        process.retiring = True
        self._tell(process.identity, "retire")
        self._later(self._cancelled_after_s, lambda: self._cancel(process))
        self._later(self._killed_after_s, lambda: self._kill(process))

    def said_hello(self, process: Process) -> None:
        """Tell a process again to retire, if it was told before it was connected."""
        if process.retiring:
            self._tell(process.identity, "retire")

    def _cancel(self, process: Process) -> None:
        """Have a process cancel what it still runs. From then on it has as much time for its end as in a stop."""
        if self._overstays(process):
            log.warning("%s was replaced and has not finished in time: cancelling what still runs there", process)
            self._tell(process.identity, "end")

    def _kill(self, process: Process) -> None:
        if self._overstays(process):
            log.warning("%s was replaced and did not end in time: killed", process)
            process.kill("it was replaced and did not end in time")

    def _overstays(self, process: Process) -> bool:
        return self._processes.runs(process) and not self._processes.stopping  # a stop has a deadline of its own
