"""Rollouts: new workers boot beside those in service, and take over together or not at all.

A reload is a rollout of all workers, recycling is a rollout of one. Only one reload is under way at a time; what is
asked for meanwhile waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import forget_failures
from zwoole.shared.settings import MAX_WORKERS
from zwoole.supervisor.core.control_tables import (
    Answer,
    BadRequest,
    Field,
    Report,
    Reports,
    Request,
    Requests,
    no_answer,
)
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.process_stats import ProcessStats
from zwoole.supervisor.core.processes import Processes
from zwoole.supervisor.core.roles import WORKER, Role
from zwoole.supervisor.lifecycle.introductions import Introductions
from zwoole.supervisor.lifecycle.readiness import Readiness
from zwoole.supervisor.lifecycle.retirement import Retirement
from zwoole.supervisor.lifecycle.staffing import Staffing

MAX_WAITING = 100  # reloads that wait until another is over
RELOAD = "reload"
NUMBERS = {
    "to": Field((int,), 1, MAX_WORKERS, optional=True, called="the number of workers"),
    "by": Field((int,), -MAX_WORKERS, MAX_WORKERS, optional=True, called="the change of the number of workers"),
}

log = get_logger("supervisor")


class Rollout:
    """A reload, or the recycling of one worker.

    Attributes:
        why: what it is for, in words.
        reason: the same as it is counted.
        answer: answers the request that asked for it.
        started: when it began, in monotonic seconds.
        successors: the new processes.
    """

    def __init__(self, why: str, reason: str, answer: Answer) -> None:
        self.why = why
        self.reason = reason
        self.answer = answer
        self.started = time.monotonic()
        self.successors: list[Process] = []

    def is_for(self, role: Role, id: int) -> bool:
        """Tell whether it replaces the process of an id."""
        return any(process.role is role and process.id == id for process in self.successors)

    def is_ready(self) -> bool:
        """Tell whether all successors are ready."""
        return all(process.ready_at is not None for process in self.successors)


class Rollouts:
    """Replaces workers, and changes their number."""

    def __init__(
        self,
        processes: Processes,
        introductions: Introductions,
        staffing: Staffing,
        retirement: Retirement,
        readiness: Readiness,
        stats: ProcessStats,
        run_dir: Path,
    ) -> None:
        """Prepare.

        Args:
            processes: those that run.
            introductions: tells the masters of successors and numbers.
            staffing: starts successors.
            retirement: ends those that they replace.
            readiness: knows whether the start is over.
            stats: counts what was replaced.
            run_dir: the run directory.
        """
        self._processes = processes
        self._introductions = introductions
        self._staffing = staffing
        self._retirement = retirement
        self._readiness = readiness
        self._stats = stats
        self._run_dir = run_dir
        self._under_way: list[Rollout] = []
        self._reloads_waiting: list[Answer] = []
        self._number_waiting: int | None = None  # how many workers were asked for during a rollout

    def requests(self) -> Requests:
        """Return the requests that are carried out here."""
        return {RELOAD: Request({}, self.reload), "workers": Request(NUMBERS, self._number_asked)}

    def reports(self) -> Reports:
        """Return the messages of processes that are acted on here."""
        return {"recycle": Report({"reason": Field((str,)), "why": Field((str,))}, self.recycle_asked)}

    @property
    def reloading(self) -> bool:
        """Whether a reload is under way."""
        return any(rollout.why == RELOAD for rollout in self._under_way)

    def reload(self, answer: Answer = no_answer) -> None:
        """Replace all workers by new ones that read the code again."""
        number = self._processes.wanted[WORKER]
        if self._processes.stopping or not self._readiness.complete:
            log.warning("no reload: the server is starting or stopping")
            answer(error="the server is starting or stopping")
        elif len(self._reloads_waiting) >= MAX_WAITING:
            answer(error=f"{MAX_WAITING} reloads wait already")
        elif self._under_way:
            self._reloads_waiting.append(answer)
        elif lack := self._staffing.lacks(WORKER, number):
            log.error("reload failed, the old workers stay in service: %s", lack)
            answer(error=f"reload failed, the old workers stay in service: {lack}")
        else:
            log.info("reload: starting %d new worker(s) beside those in service", number)
            self._begin(Rollout(RELOAD, RELOAD, answer), WORKER, range(number))

    def recycle_asked(self, process: Process, reason: str, why: str) -> None:
        """Handle `recycle`: a worker asks to be replaced. If that cannot be done now, the health checks try again."""
        process.recycle_for = reason, why
        self.recycle(process, reason, why)

    def recycle(self, process: Process, reason: str, why: str) -> None:
        """Replace one process, unless that is under way, or has failed a short time ago.

        Args:
            process: the process.
            reason: the reason, as it is counted.
            why: the reason in words.
        """
        role, id = process.role, process.id
        unwanted = process.retiring or self._processes.stopping or id >= self._processes.wanted[role]
        under_way = any(rollout.is_for(role, id) for rollout in self._under_way)
        if unwanted or under_way or time.monotonic() < process.not_replaced_before or self._staffing.lacks(role, 1):
            return
        log.info("%s %d is replaced: %s", role.name, id, why)
        self._begin(Rollout(f"replacing {role.name} {id}", reason, no_answer), role, [id])

    def scale(self, to: int | None = None, by: int = 0) -> int:
        """Have another number of workers. If workers are being replaced, the change waits until that is done.

        Args:
            to: how many workers there are to be.
            by: how many more, or fewer, if `to` is None.

        Returns:
            How many workers there are to be.

        Raises:
            ValueError: there cannot be that many, or the server is stopping.
        """
        if self._processes.stopping:
            raise ValueError("the server is stopping")
        now = self._processes.wanted[WORKER] if self._number_waiting is None else self._number_waiting
        number = now + by if to is None else to
        if number < 1:
            raise ValueError(f"there are {now} worker(s), and a server needs one")
        if number > MAX_WORKERS:
            raise ValueError(f"a server has at most {MAX_WORKERS} workers")
        if self._under_way:
            self._number_waiting = number
        elif number != self._processes.wanted[WORKER]:
            self._scale(number)
        return number

    def ready(self, process: Process) -> None:
        """Take note that a process is ready: if it is the last successor of a rollout, all take over."""
        rollout = self._rollout_of(process)
        if rollout is not None and rollout.is_ready():
            self._take_over(rollout)

    def died(self, process: Process, how: str) -> None:
        """Take note that a process has died: if it is a successor, its rollout has failed."""
        rollout = self._rollout_of(process)
        if rollout is not None:
            self._fail(rollout, f"{process} {how}")

    def _number_asked(self, answer: Answer, **numbers: int) -> None:
        """Carry out `zwoole workers`."""
        if len(numbers) != 1:
            raise BadRequest("give a number of workers, or a change of it as `by`, not both")
        try:
            number = self.scale(**numbers)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        answer(result={"worker_num": number})

    def _scale(self, number: int) -> None:
        before, self._processes.wanted[WORKER] = self._processes.wanted[WORKER], number
        log.info("workers: %d -> %d", before, number)
        self._introductions.worker_num_changed()
        for id in range(before, number):
            self._processes.history(WORKER, id).begin_again()
            self._staffing.fill(WORKER, id)
        for process in self._processes.of(WORKER):
            if process.id >= number and not process.retiring:
                self._retirement.begin(process)
        self._readiness.update()

    def _begin(self, rollout: Rollout, role: Role, ids: Iterable[int]) -> None:
        """Start the successors."""
        forget_failures(self._run_dir)
        self._under_way.append(rollout)
        for id in ids:
            process = self._staffing.start(role, id, standby=True)
            if process is None:
                self._fail(rollout, f"{role.name} {id} cannot be started")
                return
            rollout.successors.append(process)

    def _take_over(self, rollout: Rollout) -> None:
        """Put the successors in service, and retire those that were."""
        self._under_way.remove(rollout)
        self._stats.restarted(rollout.reason, len(rollout.successors))
        self._introductions.switch(rollout.successors)
        for successor in rollout.successors:
            successor.standby = False
        for process in self._processes.all():
            replaced = process not in rollout.successors and rollout.is_for(process.role, process.id)
            if replaced and not process.retiring:
                self._retirement.begin(process)
        seconds = time.monotonic() - rollout.started
        log.info("%s: done in %.1f s", rollout.why, seconds)
        rollout.answer(result={"seconds": round(seconds, 3), "workers": len(rollout.successors)})
        self._do_what_waits()

    def _fail(self, rollout: Rollout, why: str) -> None:
        """Give a rollout up: kill its successors; the old workers stay."""
        self._under_way.remove(rollout)
        log.error("%s failed, the old workers stay in service: %s; the reason is above", rollout.why, why)
        for successor in rollout.successors:
            stays = self._processes.in_service(successor.role, successor.id)
            if stays is not None:
                stays.replacing_failed()
        for successor in rollout.successors:
            successor.standby = False
            if self._processes.runs(successor):
                successor.retiring = True
                successor.kill(f"{rollout.why} failed")
        rollout.answer(error=f"{rollout.why} failed, the old workers stay in service: {why}; the log has the reason")
        self._do_what_waits()

    def _do_what_waits(self) -> None:
        """Do what was asked for during a rollout: scaling, and one reload for all who have asked for one."""
        number, self._number_waiting = self._number_waiting, None
        if number is not None and not self._processes.stopping:
            self.scale(number)
        if self._reloads_waiting and not self._under_way:
            waiting, self._reloads_waiting = self._reloads_waiting, []

            def answer_all(**fields: Any) -> None:
                for answer in waiting:
                    answer(**fields)

            self.reload(answer_all)

    def _rollout_of(self, process: Process) -> Rollout | None:
        return next((rollout for rollout in self._under_way if process in rollout.successors), None)
