"""Handing connections over: what the end of a worker, in whatever way, does to those that were its own.

A worker's place goes to a successor that is ready (`activate`); the one that had it finishes what it has (`retire`). A
worker that died has its unfinished events judged (`judge`), and its connections go on, with the next worker, or end
(`bury`). A place without a worker for long, or given up, has its connections spread over the others. The connections
themselves change hands in one way, `Router.settle`, whichever of these it was.

Where there are many connections they are gone through in slices, turn by turn. Until its turn comes a connection waits:
its owner takes no event of it any more, so its messages are parked.
"""

from __future__ import annotations

import itertools
from logging import DEBUG

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.deadlines import Wheel
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.slices import Slices
from zwoole.reactor.core.stages import STAGE_ENDING, STAGE_HANDSHAKE, STAGE_OPEN
from zwoole.reactor.core.window import Outstanding
from zwoole.reactor.core.worker_link import Worker, WorkerLink
from zwoole.reactor.pool.verdict import RULES, Verdict
from zwoole.reactor.routing.router import Router
from zwoole.reactor.sending.outbound import Outbound
from zwoole.shared.memory.progress_map import FINISHED, STARTED, WAITING
from zwoole.shared.process.log import get_logger
from zwoole.shared.websocket.close_codes import CLOSE_INTERNAL_ERROR, CLOSE_SERVICE_RESTART, CLOSE_TRY_AGAIN_LATER
from zwoole.shared.wire.events import OPENINGS

MAX_REPLAYS = 2
NO_WORKER_S = 30.0  # a client whose message waits this long while no worker is there at all is sent away

PROGRESS = {WAITING: "not begun", STARTED: "begun", FINISHED: "finished"}

log = get_logger("handover")


