"""The processes of a server: which of them run, how many there are to be, and how earlier ones ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zwoole.shared.settings import Settings
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.roles import MASTER, Role


@dataclass
class History:
    """What the processes of one role and id have done, one after the other.

    Attributes:
        failures: how many of them in a row died early.
        restarts: how often one has died and was replaced.
        last_end: how the last one ended, "" if none has.
        next_try: when the next is started, in monotonic seconds; None if that is not planned.
        was_ready: whether one of them has been ready.
    """

    failures: int = 0
    restarts: int = 0
    last_end: str = ""
    next_try: float | None = None
    was_ready: bool = False

    def begin_again(self) -> None:
        """Forget all but the restarts: the id was given up, and is wanted again."""
        self.failures = 0
        self.last_end = ""
        self.next_try = None
        self.was_ready = False


class Processes:
    """The processes of one server.

    Attributes:
        running: those that run, by the pidfd that tells of their end.
        wanted: how many processes of each role there are to be, with ids from 0, in the order in which roles start.
        stopping: whether the server stops, so that no process is started any more.
    """

    def __init__(self, settings: Settings, roles: Sequence[Role]) -> None:
        """Begin with none; the settings say how many of each role there are to be."""
        self.running: dict[int, Process] = {}
        self.wanted: dict[Role, int] = {role: getattr(settings, role.setting) for role in roles}
        self.stopping = False
        self._histories: dict[tuple[Role, int], History] = {}

    def all(self) -> list[Process]:
        """Return those that run. Like `of`, `ready` and `history` it may be called in any thread."""
        return list(self.running.values())

    def of(self, role: Role) -> list[Process]:
        """Return those of a role that run."""
        return [process for process in self.all() if process.role is role]

    def runs(self, process: Process) -> bool:
        """Tell whether a process still runs, as far as the loop has noticed."""
        return self.running.get(process.pidfd) is process

    def find(self, identity: bytes) -> Process | None:
        """Return the process with that name on the control socket; None if there is none."""
        return next((process for process in self.running.values() if process.identity == identity), None)

    def linked(self, incarnation: int) -> Process | None:
        """Return the process with that incarnation which has links to the masters; None if there is none."""
        linked = (process for process in self.running.values() if process.role.linked)
        return next((process for process in linked if process.incarnation == incarnation), None)

    def in_service(self, role: Role, id: int) -> Process | None:
        """Return the process that serves under an id, or is starting to; None if there is none."""
        serving = (process for process in self.of(role) if not process.retiring and not process.standby)
        return next((process for process in serving if process.id == id), None)

    def connected_masters(self) -> list[Process]:
        """Return the masters that can be told something."""
        return [master for master in self.of(MASTER) if master.connected]

    def ready(self, role: Role) -> set[int]:
        """Return the ids of a role whose process is ready."""
        return {process.id for process in self.of(role) if process.ready_at is not None and not process.retiring}

    def links_of(self, role: Role) -> int:
        """Return how many links a new process of a role will have."""
        if role.linked:
            return self.wanted[MASTER]
        return sum(number for other, number in self.wanted.items() if other.linked) if role is MASTER else 0

    def history(self, role: Role, id: int) -> History:
        """Return what is known of the processes that have had an id."""
        return self._histories.setdefault((role, id), History())
