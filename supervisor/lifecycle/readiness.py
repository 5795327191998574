"""Which processes are ready, which are missing, and whether the start is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from zwoole.supervisor.core.process_stats import ProcessStats
from zwoole.supervisor.core.processes import Processes
from zwoole.supervisor.core.roles import MASTER, WORKER
from zwoole.supervisor.lifecycle.missing_processes import Missing, describe


class Readiness:
    """How far the processes of one server have come.

    Attributes:
        complete: whether the start is over: a process of every id has been ready once.
    """

    def __init__(self, processes: Processes, stats: ProcessStats, on_complete: Callable[[], None]) -> None:
        """Prepare.

        Args:
            processes: those that run, and how many there are to be.
            stats: where metrics are read from.
            on_complete: called once, when the start is over.
        """
        self.complete = False
        self._processes = processes
        self._stats = stats
        self._on_complete = on_complete

    def update(self) -> None:
        """Look whether the start is over, and note how many workers are ready. A stop changes neither: its statistics
        are those of the server that served.
        """
        processes = self._processes
        if processes.stopping:
            return
        wanted = processes.wanted[WORKER]
        self._stats.workers(wanted, len([id for id in processes.ready(WORKER) if id < wanted]))
        if self.complete:
            return
        if all(
            processes.history(role, id).was_ready for role, number in processes.wanted.items() for id in range(number)
        ):
            self.complete = True
            self._on_complete()

    def missing(self) -> list[Missing]:
        """Return the processes that are wanted and not ready."""
        processes = self._processes
        now = time.monotonic()
        found = []
        for role, number in processes.wanted.items():
            starting = {process.id for process in processes.of(role) if not process.retiring}
            for id in sorted(set(range(number)) - processes.ready(role)):
                history = processes.history(role, id)
                due = None if id in starting else history.next_try
                wait_s = None if due is None else round(max(due - now, 0.0), 1)
                found.append(Missing(role.name, id, id in starting, history.failures, wait_s, history.last_end))
        return found

    def answer(self) -> tuple[bool, str]:
        """Return whether clients should be sent here, and in words why not or what is missing. The admin listener asks
        it in threads of its own.
        """
        missing = describe(self.missing())
        if self._processes.stopping:
            return False, "not ready: the server is stopping"
        if not self.complete or not self._processes.ready(MASTER) or not self._processes.ready(WORKER):
            return False, f"not ready: {missing or 'the server is starting'}"
        return True, f"ready, but not complete: {missing}" if missing else "ready"
