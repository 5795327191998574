"""Upkeep of the run directory: it never looks old to cleaners of temporary folders, what was removed is made again, and
a lack of room is noticed before a process is started that would need it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zwoole.shared.errors import StartError
from zwoole.shared.memory.progress_map import RING
from zwoole.shared.process import plan as plans
from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import CONTROL, PLAN
from zwoole.supervisor.core.loop import Later
from zwoole.supervisor.system.run_directory import RunDirectory

LOOK_S = 1.0
REFRESH_S = 3600.0
BLOCK = 4096
PROCESS_BYTES = 2 * BLOCK  # a process's snapshot
LINK_BYTES = RING + 2 * BLOCK  # a progress map, and the directory entries of its file and of the endpoint

log = get_logger("supervisor")


class Upkeep:
    """Looks after the run directory of one server."""

    def __init__(
        self,
        directory: RunDirectory,
        plan: plans.Plan,
        bind: Callable[[], None],
        later: Later,
    ) -> None:
        """Prepare.

        Args:
            directory: the run directory, which this process holds.
            plan: what the plan file is to say.
            bind: opens the control socket in the directory, or raises OSError.
            later: calls a function after a number of seconds.
        """
        self._directory = directory
        self._plan = plan
        self._bind = bind
        self._later = later
        self._trouble = ""

    def furnish(self, processes: int, links: int) -> None:
        """Make the plan and the control socket, and check that all else has room; see `lacks` for the arguments.

        Raises:
            StartError: they cannot be made, or there is no room.
        """
        try:
            self._make((PLAN, CONTROL))
        except OSError as error:
            raise StartError(f"cannot write in the run directory {self._directory.path}: {error.strerror}") from None
        self._check_room(processes, links)

    def begin(self) -> None:
        """Look after the directory from now on."""
        self._later(LOOK_S, self._look)
        self._later(REFRESH_S, self._refresh)

    def lacks(self, processes: int, links: int) -> str:
        """Return why processes cannot be started now, "" if they can. What was removed is made again first.

        Args:
            processes: how many are to be started.
            links: how many pairs of a worker and a master come with them.
        """
        if not self._mend():
            return self._trouble
        try:
            self._check_room(processes, links)
        except StartError as error:
            if self._is_news(str(error)):
                log.error("nothing can be started, trying again: %s", error)
        else:
            self._trouble = ""
        return self._trouble

    def _look(self) -> None:
        self._mend()
        self._later(LOOK_S, self._look)

    def _refresh(self) -> None:
        self._directory.refresh()
        self._later(REFRESH_S, self._refresh)

    def _mend(self) -> bool:
        """Make again what was removed; return whether that worked. If not, `_trouble` says why."""
        lost = self._directory.lost()
        if not lost:
            return True
        what = " and ".join(lost)
        try:
            self._directory.take_again()
            self._make(self._directory.lost())
        except (OSError, StartError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            if self._is_news(f"{what} of {self._directory.path} was removed, making it again fails: {why}"):
                log.error("no process can be started and no command works, what runs goes on: %s", self._trouble)
            return False
        self._trouble = ""
        log.warning("%s of %s was removed, and was made again", what, self._directory.path)
        return True

    def _make(self, names: Iterable[str]) -> None:
        """Make the plan and the control socket, if they are among the names."""
        if PLAN in names:
            plans.write(self._directory.path, self._plan)
        if CONTROL in names:
            self._bind()

    def _check_room(self, processes: int, links: int) -> None:
        size = processes * PROCESS_BYTES + links * LINK_BYTES
        try:
            self._directory.check_room(size)
        except OSError as error:
            path = self._directory.path
            raise StartError(f"no space left in the run directory {path} for {size} bytes: {error.strerror}") from None

    def _is_news(self, trouble: str) -> bool:
        """Note what is wrong; return whether that is new, so that it is logged once."""
        before, self._trouble = self._trouble, trouble
        return trouble != before
