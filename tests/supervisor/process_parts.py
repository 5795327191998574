"""The parts of a supervisor without processes: their decisions, without starting anything."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from zwoole.shared.settings import Settings
from zwoole.supervisor import processes as crew_module
from zwoole.supervisor.notify import Notifier
from zwoole.supervisor.process import Child
from zwoole.supervisor.processes import Crew
from zwoole.supervisor.shutdown import Stop


class Process:
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


class StandIn(Child):
    """Replaces a child: nothing is sent to it, and it ends when the test says so."""

    def _send(self, number: int) -> None:
        pass

    def has_ended(self) -> bool:
        return cast(Any, self.process).status is not None

    def wait(self) -> int:
        status = cast(Any, self.process).status
        assert status is not None
        return int(status)

    def reap(self) -> None:
        os.close(self.pidfd)


class Parts:
    """The processes of a server and their stop, with a record of what they did.

    Attributes:
        told: the control messages that were sent: (identity, kind, fields).
        due: delayed calls: (seconds, function).
        events: the app's callbacks that were run, with their arguments.
        exit_codes: the exit codes with which the server was given up.
        announced: how often the server was announced as serving.
        lack: what the run directory lacks for another process.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, run_dir: Path, **settings: Any) -> None:
        self.told: list[tuple[bytes, str, dict[str, Any]]] = []
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.events: list[tuple[Any, ...]] = []
        self.exit_codes: list[int] = []
        self.announced = 0
        self.lack = ""
        self._pids = itertools.count(100_000_000)  # no process has such a number
        monkeypatch.setattr(crew_module, "spawn", self._spawn)
        monkeypatch.setattr(crew_module, "TurnCounter", lambda *_, **__: Turns())
        effective = Settings().update({"worker_num": 2, **settings})
        self.crew = Crew(
            effective,
            run_dir,
            [[] for _ in range(effective.reactor_num)],
            [-1] * effective.reactor_num,
            -1,
            tell=self.tell,
            later=self.later,
            watch=lambda pidfd: None,
            run_callback=lambda *event: self.events.append(event),
            give_up=self.exit_codes.append,
            on_complete=self._announce,
            lacks=lambda processes, wires: self.lack,
            first_incarnation=1,
        )
        self.stop = Stop(
            self.crew, effective, [], Notifier(), tell=self.tell, later=self.later, before_shutdown=lambda: None
        )

    def _spawn(self, role: str, index: int, incarnation: int, *_: object, **__: object) -> Child:
        descriptor = os.open(os.devnull, os.O_RDONLY)  # instead of a pidfd
        return StandIn(role, index, incarnation, cast(Any, Process(next(self._pids))), descriptor, cast(Any, Turns()))

    def close(self) -> None:
        """Release what is left."""
        for descriptor in self.crew.children:
            os.close(descriptor)

    def _announce(self) -> None:
        self.announced += 1

    def tell(self, identity: bytes, kind: str, **fields: Any) -> None:
        self.told.append((identity, kind, fields))

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.due.append((seconds, call))

    # Events.

    def start(self) -> None:
        """Start all processes; the masters say hello."""
        self.crew.start_all()
        for master in self.crew.of("master"):
            self.crew.greeted_by(master, False)

    def worker(self, slot: int) -> Child:
        """Return the newest process of a worker id."""
        return [child for child in self.crew.of("worker") if child.index == slot][-1]

    def ready(self, child: Child) -> None:
        """Let a worker say hello, and the masters report it as ready."""
        self.crew.greeted_by(child, False)
        for epoch in list(self.crew.epochs):
            self.crew.worker_ready(child.incarnation, epoch)

    def end(self, child: Child, status: int) -> None:
        """Let a process end."""
        cast(Any, child.process).status = status
        self.crew.ended(self.crew.children.pop(child.pidfd))

    def run_due(self) -> list[float]:
        """Make the delayed calls, and return their delays."""
        due, self.due = self.due, []
        for _, call in due:
            call()
        return [seconds for seconds, _ in due]
