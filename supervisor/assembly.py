"""The parts of a supervisor, built and connected here and nowhere else, for the program and for its tests.

Each part takes the parts it needs in its constructor, so it knows only those built above it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zwoole.shared.settings import Settings
from zwoole.supervisor.control.queries import Queries
from zwoole.supervisor.control.status import Status
from zwoole.supervisor.core.control_tables import Reports, Requests
from zwoole.supervisor.core.loop import Later
from zwoole.supervisor.core.process_stats import ProcessStats
from zwoole.supervisor.core.processes import Processes
from zwoole.supervisor.core.roles import ROLES, Role
from zwoole.supervisor.core.spawn import Spawner
from zwoole.supervisor.lifecycle.booting import Boots
from zwoole.supervisor.lifecycle.deaths import Deaths
from zwoole.supervisor.lifecycle.health_checks import HealthChecks
from zwoole.supervisor.lifecycle.introductions import Introductions
from zwoole.supervisor.lifecycle.orphans import Orphans
from zwoole.supervisor.lifecycle.readiness import Readiness
from zwoole.supervisor.lifecycle.retirement import Retirement
from zwoole.supervisor.lifecycle.rollout import Rollouts
from zwoole.supervisor.lifecycle.shutdown import Shutdown
from zwoole.supervisor.lifecycle.staffing import Staffing
from zwoole.supervisor.system.changed_settings import FileSettings
from zwoole.supervisor.system.notify import Notifier


@dataclass(frozen=True)
class Outside:
    """What the parts need of the process that they are in.

    Attributes:
        run_dir: the run directory.
        target: the app's script or module.
        listening: "host:port" of each address that is listened on.
        listeners: for each reactor, its listening sockets.
        notifier: tells the service manager.
        spawner: starts processes.
        tell: sends a control message: (identity, kind, fields).
        later: calls a function after a number of seconds.
        watch: has the loop watch a pidfd.
        lacks: returns why a number of processes with a number of links cannot be started now, "" if they can.
        run_callback: runs a callback of the app: (event, arguments).
        on_complete: called once, when the start is over.
    """

    run_dir: Path
    target: str
    listening: Sequence[str]
    listeners: list[list[socket.socket]]
    notifier: Notifier
    spawner: Spawner
    tell: Callable[..., None]
    later: Later
    watch: Callable[[int], None]
    lacks: Callable[[int, int], str]
    run_callback: Callable[..., None]
    on_complete: Callable[[], None]


class Parts:
    """The parts of one supervisor."""

    def __init__(
        self, settings: Settings, outside: Outside, first_incarnation: int, roles: Sequence[Role] = ROLES
    ) -> None:
        """Build the parts; no process is started yet.

        Args:
            settings: the effective settings.
            outside: what the parts need of the process that they are in.
            first_incarnation: the number of the first process.
            roles: the kinds of processes, in the order in which they are started.
        """
        run_dir, tell, later = outside.run_dir, outside.tell, outside.later
        self.processes = Processes(settings, roles)
        self.stats = ProcessStats(run_dir)
        self.file_settings = FileSettings()
        self.orphans = Orphans(settings.orphan_timeout, later)
        self.readiness = Readiness(self.processes, self.stats, outside.on_complete)
        self.introductions = Introductions(self.processes, tell)
        self.queries = Queries(self.processes, tell, later)
        self.status = Status(
            self.processes,
            self.readiness,
            self.queries,
            self.file_settings,
            run_dir,
            outside.target,
            outside.listening,
        )
        self.shutdown = Shutdown(
            self.processes,
            self.orphans,
            outside.listeners,
            outside.notifier,
            settings.max_wait_time,
            tell,
            later,
            before_shutdown=lambda: outside.run_callback("before_shutdown") if self.readiness.complete else None,
        )
        self.staffing = Staffing(
            self.processes,
            self.introductions,
            self.stats,
            outside.spawner,
            later,
            outside.watch,
            outside.lacks,
            first_incarnation,
        )
        self.retirement = Retirement(self.processes, tell, later, settings.handover_timeout, settings.max_wait_time)
        self.rollouts = Rollouts(
            self.processes,
            self.introductions,
            self.staffing,
            self.retirement,
            self.readiness,
            self.stats,
            run_dir,
        )
        self.boots = Boots(
            self.processes,
            self.introductions,
            self.retirement,
            self.readiness,
            self.rollouts,
            self.file_settings,
            run_dir,
        )
        self.deaths = Deaths(
            self.processes,
            self.staffing,
            self.readiness,
            self.rollouts,
            self.orphans,
            self.stats,
            run_dir,
            later,
            outside.run_callback,
            give_up=self.shutdown.give_up,
        )
        self.health = HealthChecks(self.processes, settings, later, recycle=self.rollouts.recycle)

    def requests(self) -> Requests:
        """Return the requests of the zwoole command that these parts carry out."""
        parts = (self.status, self.queries, self.rollouts, self.shutdown)
        return {what: request for part in parts for what, request in part.requests().items()}

    def reports(self) -> Reports:
        """Return the messages of processes that these parts act on."""
        parts = (self.boots, self.deaths, self.rollouts, self.queries, self.shutdown)
        return {kind: report for part in parts for kind, report in part.reports().items()}
