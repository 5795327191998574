"""The parts of a supervisor without processes: their decisions, without starting anything."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from zwoole.shared.settings import Settings
from zwoole.supervisor.assembly import Outside, Parts
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.roles import MASTER, ROLES, WORKER, Role
from zwoole.supervisor.core.spawn import Spawner
from zwoole.supervisor.system.notify import Notifier


class Popen:
    """Replaces a process of the system."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None


class Turns:
    """Replaces a turn counter."""

    count = 0

    def read(self) -> int:
        return self.count

    def close(self) -> None:
        pass


class StandIn(Process):
    """Replaces a process: nothing is sent to it, and it ends when the test says so."""

    def _send(self, number: int) -> None:
        pass

    def has_ended(self) -> bool:
        return cast(Any, self.popen).status is not None

    def wait(self) -> int:
        status = cast(Any, self.popen).status
        assert status is not None
        return int(status)

    def reap(self) -> None:
        os.close(self.pidfd)


class StandInSpawner(Spawner):
    """Starts nothing, or fails as the test says."""

    def __init__(self) -> None:
        self.failure: OSError | None = None
        self._pids = itertools.count(100_000_000)  # no process has such a number

    def spawn(self, role: Role, id: int, incarnation: int, masters: Sequence[int]) -> Process:
        if self.failure is not None:
            raise self.failure
        descriptor = os.open(os.devnull, os.O_RDONLY)  # instead of a pidfd
        return StandIn(role, id, incarnation, cast(Any, Popen(next(self._pids))), descriptor, cast(Any, Turns()))


class TestParts(Parts):
    """The parts, with a record of what they did.

    Attributes:
        told: the control messages that were sent: (identity, kind, fields).
        due: delayed calls: (seconds, function).
        events: the app's callbacks that were run, with their arguments.
        announced: how often the server was announced as serving.
        lack: what the run directory lacks for another process.
        spawner: starts nothing.
    """

    __test__ = False

    def __init__(
        self,
        run_dir: Path,
        tell: Callable[..., None] | None = None,
        roles: Sequence[Role] = ROLES,
        **settings: Any,
    ) -> None:
        self.told: list[tuple[bytes, str, dict[str, Any]]] = []
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.events: list[tuple[Any, ...]] = []
        self.announced = 0
        self.lack = ""
        self.spawner = StandInSpawner()
        outside = Outside(
            run_dir,
            "app.py",
            ["127.0.0.1:1"],
            [],
            Notifier(),
            self.spawner,
            tell=tell or self._tell,
            later=self._later,
            watch=lambda pidfd: None,
            lacks=lambda processes, links: self.lack,
            run_callback=lambda *event: self.events.append(event),
            on_complete=self._announce,
        )
        super().__init__(Settings().update({"worker_num": 2, **settings}), outside, 1, roles)

    def close(self) -> None:
        """Release what is left."""
        for descriptor in self.processes.running:
            os.close(descriptor)

    def _announce(self) -> None:
        self.announced += 1

    def _tell(self, identity: bytes, kind: str, **fields: Any) -> None:
        self.told.append((identity, kind, fields))

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.due.append((seconds, call))

    # Events.

    def start(self) -> None:
        """Start all processes; the masters say hello."""
        self.staffing.start_all()
        self.readiness.update()
        self.health.begin()
        for master in self.processes.of(MASTER):
            self.boots.hello(master)

    @property
    def workers(self) -> list[Process]:
        """The workers that run."""
        return self.processes.of(WORKER)

    @property
    def masters(self) -> list[Process]:
        """The masters that run."""
        return self.processes.of(MASTER)

    def worker(self, id: int) -> Process:
        """Return the newest process of a worker id."""
        return [process for process in self.workers if process.id == id][-1]

    def ready(self, process: Process) -> None:
        """Let a worker say hello, and the masters say that they have taken its hello."""
        self.boots.hello(process)
        for master in self.masters:
            self.boots.hello_taken(master, process.incarnation)

    def all_ready(self) -> None:
        """Let the newest process of each worker id be ready."""
        for id in range(self.processes.wanted[WORKER]):
            self.ready(self.worker(id))

    def end(self, process: Process, status: int) -> None:
        """Let a process end."""
        cast(Any, process.popen).status = status
        self.deaths.ended(process.pidfd)

    def boot_fails(self, id: int, status: int = 3) -> None:
        """Let the process of a worker id end before it is ready, and start the next one."""
        self.end(self.worker(id), status)
        self.run_due()

    def told_to(self, process: Process) -> list[tuple[str, dict[str, Any]]]:
        """Return what a process was told: kind and fields."""
        return [(kind, fields) for identity, kind, fields in self.told if identity == process.identity]

    def run_due(self) -> list[float]:
        """Make the delayed calls, and return their delays."""
        due, self.due = self.due, []
        for _, call in due:
            call()
        return [seconds for seconds, _ in due]
