"""The crew: the masters and workers of a server, from their start to their replacement.

What it decides: who is started when, what a child's end means, when successors take over. It does not wait for
anything itself; the supervisor's loop tells it what has happened.
"""

from __future__ import annotations

import collections
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zwoole.shared.errors import StartError
from zwoole.shared.memory import mapping
from zwoole.shared.memory.turn_counter import TURNS_BYTES, TurnCounter
from zwoole.shared.process import control_messages
from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import forget_failures, remove_all
from zwoole.shared.settings import FINISH_SHARE, MAX_WORKERS, Settings
from zwoole.supervisor.file_settings import FileSettings
from zwoole.supervisor.health import Rounds
from zwoole.supervisor.missing import Missing
from zwoole.supervisor.orphans import Orphans
from zwoole.supervisor.process import (
    MAX_BACKOFF_S,
    Child,
    backoff,
    describe_exit,
    ended_by_signal_for_supervisor,
    exit_name,
    spawn,
)
from zwoole.supervisor.process_stats import Ledger
from zwoole.supervisor.rollout import Change, change_of

EXIT_CANNOT_START = 1
EXIT_BOOT_FAILED = 3

BOOT_TRIES = 3
KILL_GRACE_S = 1.0  # beyond the time that an end may take, before what is left is killed
MAX_WAITING = 100  # reloads asked for while one is under way
RELOAD = "reload"
MASTER = -1  # stands for the masters among the worker slots where failures are counted

Sender = tuple[bytes, int]  # who waits for an answer on the control socket, and the request's id

log = get_logger("supervisor")


