"""Hands connections over when an incarnation of a worker ends, for whatever reason.

- A successor is ready: it becomes active (`activate`), and the old incarnation finishes its events (`retire`).
- An incarnation has died: its unfinished events are judged (`judge`); then its connections are kept for the next
  incarnation, or closed (`bury`).
- A worker has had no process for a long time, or is given up: the other workers get its connections.

In all cases `Router.settle` gives a connection to its new owner.

Many connections are handled in slices, one in each turn of the loop. A connection waits for its slice: its old owner
gets no events of it, so its messages are parked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from logging import DEBUG

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import STAGE_ENDING, STAGE_HANDSHAKE, STAGE_OPEN
from zwoole.reactor.core.deadlines import Wheel
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.turn_slices import Slices
from zwoole.reactor.core.window import Outstanding
from zwoole.reactor.core.worker_link import Worker, WorkerLink
from zwoole.reactor.pool.verdict import Verdict
from zwoole.reactor.routing.router import Router
from zwoole.reactor.sending.outbound import Outbound
from zwoole.shared.memory.progress_map import FINISHED, STARTED, WAITING
from zwoole.shared.process.log import get_logger
from zwoole.shared.websocket.close_codes import CLOSE_INTERNAL_ERROR, CLOSE_SERVICE_RESTART, CLOSE_TRY_AGAIN_LATER
from zwoole.shared.wire.events import BY_KIND, OPENINGS

MAX_REPLAYS = 2
NO_WORKER_S = 30.0  # a client whose message waits is closed if there has been no worker at all for this long

PROGRESS = {WAITING: "not begun", STARTED: "begun", FINISHED: "finished"}

log = get_logger("handover")


class Handover:
    """Hands connections over.

    Attributes:
        deaths: how many incarnations died while they were active.
    """

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        router: Router,
        closing: Closing,
        outbound: Outbound,
        adopt_timeout: float,
        handover_timeout: float,
    ) -> None:
        """Create without workers.

        Args:
            loop: the master's loop.
            registry: all connections.
            router: settles connections.
            closing: closes connections that cannot go on.
            outbound: tells retiring incarnations that nothing follows.
            adopt_timeout: seconds that a worker may have no process before other workers get its connections.
            handover_timeout: seconds over which the connections of handlers are closed when their incarnation retires.
        """
        self.deaths = 0
        self._loop = loop
        self._registry = registry
        self._router = router
        self._closing = closing
        self._outbound = outbound
        self._adopt_timeout = adopt_timeout
        self._handover_timeout = handover_timeout
        self._handler_deadlines: Wheel | None = None  # when handlers of retiring incarnations are closed
        self._spreading: set[Worker] = set()  # workers whose connections are being given to others
        self._sending_away: Slices[Connection] | None = None

    def activate(self, link: WorkerLink) -> None:
        """Make a link the active one of its worker, which hands the worker's connections over to it."""
        worker = link.worker
        before, worker.link = worker.link, link
        link.active = True
        worker.gone_since = 0.0
        log.debug("worker %d (incarnation %d, pid %d) is active", worker.id, link.incarnation, link.pid)
        if before is not None:
            self.retire(before)
        self._loop.serve_later(link)

    def retire(self, link: WorkerLink) -> None:
        """Let an incarnation finish its events; each connection goes to its successor when its events are finished.

        The connections of handlers are closed one by one, at equal intervals within `handover_timeout`, so that their
        clients do not all reconnect at once.
        """
        link.active = False
        link.retiring = True
        log.debug(
            "worker %d (incarnation %d) retires, with %d connections",
            *(link.worker.id, link.incarnation, link.connections),
        )
        self._router.forget_queue(link)
        if self._handler_deadlines is None:  # only now, since every turn of the loop looks at every kind of timeout
            self._handler_deadlines = self._loop.add_wheel(self._handler_expired)
        deadlines = self._handler_deadlines
        step = self._handover_timeout / (link.handlers or 1)
        ends = itertools.count(step, step)

        def leave(connection: Connection) -> None:
            if connection.owner is link and not link.closed:  # otherwise `bury` decides what becomes of it
                if connection.handler:
                    deadlines.start(connection.fd, next(ends))
                else:
                    self._router.settle(connection)

        Slices(self._loop, self._owned(link), leave, lambda: self._outbound.drain_if_done(link))

    def judge(self, link: WorkerLink) -> Verdict:
        """Return the verdict on the events of a dead incarnation. Its worker has no active link from now on."""
        worker = link.worker
        if worker.link is link:
            self.deaths += 1
            worker.link = None
            worker.gone_since = self._loop.clock.now
        unfinished = link.window.unfinished()
        verdict = Verdict(unfinished, link.progress.read)
        if log.isEnabledFor(DEBUG):
            log_verdict(link, unfinished, verdict)
        return verdict

    def bury(self, link: WorkerLink, verdict: Verdict) -> None:
        """Apply a verdict to every connection of a dead incarnation: replay its events and settle it, or close it.

        To be called after `judge`, when the link is closed.
        """
        failed = set(verdict.failed)
        for connection in verdict.unfinished:
            connection.outstanding = 0
            connection.outstanding_bytes = 0
            connection.waiting = False
            if connection in verdict.replay and connection.stage in (STAGE_HANDSHAKE, STAGE_OPEN, STAGE_ENDING):
                self._router.replay(connection, verdict.replay[connection])
        worker = link.worker
        if worker not in self._router.workers:  # the worker is given up
            worker = self._router.least_busy()
        worker.pending_closes.extend(verdict.closes)
        closed = {CLOSE_INTERNAL_ERROR: 0, CLOSE_SERVICE_RESTART: 0}

        def lose(connection: Connection, code: int, reason: str) -> None:
            closed[code] += connection.stage in (STAGE_HANDSHAKE, STAGE_OPEN)
            self._lose(connection, code, reason)

        def go_on(connection: Connection) -> None:
            if connection.owner is not link:
                return
            link.disown(connection)
            never_began = connection.parked is not None and connection.parked[0][0] in OPENINGS
            if connection in verdict.unopened and connection.stage not in (STAGE_HANDSHAKE, STAGE_OPEN, STAGE_ENDING):
                self._router.abandon(connection)  # it is closing, and its open was never delivered
            elif connection in failed or connection.replays > MAX_REPLAYS:
                lose(connection, CLOSE_INTERNAL_ERROR, "the server process died")
            elif connection.handler and not never_began:
                lose(connection, CLOSE_SERVICE_RESTART, "the server process was restarted")
            elif connection.stage == STAGE_ENDING and self._router.is_idle(connection):
                self._closing.finish_ending(connection)
            else:
                self._router.settle(connection)

        def finish() -> None:
            if any(closed.values()):
                log.info(
                    "worker %d (pid %d) has ended: closing %d connection(s) of handlers with %d, %d other(s) with %d",
                    *(link.worker.id, link.pid),
                    *(closed[CLOSE_SERVICE_RESTART], CLOSE_SERVICE_RESTART),
                    *(closed[CLOSE_INTERNAL_ERROR], CLOSE_INTERNAL_ERROR),
                )

        Slices(self._loop, self._owned(link), go_on, finish)
        self._router.serve_later(worker)

    def give_up(self, worker: Worker) -> None:
        """Give up a worker that was removed from `Router.workers`: the other workers get its connections."""
        link, worker.link = worker.link, None
        self._spread(worker)
        if link is not None:
            self.retire(link)

    def look_after(self) -> bool:
        """Give the connections of workers without a process to others, or close them, if their time is up.

        Returns:
            Whether a worker has no process; if so, this must be called again.
        """
        now = self._loop.clock.now
        missing = [worker for worker in self._router.workers if worker.link is None]
        waited_for = [worker for worker in missing if worker.connections or worker.pending_closes]
        empty = {worker: now - worker.gone_since for worker in waited_for if worker.gone_since}
        if len(missing) < len(self._router.workers):
            for worker, seconds in empty.items():
                if seconds >= self._adopt_timeout:
                    self._spread(worker)
        elif late := {worker for worker, seconds in empty.items() if seconds >= NO_WORKER_S}:
            self._send_waiting_away(late)
        return bool(missing)

    def _owned(self, link: WorkerLink) -> list[Connection]:
        return [connection for connection in self._registry.all() if connection.owner is link]

    def _handler_expired(self, fd: int) -> None:
        """Close the connection of a coroutine handler whose time with a retiring incarnation is up."""
        connection = self._registry.find(fd)
        if connection is not None:
            self._closing.server_close(connection, CLOSE_SERVICE_RESTART, "the server was updated")

    def _lose(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection that has lost a callback or its coroutine with an incarnation."""
        if connection.stage == STAGE_ENDING:
            self._router.discard_parked(connection)
            self._closing.finish_ending(connection)
        else:
            self._closing.server_close(connection, code, reason)

    def _send_waiting_away(self, workers: set[Worker]) -> None:
        """Close the connections of these workers that have parked messages: no worker at all has a process."""
        if self._sending_away is not None and not self._sending_away.done:
            return

        def send_away(connection: Connection) -> None:
            worker: Worker | None = connection.worker
            if connection.parked is not None and worker is not None and worker.link is None:
                self._closing.server_close(connection, CLOSE_TRY_AGAIN_LATER, "the server has no worker now")

        waiting = [it for it in self._registry.all() if it.parked is not None and it.worker in workers]
        self._sending_away = Slices(self._loop, waiting, send_away)

    def _spread(self, worker: Worker) -> None:
        """Give a worker's connections to the other workers; stop if it gets a process meanwhile, or is the last one."""
        if worker in self._spreading:
            return
        self._spreading.add(worker)

        def keeps() -> bool:
            return worker.link is not None or self._router.workers == [worker]

        def move(connection: Connection) -> None:
            if connection.worker is not worker or connection.closed_down or keeps():
                return
            self._router.move(connection, self._router.least_busy(without=worker))
            connection.adopting = False
            owner: WorkerLink | None = connection.owner
            if owner is not None and owner.closed:
                return  # `bury` will settle it
            if not connection.handler or connection.stage <= STAGE_ENDING:  # otherwise its coroutine is lost
                self._router.settle(connection)

        def finish() -> None:
            self._spreading.discard(worker)
            if keeps():
                return
            worker.adoptions.clear()
            held_back = list(worker.held_back)
            worker.held_back.clear()
            Slices(self._loop, held_back, self._router.read_if_allowed)  # its new worker may hold it back again
            other = self._router.least_busy(without=worker)
            other.pending_closes.extend(worker.pending_closes)
            worker.pending_closes.clear()
            self._router.serve_later(other)

        mine = [connection for connection in self._registry.all() if connection.worker is worker]
        Slices(self._loop, mine, move, finish)


def log_verdict(link: WorkerLink, unfinished: list[Outstanding], verdict: Verdict) -> None:
    """Log how each event stands that an incarnation had not finished when it ended, and the verdict."""
    who = f"worker {link.worker.id} (incarnation {link.incarnation}) has ended"
    if not unfinished:
        log.debug("%s, and has finished everything", who)
        return
    for item in unfinished:
        about = "no connection" if item.connection is None else f"fd {item.connection.fd}"
        progress = PROGRESS[link.progress.read(item.sequence)]
        log.debug("%s: event %d, %s of %s, %s", who, item.sequence, BY_KIND[item.event].name, about, progress)
    log.debug(
        "%s: sent to the next one: %s; closed with 1011: %s; close runs in the next one: %s",
        who,
        ", ".join(f"{len(events)} of fd {connection.fd}" for connection, events in verdict.replay.items()) or "nothing",
        fds_of(verdict.failed),
        fds_of(verdict.closes),
    )


def fds_of(connections: Iterable[Connection]) -> str:
    """Return the fds of connections as the log shows them."""
    return ", ".join(f"fd {connection.fd}" for connection in connections) or "none"