class Handover:
    """Gives connections to the workers that come after.

    Attributes:
        deaths: workers that died in their place.
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
        """Begin without workers.

        Args:
            loop: the master's loop.
            registry: all connections.
            router: moves connections.
            closing: closes those that are lost.
            outbound: tells workers that nothing follows.
            adopt_timeout: seconds after which the connections of a place without a worker go to others.
            handover_timeout: seconds over which handlers' connections are closed when their worker retires.
        """
        self.deaths = 0
        self._loop = loop
        self._registry = registry
        self._router = router
        self._closing = closing
        self._outbound = outbound
        self._adopt_timeout = adopt_timeout
        self._handover_timeout = handover_timeout
        self._handler_deadlines: Wheel | None = None  # handler connections of retiring workers
        self._spreading: set[Worker] = set()  # places whose connections are being given to others
        self._sending_away: Slices[Connection] | None = None

    def activate(self, link: WorkerLink) -> None:
        """Give a worker its place, and its worker's connections."""
        worker = link.worker
        before, worker.link = worker.link, link
        link.active = True
        worker.gone_since = 0.0
        log.debug("worker %d: incarnation %d is active", worker.id, link.incarnation)
        if before is not None:
            self.retire(before)
        self._loop.serve_later(link)

    def retire(self, link: WorkerLink) -> None:
        """Let a worker finish what it has; its connections go to its successor as they become free.

        Those of its handlers are closed one after the other, at equal distances within `handover_timeout`, so that
        their clients do not all come back at once.
        """
        link.active = False
        link.retiring = True
        log.debug(
            "worker %d: incarnation %d retires, with %d connections", link.worker.id, link.incarnation, link.connections
        )
        self._router.forget_line(link)
        if self._handler_deadlines is None:  # not before, since every turn of the loop looks at every kind of timeout
            self._handler_deadlines = self._loop.add_wheel(self._part)
        deadlines = self._handler_deadlines
        step = self._handover_timeout / (link.handlers or 1)
        ends = itertools.count(step, step)

        def leave(connection: Connection) -> None:
            if connection.owner is link:
                if connection.handler:
                    deadlines.start(connection.fd, next(ends))
                else:
                    self._router.settle(connection)

        Slices(self._loop, self._owned(link), leave, lambda: self._outbound.drain_if_done(link))

    def judge(self, link: WorkerLink) -> Verdict:
        """Return what becomes of a dead worker's events; its place is empty from here on."""
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
        """Do what the verdict says with every connection that was the dead worker's."""
        failed = set(verdict.failed)
        for connection in verdict.unfinished:
            connection.outstanding = 0
            connection.outstanding_bytes = 0
            connection.waiting = False
            if connection in verdict.replay and connection.stage in (STAGE_HANDSHAKE, STAGE_OPEN, STAGE_ENDING):
                self._router.replay(connection, verdict.replay[connection])
        worker = link.worker
        if worker not in self._router.workers:  # given up meanwhile
            worker = min(self._router.workers, key=lambda other: (other.link is None, other.connections))
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
                self._router.abandon(connection)  # it is closing, and nobody has heard that it was open
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
                    "worker %d (pid %d) has ended: %d connection(s) of handlers are closed with %d, %d others with %d",
                    *(link.worker.id, link.pid),
                    *(closed[CLOSE_SERVICE_RESTART], CLOSE_SERVICE_RESTART),
                    *(closed[CLOSE_INTERNAL_ERROR], CLOSE_INTERNAL_ERROR),
                )

        Slices(self._loop, self._owned(link), go_on, finish)
        if worker.link is not None:
            self._loop.serve_later(worker.link)

    def give_up(self, worker: Worker) -> None:
        """Give up a place that is not among the router's any more: its connections go to the others."""
        link, worker.link = worker.link, None
        self._spread(worker)
        if link is not None:
            self.retire(link)

    def look_after(self) -> bool:
        """See to places without a worker; answer whether there are any."""
        now = self._loop.clock.now
        missing = [worker for worker in self._router.workers if worker.link is None]
        empty = {worker: now - worker.gone_since for worker in missing if worker.gone_since and worker.connections}
        if len(missing) < len(self._router.workers):
            for worker, seconds in empty.items():
                if seconds >= self._adopt_timeout:
                    self._spread(worker)
        elif late := {worker for worker, seconds in empty.items() if seconds >= NO_WORKER_S}:
            self._send_waiting_away(late)
        return bool(missing)

    def _owned(self, link: WorkerLink) -> list[Connection]:
        return [connection for connection in self._registry.all() if connection.owner is link]

    def _part(self, fd: int) -> None:
        """A coroutine handler has stayed with its retiring worker as long as it may."""
        connection = self._registry.find(fd)
        if connection is not None:
            self._closing.server_close(connection, CLOSE_SERVICE_RESTART, "the server was updated")

    def _lose(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection that its worker's death has cost a callback or its coroutine."""
        if connection.stage == STAGE_ENDING:
            self._router.discard_parked(connection)
            self._closing.finish_ending(connection)
        else:
            self._closing.server_close(connection, code, reason)

    def _send_waiting_away(self, workers: set[Worker]) -> None:
        """Close the connections of these places that wait for a worker, where there has been none at all for long."""
        if self._sending_away is not None and not self._sending_away.done:
            return

        def send_away(connection: Connection) -> None:
            worker: Worker | None = connection.worker
            if connection.parked is not None and worker is not None and worker.link is None:
                self._closing.server_close(connection, CLOSE_TRY_AGAIN_LATER, "the server has no worker now")

        waiting = [it for it in self._registry.all() if it.parked is not None and it.worker in workers]
        self._sending_away = Slices(self._loop, waiting, send_away)

    def _spread(self, worker: Worker) -> None:
        """Let the connections of a place belong to the other places, unless it gets a worker meanwhile."""
        if worker in self._spreading:
            return
        self._spreading.add(worker)

        def move(connection: Connection) -> None:
            if connection.worker is not worker or connection.closed_down or worker.link is not None:
                return
            self._router.move(connection, self._least_busy(worker))
            connection.adopting = False
            owner: WorkerLink | None = connection.owner
            if owner is not None and owner.closed:
                return  # its worker's death is still to be acted on, which settles it
            if (
                not connection.handler or connection.stage <= STAGE_ENDING
            ):  # else its coroutine is lost, and it is closing
                self._router.settle(connection)

        def finish() -> None:
            self._spreading.discard(worker)
            if worker.link is not None:
                return
            worker.adoptions.clear()
            held_back = list(worker.held_back)
            worker.held_back.clear()
            Slices(self._loop, held_back, self._router.read_if_allowed)  # or it is held back again, in its new place
            other = self._least_busy(worker)
            other.pending_closes.extend(worker.pending_closes)
            worker.pending_closes.clear()
            if other.link is not None:
                self._loop.serve_later(other.link)

        mine = [connection for connection in self._registry.all() if connection.worker is worker]
        Slices(self._loop, mine, move, finish)

    def _least_busy(self, worker: Worker) -> Worker:
        """Return the place with the fewest connections beside one, of those with a worker where there are any."""
        others = [other for other in self._router.workers if other is not worker]
        return min(others, key=lambda other: (other.link is None, other.connections))


def log_verdict(link: WorkerLink, unfinished: list[Outstanding], verdict: Verdict) -> None:
    """Log each event that a dead worker had not finished, and what becomes of the connections."""
    for item in unfinished:
        about = "no connection" if item.connection is None else f"fd {item.connection.fd}"
        progress = PROGRESS[link.progress.read(item.sequence)]
        log.debug(
            "incarnation %d has died: event %d, %s of %s, %s",
            *(link.incarnation, item.sequence, RULES[item.event].name, about, progress),
        )
    log.debug(
        "incarnation %d has died: sent again to the next one: %s; failed: %s; closes to be told: %s",
        link.incarnation,
        {connection.fd: len(events) for connection, events in verdict.replay.items()},
        [connection.fd for connection in verdict.failed],
        [connection.fd for connection in verdict.closes],
    )
