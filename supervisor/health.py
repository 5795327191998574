"""The supervisor's rounds: once a second it looks at every child, whether it hangs, has become old, or too large."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from zwoole.shared.process.log import get_logger
from zwoole.shared.settings import Settings
from zwoole.supervisor.process import Child

if TYPE_CHECKING:
    from zwoole.supervisor.processes import Crew

ROUND_S = 1.0
DUMP_S = 1.0  # how long a process that hangs has to write its stacks

log = get_logger("supervisor")


class Rounds:
    """Goes round a crew's processes."""

    def __init__(
        self,
        crew: Crew,
        settings: Settings,
        later: Callable[[float, Callable[[], None]], None],
        recycle: Callable[[int, str, str], None],
    ) -> None:
        """Prepare.

        Args:
            crew: whose processes.
            settings: the effective settings.
            later: calls a function after so many seconds.
            recycle: replaces the worker of a slot: (slot, reason as it is counted, why in words).
        """
        self._crew = crew
        self._settings = settings
        self._later = later
        self._recycle = recycle

    def begin(self) -> None:
        """Make the first round after a while, and go on until the crew stops."""
        self._later(ROUND_S, self._go)

    def _go(self) -> None:
        if self._crew.stopping:  # a stop has its own deadline
            return
        now = time.monotonic()
        for child in list(self._crew.children.values()):
            self._look_whether_it_hangs(child, now)
            self._look_whether_it_is_slow_to_start(child, now)
            if child.role == "worker" and child.ready_at is not None and not child.retiring:
                self._look_whether_it_is_worn(child, now)
        self._later(ROUND_S, self._go)

    def _look_whether_it_hangs(self, child: Child, now: float) -> None:
        if child.killed or child.debugged:
            return
        held_before = child.liveness.held
        why = child.liveness.look(now, self._settings.boot_timeout, self._settings.worker_timeout)
        if child.liveness.held and not held_before:
            log.warning("%s does not answer, and is left alone: %s", child, child.liveness.held)
        why = why or self._why_unheard(child)
        if why:
            log.error("%s is ended, %s; its stacks:", child, why)
            child.abort(why)
            self._later(DUMP_S, lambda: self._end(child, why))

    def _why_unheard(self, child: Child) -> str:
        """Return why a worker is to be ended whose loop turns, but whose hello reaches no master, "" where it is not.

        The app may have taken away its rights to the run directory. A master that is still to come is waited for.
        """
        limit = self._settings.boot_timeout
        booting = any(master.ready_at is None for master in self._crew.of("master"))
        waits = child.role == "worker" and child.ready_at is None and child.turns.read() and not child.liveness.held
        if not limit or booting or not waits:
            child.unheard_s = 0.0
            return ""
        child.unheard_s += ROUND_S
        if child.unheard_s < limit:
            return ""
        return f"it does not come to serve: no master has had its hello in {limit:g} s (boot_timeout)"

    def _end(self, child: Child, why: str) -> None:
        if self._crew.children.get(child.pidfd) is child:
            child.kill(why)

    def _look_whether_it_is_slow_to_start(self, child: Child, now: float) -> None:
        """Say what is waited for, each time after twice as long."""
        if child.ready_at is not None or child.killed or child.debugged or child.liveness.held or self._settings.debug:
            return
        if now - child.started >= child.next_notice_s:
            log.warning("%s is still starting after %.0f s: %s", child, child.next_notice_s, awaited(child))
        while now - child.started >= child.next_notice_s:
            child.next_notice_s *= 2

    def _look_whether_it_is_worn(self, child: Child, now: float) -> None:
        limit = self._settings.max_memory
        if child.max_age_s and now - child.started > child.max_age_s:
            self._recycle(child.index, "max_age", f"it is {now - child.started:.0f} s old")
        elif limit and (size := resident_bytes(child.process.pid)) > limit:
            self._recycle(child.index, "max_memory", f"it has {size} bytes of memory")


def awaited(child: Child) -> str:
    """Return what a process that starts has not done yet."""
    if child.role == "master":
        return "it has not said hello"
    if not child.greeted:
        return "its app has not reached start(): an import takes long, or what stands before start()"
    if not child.turns.read():
        return "worker_start has not returned, or the machine is slow; what runs for long belongs in a task or thread"
    return "no master has answered it"


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory, 0 where it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