class Crew:
    """The processes of one server.

    The callables are the supervisor's: what a crew can have done.

    Attributes:
        children: those that run, by the pidfd that tells of their end.
        orphans: what workers that have ended left behind.
        epochs: the incarnation of each reactor's master.
        greeted: the masters, by incarnation, that said hello.
        worker_num: how many workers there are to be.
        complete: whether every worker has been ready once: the start is over.
        restarts: how often the process of a role and place has died and was replaced.
        stopping: whether nobody is to be started any more.
        file_settings: what the app's file says now and the server does not do.
    """

    def __init__(
        self,
        settings: Settings,
        run_dir: Path,
        listeners: list[list[socket.socket]],
        tables: list[int],
        lifeline: int,
        tell: Callable[..., None],
        later: Callable[[float, Callable[[], None]], None],
        watch: Callable[[int], None],
        run_callback: Callable[..., None],
        give_up: Callable[[int], None],
        on_complete: Callable[[], None],
        lacks: Callable[[int, int], str],
        first_incarnation: int,
    ) -> None:
        """Prepare.

        Args:
            settings: the effective settings.
            run_dir: the run directory.
            listeners: for each reactor, its listening sockets.
            tables: for each reactor, the memory of its connection table, which outlives its masters.
            lifeline: the read end of the pipe that only the supervisor can write to.
            tell: sends a control message: (identity, kind, fields).
            later: calls a function after so many seconds.
            watch: has the loop look at a pidfd.
            run_callback: runs one of the app's callbacks: (event, arguments).
            give_up: ends the server with an exit code.
            on_complete: called once, when every worker is ready.
            lacks: why so many processes with so many wires between them cannot be started now, "" if they can.
            first_incarnation: the number of the first process.
        """
        self.children: dict[int, Child] = {}
        self.orphans = Orphans(settings.orphan_timeout, later)
        self.epochs: list[int] = []
        self.greeted: set[int] = set()
        self.worker_num = settings.worker_num
        self.complete = False
        self.restarts: collections.Counter[tuple[str, int]] = collections.Counter()
        self.stopping = False
        self.file_settings = FileSettings()
        self._settings = settings
        self._run_dir = run_dir
        self._listeners = listeners
        self._lifeline = lifeline
        self._tell = tell
        self._later = later
        self._watch = watch
        self._run_callback = run_callback
        self._give_up = give_up
        self._on_complete = on_complete
        self._lacks = lacks
        self._tables = tables
        self._rounds = Rounds(self, settings, later, self._recycle)
        self._ledger = Ledger(run_dir)
        self._incarnations = first_incarnation - 1
        self._ready_on: dict[int, set[int]] = {}  # worker incarnation: epochs of the masters that it said hello to
        self._changes: list[Change] = []
        self._reload_wanted: list[Sender | None] = []  # reloads asked for while a change is under way
        self._scaling_wanted: int | None = None  # how many workers were asked for meanwhile
        self._failures: collections.Counter[int] = collections.Counter()  # worker slot: early deaths in a row
        self._started_once: set[int] = set()  # worker slots that have had a process which was ready
        self._last_ends: dict[tuple[str, int], str] = {}  # role, place: how its last process ended
        self._next_tries: dict[tuple[str, int], float] = {}  # role, place: when the next starts, in monotonic seconds

    def start_all(self) -> None:
        """Start the masters and the workers.

        Raises:
            StartError: one of them cannot be started.
        """
        masters = (self._start_master(index) for index in range(self._settings.reactor_num))
        workers = (self._start_worker(slot) for slot in range(self.worker_num))
        if not (all(masters) and all(workers)):
            raise StartError("no process can be started; the reason stands above")
        self._count_workers()
        self._rounds.begin()

    def of(self, role: str) -> list[Child]:
        """Return the masters, or the workers, that run."""
        return [child for child in list(self.children.values()) if child.role == role]

    @property
    def reloading(self) -> bool:
        """Whether a reload is under way."""
        return any(change.why == RELOAD for change in self._changes)

    def ready(self, role: str) -> set[int]:
        """Return the numbers of the masters, or workers, that are ready."""
        return {child.index for child in self.of(role) if child.ready_at is not None and not child.retiring}

    def missing(self) -> list[Missing]:
        """Return the masters and workers that are wanted and not ready."""
        now = time.monotonic()
        found = []
        for role, wanted in (("master", self._settings.reactor_num), ("worker", self.worker_num)):
            starting = {child.index for child in self.of(role) if not child.retiring}
            for index in sorted(set(range(wanted)) - self.ready(role)):
                place = (role, index)
                due = None if index in starting else self._next_tries.get(place)
                wait = None if due is None else round(max(due - now, 0.0), 1)
                failures = self._failures[MASTER if role == "master" else index]
                found.append(Missing(role, index, index in starting, failures, wait, self._last_ends.get(place, "")))
        return found

    def _count_workers(self) -> None:
        """See whether the start is over, and note how many workers are ready where metrics are read from."""
        self._ledger.workers(self.worker_num, len(self.ready("worker") & set(range(self.worker_num))))
        if not self.complete and not self.stopping and self._started_once >= set(range(self.worker_num)):
            self.complete = True
            self._on_complete()

    # What the control socket brings.

    def greeted_by(self, child: Child, debugged: bool) -> None:
        """A child has come as far as listening to us: a master is told of its workers, a worker of its masters.

        One of those may have been replaced since the worker was started, when it could not be told yet.
        """
        child.greeted = True
        child.debugged = debugged
        if child.role == "master":
            child.ready_at = time.monotonic()
            self.greeted.add(child.incarnation)
            self._tell_places(child.incarnation)
            for worker in self.of("worker"):
                if worker.retiring:  # it would wait for a welcome in vain
                    self._tell_masters(worker)
                else:
                    self._introduce(worker, child.incarnation)
        else:
            self._tell_masters(child)
            if child.retiring:  # it was told before it could hear
                self._tell(child.identity, "retire")

    def worker_ready(self, incarnation: int, epoch: int) -> None:
        """A master took a worker's hello; when all have, the worker is ready."""
        known = self._ready_on.setdefault(incarnation, set())
        known.add(epoch)
        if not known >= set(self.epochs):
            return
        for child in self.of("worker"):
            if child.incarnation == incarnation:
                self._tell_of_replacement(child)
                child.ready_at = time.monotonic()
                self._started_once.add(child.index)
                if self.complete:  # before, the others of the start may still fail as one has
                    forget_failures(self._run_dir)
        change = change_of(self._changes, incarnation)
        if change is not None and change.is_ready(incarnation):
            self._take_over(change)
        self._count_workers()

    def _tell_of_replacement(self, child: Child) -> None:
        """Say that a worker is ready, if it was started because another has died."""
        last = self._last_ends.get(("worker", child.index))
        if child.ready_at is None and last is not None and change_of(self._changes, child.incarnation) is None:
            log.info("%s serves in the place of the one that has ended (%s)", child, last)

    def worker_served(self, incarnation: int) -> None:
        """A worker has finished its first event: if it ends, that is no failed boot."""
        for child in self.of("worker"):
            child.served = child.served or child.incarnation == incarnation

    def kill_asked(self, incarnation: int, why: str) -> None:
        """A master cannot go on with a worker: it is killed, and its end handled as any other."""
        for child in self.of("worker"):
            if child.incarnation == incarnation:
                child.kill(why)

    def reload(self, sender: Sender | None) -> None:
        """Replace all workers by new ones that have read the code again; one reload at a time."""
        if self.stopping or not self.complete:
            log.warning("no reload: the server is starting or stopping")
            self._answer(sender, error="the server is starting or stopping")
        elif len(self._reload_wanted) >= MAX_WAITING:
            self._answer(sender, error=f"{MAX_WAITING} reloads wait already")
        elif self._changes:
            self._reload_wanted.append(sender)
        elif lack := self._lacks(self.worker_num, self.worker_num * self._settings.reactor_num):
            log.error("reload failed, the old workers stay in service: %s", lack)
            self._answer(sender, error=f"reload failed, the old workers stay in service: {lack}")
        else:
            forget_failures(self._run_dir)
            change = Change(RELOAD, RELOAD, sender)
            log.info("reload: starting %d new worker(s) beside those in service", self.worker_num)
            self._changes.append(change)
            for slot in range(self.worker_num):
                if not self._start_worker(slot, change):
                    self._change_failed(change, f"worker {slot} cannot be started")
                    return

    def recycle_asked(self, child: Child, reason: str, why: str) -> None:
        """A worker wishes to be replaced."""
        if not child.retiring:
            self._recycle(child.index, reason, why)

    def scale(self, to: int | None = None, by: int = 0) -> int:
        """Have another number of workers; while workers are being replaced it waits until that is done.

        Args:
            to: how many there are to be.
            by: how many more, or fewer, where `to` is None.

        Returns:
            How many there are to be.

        Raises:
            ValueError: there cannot be so many, or the server is stopping.
        """
        if self.stopping:
            raise ValueError("the server is starting or stopping")
        now = self.worker_num if self._scaling_wanted is None else self._scaling_wanted
        number = now + by if to is None else to
        if number < 1:
            raise ValueError(f"there are {now} worker(s), and a server needs one")
        if number > MAX_WORKERS:
            raise ValueError(f"a server has at most {MAX_WORKERS} workers")
        if self._changes:
            self._scaling_wanted = number
        elif number != self.worker_num:
            self._scale(number)
        return number

    def _scale(self, number: int) -> None:
        before, self.worker_num = self.worker_num, number
        log.info("workers: %d -> %d", before, number)
        for epoch in self.epochs:
            self._tell_places(epoch)
        for slot in range(before, number):
            self._failures.pop(slot, None)
            self._last_ends.pop(("worker", slot), None)
            self._started_once.discard(slot)
            self._fill(slot)
        for child in self.of("worker"):
            if child.index >= number and not child.retiring:
                self._retire(child)
        self._count_workers()

    # Starting.

    def _next_incarnation(self) -> int:
        self._incarnations += 1
        return self._incarnations

    def _start_master(self, index: int) -> bool:
        """Start the master of a reactor; False if that is not possible now, for a reason that was logged."""
        epoch = self._next_incarnation()
        descriptors = [listening.fileno() for listening in self._listeners[index]]
        table = self._tables[index]
        arguments = ["--epoch", str(epoch), "--index", str(index), "--table", str(table)]
        arguments += ["--listen", *map(str, descriptors)]
        child = self._spawn("master", index, epoch, arguments, [table, *descriptors])
        if child is None:
            return False
        del self.epochs[index : index + 1]
        self.epochs.insert(index, epoch)
        self._adopt(child)
        return True

    def _start_worker(self, slot: int, change: Change | None = None) -> bool:
        """Start a worker: for its place at once, or as a successor in a change. See `_start_master` for the result."""
        if self.stopping or slot >= self.worker_num:
            return True
        self._next_tries.pop(("worker", slot), None)
        incarnation = self._next_incarnation()
        arguments = ["--slot", str(slot), "--incarnation", str(incarnation), "--masters", *map(str, self.epochs)]
        arguments += ["--tables", *map(str, self._tables)]
        debug = self._settings.debug  # then it reads the terminal, which only the foreground group may
        stdin = None if debug else subprocess.DEVNULL
        child = self._spawn("worker", slot, incarnation, arguments, self._tables, stdin, leads_group=not debug)
        if child is None:
            return False
        child.max_age_s = self._settings.max_age * random.uniform(0.9, 1.1)
        if change is not None:
            change.members[incarnation] = slot
        self._adopt(child)
        for epoch in self.epochs:
            if epoch in self.greeted:
                self._introduce(child, epoch)
        return True

    def _spawn(
        self,
        role: str,
        index: int,
        incarnation: int,
        arguments: list[str],
        inherited: list[int],
        stdin: int | None = subprocess.DEVNULL,
        leads_group: bool = False,
    ) -> Child | None:
        """Start a process with a turn counter; None if that is not possible now, for a reason that was logged."""
        wires = self.worker_num if role == "master" else self._settings.reactor_num
        if self._lacks(1, wires):
            return None
        try:
            turns = mapping.anonymous("zwoole-turns", self._run_dir)
            try:
                mapping.reserve(turns, 0, TURNS_BYTES)
                common = ["--run-dir", str(self._run_dir), "--lifeline", str(self._lifeline), "--turns", str(turns)]
                descriptors = [self._lifeline, turns, *inherited]
                counter = TurnCounter(turns)
                command = [*common, *arguments]
                return spawn(role, index, incarnation, command, descriptors, counter, stdin, leads_group)
            finally:
                os.close(turns)
        except OSError as error:
            log.error("cannot start %s %d: %s", role, index, error.strerror)
            return None

    def _adopt(self, child: Child) -> None:
        self.children[child.pidfd] = child
        self._ledger.began(child)
        self._watch(child.pidfd)

    def _tell_places(self, epoch: int) -> None:
        """Tell a master how many workers there are to be; one that has not said hello yet is told then."""
        if epoch in self.greeted:
            self._tell(f"master-{epoch}".encode(), "places", number=self.worker_num)

    def _introduce(self, worker: Child, epoch: int) -> None:
        """Tell a master of a worker process."""
        fields = {"slot": worker.index, "incarnation": worker.incarnation, "pid": worker.process.pid}
        standby = change_of(self._changes, worker.incarnation) is not None
        worker.known_to.add(epoch)
        self._tell(f"master-{epoch}".encode(), "worker", standby=standby, **fields)

    def _tell_masters(self, worker: Child) -> None:
        """Tell a worker of its masters: one that was replaced only of those that know it, NO_MASTER for the others."""
        known = [
            control_messages.NO_MASTER if worker.retiring and epoch not in worker.known_to else epoch
            for epoch in self.epochs
        ]
        self._tell(worker.identity, "masters", epochs=known)

    # Ends.

    def ended(self, child: Child) -> None:
        """A child's process has ended: see to what it has left, and to what follows."""
        status = child.wait()
        self.orphans.end_group(child)
        self._ledger.ended(child)
        if self.stopping:
            if ended_by_signal_for_supervisor(status):
                log.info("%s %s; it was to end anyway", child, describe_exit(status))
            elif status != 0 and child.greeted and not child.ended_by_us(status):
                log.warning("%s %s while stopping", child, describe_exit(status))
        elif child.role == "master":
            self._master_ended(child, status)
        else:
            self._worker_ended(child, status)
            self._count_workers()

    def _worker_ended(self, child: Child, status: int) -> None:
        """Replace a worker, later each time it ends before it has served."""
        self._ready_on.pop(child.incarnation, None)
        if child.retiring and status == 0:
            return
        if child.retiring and ended_by_signal_for_supervisor(status):
            log.info("%s %s; it was to end anyway", child, describe_exit(status))
            return
        if child.ended_by_us(status):
            log.info("%s %s", child, child.describe_end(status))
        elif status != 0:
            log.error("%s %s", child, child.describe_end(status))
            signal_number = -status if status < 0 else 0
            self._run_callback("worker_error", child.index, child.process.pid, max(status, 0), signal_number)
        change = change_of(self._changes, child.incarnation)
        if change is not None:
            self._ledger.boot_failed(child.index)
            self._change_failed(change, f"{child} {child.describe_end(status)}")
        if change is not None or child.retiring:
            return
        failed = child.died_early and (status != 0 or child.ready_at is None)
        failures = self._failures[child.index] = self._failures[child.index] + 1 if failed else 0
        self._last_ends["worker", child.index] = child.killed if child.ended_by_us(status) else exit_name(status)
        if failed:
            self._ledger.boot_failed(child.index)
        if not self.complete and failures >= BOOT_TRIES:
            log.error("the app does not boot: giving up after %d tries; the reason stands above", failures)
            self._give_up(EXIT_BOOT_FAILED)
            return
        self.restarts["worker", child.index] += 1
        self._ledger.restarted(exit_name(status))
        wait = backoff(failures)
        if wait:
            log.info("worker %d is started again in %.1f s: try %d", child.index, wait, failures + 1)
        self._next_tries["worker", child.index] = time.monotonic() + wait
        self._later(wait, lambda: self._fill(child.index))

    def _fill(self, slot: int) -> None:
        """Start a worker for a place, unless a change has filled it meanwhile."""
        for child in self.of("worker"):
            successor = change_of(self._changes, child.incarnation) is not None
            if child.index == slot and not child.retiring and not successor:
                return
        if not self._start_worker(slot):
            self._try_later("worker", slot, lambda: self._fill(slot))

    def _master_ended(self, child: Child, status: int) -> None:
        """Replace a master; its clients have seen the TCP close."""
        log.error("%s %s", child, child.describe_end(status))
        if child.died_early:
            self._failures[MASTER] += 1
            if not self.complete and self._failures[MASTER] >= BOOT_TRIES:
                log.error("the master does not boot: giving up; the reason stands above")
                self._give_up(EXIT_CANNOT_START)
                return
        else:
            self._failures[MASTER] = 0
        self.restarts["master", child.index] += 1
        self.greeted.discard(child.incarnation)
        remove_all(self._run_dir, f"w*.m{child.incarnation}*")  # its endpoints and progress maps
        self._ledger.restarted(exit_name(status))
        wait = backoff(self._failures[MASTER])
        self._last_ends["master", child.index] = child.killed if child.ended_by_us(status) else exit_name(status)
        self._next_tries["master", child.index] = time.monotonic() + wait
        self._later(wait, lambda: self._replace_master(child.index))

    def _replace_master(self, index: int) -> None:
        """Start a master on the same listening sockets, and send the workers to it."""
        if self.stopping:
            return
        if not self._start_master(index):
            self._try_later("master", index, lambda: self._replace_master(index))
            return
        for worker in self.of("worker"):
            self._tell_masters(worker)

    def _try_later(self, role: str, place: int, call: Callable[[], None]) -> None:
        self._next_tries[role, place] = time.monotonic() + MAX_BACKOFF_S
        self._later(MAX_BACKOFF_S, call)

    # Changes of workers.

    def _recycle(self, slot: int, reason: str, why: str) -> None:
        """Replace one worker, unless that is under way."""
        under_way = any(slot in change.slots for change in self._changes)
        if under_way or slot >= self.worker_num or self.stopping or self._lacks(1, self._settings.reactor_num):
            return
        log.info("worker %d is replaced: %s", slot, why)
        forget_failures(self._run_dir)
        change = Change(f"replacing worker {slot}", reason)
        self._changes.append(change)
        if not self._start_worker(slot, change):
            self._change_failed(change, f"worker {slot} cannot be started")

    def _take_over(self, change: Change) -> None:
        """Every successor is ready: they take their places, and those in service retire."""
        self._changes.remove(change)
        self._ledger.restarted(change.reason, len(change.members))
        for epoch in self.epochs:
            self._tell(f"master-{epoch}".encode(), "switch", incarnations=list(change.members))
        for child in self.of("worker"):
            if child.index in change.slots and child.incarnation not in change.members:
                self._retire(child)
        seconds = time.monotonic() - change.started
        log.info("%s: done in %.1f s", change.why, seconds)
        self._answer(change.sender, result={"seconds": round(seconds, 3), "workers": len(change.members)})
        self._go_on()

    def _retire(self, child: Child) -> None:
        """Tell a worker that its place is taken; give it the time to finish, and no more."""
        child.retiring = True
        self._tell(child.identity, "retire")
        handover_s, end_s = self._settings.handover_timeout, self._settings.max_wait_time
        self._later(handover_s + FINISH_SHARE * end_s, lambda: self._end(child))
        self._later(handover_s + end_s + KILL_GRACE_S, lambda: self._end_patience(child))

    def _end(self, child: Child) -> None:
        """Have a replaced worker cancel what still runs; it has as much time for its end then as at a stop."""
        if self._is_there(child) and not self.stopping:
            log.warning("%s has had its time after it was replaced: what still runs there is cancelled", child)
            self._tell(child.identity, "end")

    def _is_there(self, child: Child) -> bool:
        return self.children.get(child.pidfd) is child

    def _end_patience(self, child: Child) -> None:
        if self._is_there(child) and not self.stopping:  # a stop has its own deadline
            log.warning("%s did not finish in time after it was replaced: killed", child)
            child.kill("it did not finish in time after it was replaced")

    def _change_failed(self, change: Change, why: str) -> None:
        """A successor ended before all were ready: the old workers stay."""
        self._changes.remove(change)
        log.error("%s failed, the old workers stay in service: %s; the reason stands above", change.why, why)
        for child in self.of("worker"):
            if child.incarnation in change.members:
                child.retiring = True
                child.kill(f"{change.why} failed")
        self._answer(change.sender, error=f"{change.why} failed, the old workers stay in service: {why}")
        self._go_on()

    def _go_on(self) -> None:
        """Do what was asked for during a change: scaling, and one reload for all who asked for one."""
        number, self._scaling_wanted = self._scaling_wanted, None
        if number is not None and not self.stopping:
            self.scale(number)
        if self._reload_wanted and not self._changes:
            wanted, self._reload_wanted = self._reload_wanted, []
            for sender in wanted[:-1]:
                self._answer(sender, result={"merged": True})
            self.reload(wanted[-1])

    def _answer(self, sender: Sender | None, **fields: Any) -> None:
        if sender is not None:
            self._tell(sender[0], "answer", id=sender[1], **fields)
