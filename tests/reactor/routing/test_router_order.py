"""No sequence of messages, acknowledgements, ends and lost workers breaks a connection's order."""

from __future__ import annotations

import msgpack
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.reactor.reactor_parts import Event, Reactor, Worker
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.routing.parking import MESSAGE_COST, QUEUE_COST
from zwoole.shared.wire.events import ADOPT, CLOSE, OPEN

Told = tuple[int, object]  # kind and body of an event that the connection's worker was sent


class RouterMachine(RuleBasedStateMachine):
    """The model of a connection is the list of events that it must be told, and how many of them it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.reactor = Reactor(
            window_events=5, window_bytes=3000, connection_window_events=3, connection_window_bytes=1024
        )
        self.router = self.reactor.router
        self.worker: Worker | None = None
        self.open: dict[int, Connection] = {}
        self.closed: dict[int, Connection] = {}
        self.due: dict[int, list[object]] = {}  # events that a connection must still be told, in order
        self.unfinished: list[Event] = []
        self.count = 0

    def teardown(self) -> None:
        with self.reactor:
            if self.worker is None:
                self.link_ready()
            while self.unfinished:
                self.finish(0, len(self.unfinished))
            assert not any(self.due.values()), self.due
            assert self.router.parking.bytes == 0

    @rule()
    def connect(self) -> None:
        connection = self.reactor.bare_connection()
        self.open[connection.fd] = connection
        self.due[connection.fd] = [b"request"]
        self.take()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), sizes=st.lists(st.sampled_from([10, 100, 600, 1024, 4000]), min_size=1, max_size=6))
    def accept(self, data: st.DataObject, sizes: list[int]) -> None:
        fd = data.draw(st.sampled_from(sorted(self.open)))
        for size in sizes:
            self.count += 1
            message = b"%d" % self.count
            self.due[fd].append(message.ljust(size))
            self.router.accept(self.open[fd], 2, message.ljust(size))
        self.take()

    @precondition(lambda self: self.unfinished)
    @rule(start=st.integers(0, 10), count=st.integers(1, 5))
    def finish(self, start: int, count: int) -> None:
        assert self.worker is not None
        start %= len(self.unfinished)
        for event in self.unfinished[start : start + count]:
            self.router.finished(self.worker.link, event.sequence)
        del self.unfinished[start : start + count]
        self.router.serve(self.worker.link)
        self.take()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        self.close_connection(data.draw(st.sampled_from(sorted(self.open))))
        self.take()

    @precondition(lambda self: self.worker is not None)
    @rule()
    def lose_link(self) -> None:
        """The worker dies: connections with an unfinished event are closed, as the pool does it."""
        assert self.worker is not None
        failed = {event.fd for event in self.unfinished if event.kind != CLOSE}
        for fd in failed:
            connection = self.open.get(fd) or self.closed[fd]
            connection.outstanding = 0
            connection.outstanding_bytes = 0
        self.worker.die()
        self.worker = None
        self.unfinished.clear()
        for fd in failed & set(self.open):
            self.close_connection(fd)
        for fd in self.open:
            if self.due[fd][:1] not in ([b"request"], [ADOPT]):
                self.due[fd].insert(0, ADOPT)

    @precondition(lambda self: self.worker is None)
    @rule()
    def link_ready(self) -> None:
        self.worker = self.reactor.worker()
        self.take()

    def close_connection(self, fd: int) -> None:
        connection = self.closed[fd] = self.open.pop(fd)
        told_of_open = self.due[fd][:1] != [b"request"]
        self.router.close(connection)
        self.due[fd] = [CLOSE] if told_of_open else []

    def take(self) -> None:
        """What comes down is what was due next."""
        if self.worker is None:
            return
        for event in self.worker.take():
            if event.kind == OPEN:
                record, state = msgpack.unpackb(event.body)
                assert state == b""
                event = event._replace(body=record)
            due = self.due[event.fd].pop(0)
            assert due == (event.kind if event.kind in (CLOSE, ADOPT) else event.body)
            self.unfinished.append(event)

    @invariant()
    def counts_what_is_parked_and_outstanding(self) -> None:
        everybody = [*self.open.values(), *self.closed.values()]
        cost = sum(QUEUE_COST + len(c.parked) * MESSAGE_COST for c in everybody if c.parked is not None)
        assert self.router.parking.bytes == cost + sum(connection.parked_bytes for connection in everybody)
        for connection in everybody:
            parked = [len(data) for _, data in connection.parked or ()]
            assert connection.parked is None or parked
            assert connection.parked_bytes == sum(parked)
            out = [event for event in self.unfinished if event.fd == connection.fd and event.kind != CLOSE]
            assert connection.outstanding == len(out) <= 3
            assert connection.outstanding_bytes == sum(len(event.body) for event in out if event.kind != ADOPT)
        assert self.router.workers[0].connections == len(self.open)

    @invariant()
    def nothing_waits_without_a_reason(self) -> None:
        if self.worker is None:
            return
        line = self.worker.link.waiting
        for connection in self.open.values():
            if connection.owner is None:
                assert connection.adopting
                assert list(self.router.workers[0].adoptions).count(connection) == 1
                assert not self.worker.link.window.has_room(0)
                continue
            if connection.parked is not None:
                size = connection.outstanding_bytes + len(connection.parked[0][1])
                has_room = connection.outstanding == 0 or (connection.outstanding < 3 and size <= 1024)
                assert connection.waiting == has_room == (connection in line)
        if line:
            assert line[0].parked is not None
            assert not self.worker.link.window.has_room(len(line[0].parked[0][1]))


RouterMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestRouterOrder = RouterMachine.TestCase
