"""The delivery contract under every order of events that hypothesis finds; ConnectionModel describes the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.reactor.delivery_parts import Actor, ConnectionModel, Peer
from tests.reactor.reactor_parts import Client, Reactor, establish
from zwoole.reactor.core import turn_slices
from zwoole.reactor.core.connection_stages import STAGE_OPEN
from zwoole.reactor.core.worker_link import Worker
from zwoole.reactor.pool.handover import NO_WORKER_S
from zwoole.shared.wire.events import DISCONNECT

PLACES = 2
Chosen = TypeVar("Chosen")
PICK = st.integers(0, 1 << 16)


def chosen(among: Sequence[Chosen], pick: int) -> Chosen:
    return among[pick % len(among)]


class DeliveryMachine(RuleBasedStateMachine):
    """Two worker ids, any number of clients, and everything that may happen to them."""

    turns = 4  # of the loop after each step, so that everything sent has arrived

    def __init__(self) -> None:
        super().__init__()
        self.reactor = Reactor(
            worker_num=PLACES,
            window_events=6,
            connection_window_events=3,
            parked_messages=4,
            handover_timeout=1.0,
            adopt_timeout=1.0,
            ping_interval=0.0,
        )
        self.models: dict[int, ConnectionModel] = {}
        self.peers: dict[int, Peer] = {}
        self.actors: list[Actor] = []
        self.count = 0

    # Clients.

    @rule(handler=st.sampled_from([False, False, True]))
    def connect(self, handler: bool) -> None:
        if len(self.peers) >= 5:
            return
        client = Client(self.reactor)
        client.connection.handler = handler
        self.models[client.connection.fd] = ConnectionModel(handler)
        self.peers[client.connection.fd] = Peer(client)
        self.reactor.clients.append(client)
        self.reactor.loop.join(client.connection)
        establish(self.reactor, client.connection)
        self.settle()

    @precondition(lambda self: self.open_peers())
    @rule(pick=PICK, count=st.integers(1, 6))
    def send(self, pick: int, count: int) -> None:
        peer = chosen(self.open_peers(), pick)
        model = self.models[peer.connection.fd]
        for _ in range(count):
            before = self.reactor.inbound.messages
            self.count += 1
            text = str(self.count)
            if peer.connection.interest & 1 and not peer.connection.unread:
                peer.client.send_message(text.encode())
                assert self.reactor.inbound.messages == before + 1
                model.accepted.append(text)
        self.settle()

    @precondition(lambda self: self.open_peers())
    @rule(pick=PICK)
    def client_leaves(self, pick: int) -> None:
        peer = chosen(self.open_peers(), pick)
        if peer.connection.interest & 1 and not peer.connection.unread:
            self.models[peer.connection.fd].causes.add("left")
            peer.client.send_close(1000)
        self.settle()

    # Workers.

    @rule(pick=PICK)
    def boot(self, pick: int) -> None:
        empty = [worker for worker in self.reactor.router.workers if worker.link is None]
        if empty:
            self.start(chosen(empty, pick))
        self.settle()

    @rule(pick=PICK, then_dies=st.booleans())
    def replace(self, pick: int, then_dies: bool) -> None:
        """A reload, or the recycling of one worker: the successor takes over from a serving one, which may die in the
        same turn.
        """
        staffed = [worker for worker in self.reactor.router.workers if worker.link is not None]
        if staffed:
            worker = chosen(staffed, pick)
            before = self.actors_of(worker)
            self.start(worker)
            if then_dies:
                for actor in before:
                    actor.die()
        self.settle()

    @rule(then_dies=st.booleans())
    def give_up_a_place(self, then_dies: bool) -> None:
        if len(self.reactor.router.workers) > 1:
            worker = self.reactor.router.workers.pop()
            for model in self.owned_by(worker):
                model.causes.add("replaced")
            before = self.actors_of(worker)
            self.reactor.handover.give_up(worker)
            if then_dies:
                for actor in before:
                    actor.die()
        self.settle()

    @rule()
    def add_a_place(self) -> None:
        workers = self.reactor.router.workers
        if len(workers) < 3:
            workers.append(Worker(len(workers)))
        self.settle()

    @precondition(lambda self: self.living())
    @rule(pick=PICK, steps=st.integers(1, 8))
    def work(self, pick: int, steps: int) -> None:
        """Start callbacks."""
        actor = chosen(self.living(), pick)
        for step in range(steps):
            if lanes := actor.idle_lanes():
                actor.begin(lanes[(pick + step) % len(lanes)])

    @precondition(lambda self: any(actor.begun for actor in self.living()))
    @rule(pick=PICK, fails=st.sampled_from([False, False, False, True]), steps=st.integers(1, 8))
    def finish(self, pick: int, fails: bool, steps: int) -> None:
        """Finish callbacks in any order."""
        actor = chosen([actor for actor in self.living() if actor.begun], pick)
        for step in range(steps):
            if begun := sorted(actor.begun):
                actor.finish(begun[(pick + step) % len(begun)], fails and step == 0)

    @precondition(lambda self: self.living())
    @rule(pick=PICK)
    def flush(self, pick: int) -> None:
        chosen(self.living(), pick).flush()
        self.settle()

    @precondition(lambda self: self.living())
    @rule(pick=PICK)
    def die(self, pick: int) -> None:
        chosen(self.living(), pick).die()
        self.settle()

    @precondition(lambda self: self.living() and self.open_peers())
    @rule(pick=PICK)
    def disconnect(self, pick: int) -> None:
        """A callback closes a connection, its own or another."""
        peer = chosen(self.open_peers(), pick)
        self.models[peer.connection.fd].causes.add("disconnected")
        actor = chosen(self.living(), pick)
        actor.disconnect(peer.connection.fd, DISCONNECT, 4000)

    @rule()
    def wait(self) -> None:
        """Long enough that connections without a worker are given to other workers, and handlers of replaced
        workers end.
        """
        self.reactor.pass_time(1.5)
        workers, now = self.reactor.router.workers, self.reactor.loop.clock.now
        late = [worker for worker in workers if worker.gone_since and now - worker.gone_since >= NO_WORKER_S]
        if not any(worker.link for worker in workers):
            for fd, peer in self.peers.items():
                if peer.connection.worker in late:
                    self.models[fd].causes.add("unserved")
        self.reactor.handover.look_after()
        self.settle()

    # The end.

    def teardown(self) -> None:
        with self.reactor:
            self.finish_everything()
            for fd, peer in self.peers.items():
                self.judge(peer, self.models[fd])
            self.judge_accounts()

    def finish_everything(self) -> None:
        """Let everything finish."""
        for worker in self.reactor.router.workers:
            if worker.link is None:
                self.start(worker)
        for _ in range(100):
            self.settle()
            busy = False
            for actor in self.living():
                while lanes := actor.idle_lanes():
                    busy = True
                    for fd in lanes:
                        actor.begin(fd)
                    for fd in list(actor.begun):
                        actor.finish(fd)
                for fd in list(actor.begun):
                    busy = True
                    actor.finish(fd)
                actor.flush()
            self.settle()
            for peer in self.peers.values():
                if peer.code is not None and not peer.gone:
                    peer.leave()
                    busy = True
            self.reactor.pass_time(0.5)
            self.reactor.handover.look_after()
            self.settle()  # connections that this closed or handed over are reported to both ends
            busy |= any(peer.code is not None and not peer.gone for peer in self.peers.values())
            busy |= any(actor.idle_lanes() for actor in self.living())
            if not busy:
                return
        raise AssertionError("it does not come to rest")

    def judge(self, peer: Peer, model: ConnectionModel) -> None:
        """Check what the contract says about a connection when everything is finished."""
        peer.read()
        if peer.connection.stage == STAGE_OPEN and not model.causes:
            assert model.ran == model.accepted, "every message that was accepted has run"
            assert peer.received == model.accepted, "and what it pushed is here, in order"
            assert model.opened == 1
            assert model.closed == 0
            return
        assert peer.received == model.ran[: len(peer.received)], "in order, none left out"
        if peer.connection.stage == STAGE_OPEN:
            assert model.ran == model.accepted == peer.received
            return
        assert peer.code in model.allowed_codes(), (peer.code, model.causes)
        assert model.closed == model.opened, "close runs once for each open that has run"

    def judge_accounts(self) -> None:
        reactor = self.reactor
        assert reactor.router.parking.bytes == 0
        left = [peer.connection for peer in self.peers.values() if peer.connection.stage == STAGE_OPEN]
        assert sum(worker.connections for worker in reactor.router.workers) == len(left)
        assert sum(actor.link.connections for actor in self.living()) == len(left)
        for connection in left:
            assert (connection.outstanding, connection.outstanding_bytes, connection.parked) == (0, 0, None)
            assert connection.interest & 1
        for actor in self.living():
            window = actor.link.window
            assert (window.events, window.bytes, window.oldest) == (0, 0, window.next_sequence)
            assert not actor.link.waiting
            assert actor.drained or not actor.link.retiring or actor.link.connections

    # Steps of the above.

    def start(self, worker: Worker) -> None:
        actor = Actor(self.reactor, worker, self.models)
        self.actors.append(actor)
        actor.hello()
        if worker.link is not None:
            for model in self.owned_by(worker):
                model.causes.add("replaced")
        self.reactor.handover.activate(actor.link)

    def owned_by(self, worker: Worker) -> list[ConnectionModel]:
        return [
            self.models[connection.fd]
            for connection in self.reactor.registry.all()
            if worker.link is not None and connection.owner is worker.link and connection.handler
        ]

    def settle(self) -> None:
        """Turn the loop until everything sent has arrived."""
        self.reactor.turn(self.turns)
        for actor in self.living():
            actor.take()
        for peer in self.peers.values():
            peer.read()

    def actors_of(self, worker: Worker) -> list[Actor]:
        """Return the living process that is active for a worker id."""
        return [actor for actor in self.living() if actor.link is worker.link]

    def living(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.alive]

    def open_peers(self) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.connection.stage == STAGE_OPEN]


DeliveryMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestDelivery = DeliveryMachine.TestCase


class SlicedMachine(DeliveryMachine):
    """The same, but each turn acts on one connection, and the next step comes before all are done."""

    turns = 1

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(turn_slices, "SLICE", 1)

    def teardown(self) -> None:
        self.turns = 50
        super().teardown()
        self.patch.undo()


SlicedMachine.TestCase.settings = DeliveryMachine.TestCase.settings
TestDeliveryInSlices = SlicedMachine.TestCase
