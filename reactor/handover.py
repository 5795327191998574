"""Handing connections over: what the end of a worker, in whatever way, does to those that were its own.

A worker's place goes to a successor that is ready (`activate`); the one that had it finishes what it has (`retire`). A
worker that died has its unfinished events judged (`judge`), and its connections go on, with the next worker, or end
(`bury`). A place without a worker for long, or given up, has its connections spread over the others. The connections
themselves change hands in one way, `Router.settle`, whichever of these it was.
"""

from __future__ import annotations

from zwoole.reactor.closing import Closing
from zwoole.reactor.connection import ENDING, HANDSHAKE, OPEN, Connection
from zwoole.reactor.loop import Loop
from zwoole.reactor.outbound import Outbound
from zwoole.reactor.registry import Registry
from zwoole.reactor.router import OPENINGS, Router
from zwoole.reactor.verdict import Verdict
from zwoole.reactor.worker import WorkerLink, WorkerSlot
from zwoole.shared.close_codes import CLOSE_INTERNAL_ERROR, CLOSE_SERVICE_RESTART, CLOSE_TRY_AGAIN_LATER
from zwoole.shared.settings import Settings

MAX_REPLAYS = 2
NO_WORKER_S = 30.0  # a client whose message waits this long while no worker is there at all is sent away


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
        settings: Settings,
    ) -> None:
        self.deaths = 0
        self._loop = loop
        self._registry = registry
        self._router = router
        self._closing = closing
        self._outbound = outbound
        self._adopt_timeout = settings.adopt_timeout
        self._handover_timeout = settings.handover_timeout
        self._farewells: list[tuple[float, int]] = []  # when to close which handler connection of a retiring worker

    def activate(self, link: WorkerLink) -> None:
        """Give a worker its place, and its slot's connections."""
        slot = link.slot
        before, slot.link = slot.link, link
        link.active = True
        slot.gone_since = 0.0
        if before is not None:
            self.retire(before)
        self._loop.serve_later(link)

    def retire(self, link: WorkerLink) -> None:
        """Let a worker finish what it has; its connections go to its successor as they become free."""
        link.active = False
        link.retiring = True
        handlers = []
        self._router.forget_line(link)
        for connection in self._registry.all():
            if connection.owner is link:
                if connection.handler:
                    handlers.append(connection.fd)
                else:
                    self._router.settle(connection)
        step = self._handover_timeout / (len(handlers) or 1)
        now = self._loop.clock.now
        self._farewells += [(now + step * (i + 1), fd) for i, fd in enumerate(handlers)]
        self._farewells.sort()
        self._outbound.drain_if_done(link)

    def judge(self, link: WorkerLink) -> Verdict:
        """Return what becomes of a dead worker's events; its place is empty from here on."""
        slot = link.slot
        if slot.link is link:
            self.deaths += 1
            slot.link = None
            slot.gone_since = self._loop.clock.now
        return Verdict(link.window.unfinished(), link.progress.read)

    def bury(self, link: WorkerLink, verdict: Verdict) -> None:
        """Do what the verdict says with every connection that was the dead worker's."""
        owned = [connection for connection in self._registry.all() if connection.owner is link]
        for connection in {*owned, *verdict.failed, *verdict.replay}:
            connection.outstanding = 0
            connection.outstanding_bytes = 0
            connection.waiting = False
        for connection in owned:
            link.disown(connection)
        failed = set(verdict.failed)
        for connection, events in verdict.replay.items():
            if connection.stage in (HANDSHAKE, OPEN, ENDING):
                self._router.replay(connection, events)
        slot = link.slot
        if slot not in self._router.slots:  # given up meanwhile
            slot = min(self._router.slots, key=lambda other: (other.link is None, other.connections))
        slot.pending_closes.extend(verdict.closes)
        for connection in owned:
            never_began = connection.parked is not None and connection.parked[0][0] in OPENINGS
            if connection in verdict.unopened and connection.stage not in (HANDSHAKE, OPEN, ENDING):
                self._router.abandon(connection)  # it is closing, and nobody has heard that it was open
            elif connection in failed or connection.replays > MAX_REPLAYS:
                self._lose(connection, CLOSE_INTERNAL_ERROR, "the server process died")
            elif connection.handler and not never_began:
                self._lose(connection, CLOSE_SERVICE_RESTART, "the server process was restarted")
            elif connection.stage == ENDING and self._router.is_idle(connection):
                self._closing.finish_ending(connection)
            else:
                self._router.settle(connection)
        if slot.link is not None:
            self._loop.serve_later(slot.link)

    def give_up(self, slot: WorkerSlot) -> None:
        """Give up a place that is not among the router's any more: its connections go to the others."""
        self._spread(slot)
        if slot.link is not None:
            link, slot.link = slot.link, None
            self.retire(link)

    def look_after(self) -> bool:
        """See to handlers that linger and places without a worker; answer whether there are any left."""
        now = self._loop.clock.now
        while self._farewells and self._farewells[0][0] <= now:
            connection = self._registry.find(self._farewells.pop(0)[1])
            if connection is not None:
                self._closing.server_close(connection, CLOSE_SERVICE_RESTART, "the server was updated")
        missing = [slot for slot in self._router.slots if slot.link is None]
        for slot in missing:
            self._look_after_place(slot, now - slot.gone_since if slot.gone_since else 0.0)
        return bool(missing or self._farewells)

    def _lose(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection that its worker's death has cost a callback or its coroutine."""
        if connection.stage == ENDING:
            self._router.discard_parked(connection)
            self._closing.finish_ending(connection)
        else:
            self._closing.server_close(connection, code, reason)

    def _look_after_place(self, slot: WorkerSlot, seconds: float) -> None:
        """A place has had no worker for so long."""
        if seconds < self._adopt_timeout or not slot.connections:
            return
        if any(other.link is not None for other in self._router.slots):
            self._spread(slot)
        elif seconds >= NO_WORKER_S:
            for connection in self._registry.all():
                if connection.slot is slot and connection.parked is not None:
                    self._closing.server_close(connection, CLOSE_TRY_AGAIN_LATER, "the server has no worker now")

    def _spread(self, slot: WorkerSlot) -> None:
        """Let the connections of a place belong to the other places."""
        others = [other for other in self._router.slots if other is not slot]
        staffed = [other for other in others if other.link is not None] or others
        for connection in self._registry.all():
            if connection.slot is slot and not connection.closed_down:
                self._router.move(connection, min(staffed, key=lambda other: other.connections))
                if connection.adopting:
                    connection.adopting = False
                self._router.settle(connection)
        slot.adoptions.clear()
        while slot.held_back:
            self._router.read_if_allowed(slot.held_back.popleft())  # or it is held back again, in its new place
        while slot.pending_closes:
            min(staffed, key=lambda other: other.connections).pending_closes.append(slot.pending_closes.popleft())
        for other in staffed:
            if other.link is not None:
                self._loop.serve_later(other.link)
