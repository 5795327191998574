"""Starting the processes that are wanted, and trying again later if one cannot be started now."""

from __future__ import annotations

import time
from collections.abc import Callable

from zwoole.shared.errors import StartError
from zwoole.shared.process.log import get_logger
from zwoole.supervisor.core.loop import Later
from zwoole.supervisor.core.process import MAX_BACKOFF_S, Process
from zwoole.supervisor.core.process_stats import ProcessStats
from zwoole.supervisor.core.processes import Processes
from zwoole.supervisor.core.roles import Role
from zwoole.supervisor.core.spawn import Spawner
from zwoole.supervisor.lifecycle.introductions import Introductions

log = get_logger("supervisor")


class Staffing:
    """Starts the processes of one server."""

    def __init__(
        self,
        processes: Processes,
        introductions: Introductions,
        stats: ProcessStats,
        spawner: Spawner,
        later: Later,
        watch: Callable[[int], None],
        lacks: Callable[[int, int], str],
        first_incarnation: int,
    ) -> None:
        """Prepare.

        Args:
            processes: takes up those that were started.
            introductions: introduces them to the others.
            stats: counts them.
            spawner: starts them.
            later: calls a function after a number of seconds.
            watch: has the loop watch a pidfd.
            lacks: returns why a number of processes with a number of links cannot be started now, "" if they can.
            first_incarnation: the number of the first process.
        """
        self._processes = processes
        self._introductions = introductions
        self._stats = stats
        self._spawner = spawner
        self._later = later
        self._watch = watch
        self._lacks = lacks
        self._next_incarnation = first_incarnation

    def start_all(self) -> None:
        """Start all processes that are wanted.

        Raises:
            StartError: one of them cannot be started.
        """
        for role, number in self._processes.wanted.items():
            for id in range(number):
                if self.start(role, id) is None:
                    raise StartError("no process can be started; the reason is above")

    def lacks(self, role: Role, number: int) -> str:
        """Return why a number of processes of a role cannot be started now, "" if they can."""
        return self._lacks(number, number * self._processes.links_of(role))

    def start(self, role: Role, id: int, standby: bool = False) -> Process | None:
        """Start a process; return None if that is not possible now, which is logged."""
        self._processes.history(role, id).next_try = None
        if self.lacks(role, 1):
            return None
        incarnation = self._next_incarnation
        self._next_incarnation += 1
        try:
            process = self._spawner.spawn(role, id, incarnation, self._introductions.masters)
        except OSError as error:
            log.error("cannot start %s %d: %s", role.name, id, error.strerror)
            return None
        process.standby = standby
        self._processes.running[process.pidfd] = process
        self._stats.began(process)
        self._watch(process.pidfd)
        self._introductions.started(process)
        return process

    def fill(self, role: Role, id: int) -> None:
        """Start the process of an id if it is wanted and has none; if that is not possible now, try again later."""
        processes = self._processes
        if processes.stopping or id >= processes.wanted[role] or processes.in_service(role, id) is not None:
            return
        if self.start(role, id) is None:
            processes.history(role, id).next_try = time.monotonic() + MAX_BACKOFF_S
            self._later(MAX_BACKOFF_S, lambda: self.fill(role, id))
