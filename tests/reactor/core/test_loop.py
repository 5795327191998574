"""The event loop: which handlers are called, in which order, and when it may sleep."""

from __future__ import annotations

import os
import resource
import select
import socket
from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from tests.client_frames import client_frame
from tests.conftest import Time
from tests.reactor.reactor_parts import Epoll, Reactor
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.deadlines import Clock
from zwoole.reactor.core.loop import FLUSHES_PER_TURN, IN, OUT, Loop
from zwoole.reactor.core.output import ALL_BYTES, WRITE_BYTES
from zwoole.reactor.core.worker_link import WorkerLink
from zwoole.shared.websocket.frames import build_frame
from zwoole.shared.wire.events import ACK, BROADCAST, CLOSE, PING, PUSH, SYNC


def test_sources_are_called_while_they_are_readable(reactor: Reactor) -> None:
    called: list[int] = []
    read_end, write_end = os.pipe()
    reactor.loop.add_source(read_end, lambda: called.append(1))
    reactor.turn()
    assert called == []
    os.write(write_end, b"x")
    reactor.turn(2)
    assert called == [1, 1]
    reactor.loop.remove_source(read_end)
    reactor.loop.remove_source(read_end)
    reactor.turn()
    assert called == [1, 1]
    os.close(read_end)
    os.close(write_end)


def test_a_turn_acts_on_clients_then_workers_then_timers_then_new_connections_then_sends(reactor: Reactor) -> None:
    order: list[str] = []
    read_end, write_end = os.pipe()
    client = reactor.open_client()
    reactor.turn()

    def readable(connection: Connection) -> None:
        order.append("client")
        os.read(connection.descriptor, 100)
        connection.output.queue(b"answer")
        reactor.loop.flush_later(connection)

    def batch(link: object) -> bool:
        order.append("worker")
        return False

    def accept() -> None:
        order.append("accept")
        with pytest.raises(BlockingIOError):
            client.socket.recv(100)

    worker = reactor.worker(ready=False)
    reactor.turn()
    reactor.reconnect(readable=readable, batch=batch)
    reactor.loop.add_source(read_end, accept, last=True)
    reactor.loop.before_sleep(lambda: order.append("before sleep"))
    deadlines = reactor.loop.add_deadlines(0.5, lambda _: order.append("timer"))
    deadlines.start(1)
    os.write(write_end, b"x")
    client.socket.send(b"x")
    worker.writer.add(ACK, 0)
    worker.send()
    reactor.time.now += 0.5
    reactor.turn(1)
    assert order == ["before sleep", "client", "worker", "timer", "accept"]
    assert client.socket.recv(100) == b"answer"
    reactor.loop.remove_source(read_end)
    os.close(read_end)
    os.close(write_end)


def test_what_a_turn_queued_leaves_at_its_end_in_one_piece(reactor: Reactor) -> None:
    worker = reactor.worker()
    client = reactor.open_client()
    worker.take()
    for letter in (b"a", b"b"):
        worker.writer.add_text(PUSH, client.connection.fd, letter)
        worker.send()
    reactor.turn(1)
    assert client.socket.recv(100) == build_frame(1, b"a") + build_frame(1, b"b")
    for letter in (b"a", b"b"):
        client.socket.send(client_frame(1, letter))
    reactor.turn(1)
    assert len(worker.next_batch() or []) == 1
    assert not worker.has_batch()


def test_out_is_listened_to_only_while_something_is_left_over(reactor: Reactor) -> None:
    client = reactor.open_client()
    connection = client.connection
    connection.output.queue(b"small")
    reactor.loop.flush_later(connection)
    reactor.turn(1)
    assert connection.interest == IN
    connection.output.queue(b"x" * 2_000_000)
    reactor.loop.flush_later(connection)
    reactor.turn(1)
    assert connection.interest == IN | OUT
    assert reactor.table.queued(connection.fd) == connection.output.queued > 0
    assert reactor.sleeps()
    assert len(client.read()) == 2_000_005
    assert connection.interest == IN
    assert reactor.table.queued(connection.fd) == 0


def test_a_fast_reader_of_much_gets_a_share_in_each_turn(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel buffer has room for everything, but the others get their turn in between."""
    fast, other = reactor.open_client(), reactor.open_client()
    sent: list[int] = []

    def take_all(descriptor: int, parts: Sequence[bytes]) -> int:
        assert descriptor == fast.connection.descriptor
        sent.append(sum(len(part) for part in parts))
        return sent[-1]

    monkeypatch.setattr(os, "writev", take_all)
    for size in (WRITE_BYTES // 2, 3 * WRITE_BYTES, 100):
        fast.connection.output.queue(bytes(size))
    for left in (WRITE_BYTES * 5 // 2 + 100, WRITE_BYTES * 3 // 2 + 100, WRITE_BYTES // 2 + 100, 0):
        other.connection.output.queue(b"small")
        for client in (fast, other):
            reactor.loop.flush_later(client.connection)
        reactor.turn(1)
        assert fast.connection.output.queued == left
        assert fast.connection.interest == (IN | OUT if left else IN), "the next turn goes on"
        assert other.socket.recv(100) == b"small"
    fast.connection.output.queue(bytes(2 * WRITE_BYTES))
    reactor.loop.flush_later(fast.connection)
    reactor.loop.flush_connections(ALL_BYTES)
    assert fast.connection.output.queued == 0, "where memory is short all is offered to the kernel at once"


def test_a_link_that_has_more_is_asked_a_bounded_number_of_times_a_turn(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor reports it too, and so does each send."""
    worker = reactor.worker()
    reactor.turn()
    asked = 0

    def batch(link: WorkerLink) -> bool:
        nonlocal asked
        asked += 1
        return True

    reactor.reconnect(batch=batch)
    counts = []
    for _ in range(10):
        worker.writer.add_text(PUSH, 77, b"a")
        worker.send()
        worker.link.send_command(PING, 0, b"")
        reactor.loop.touch(worker.link)
        asked = 0
        reactor.turn(1)
        counts.append(asked)
    assert max(counts[5:]) <= 4


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Allow this process a thousand connections, of which it has both ends."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(4096, before[1])), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_descriptors")
def test_what_very_many_were_sent_leaves_in_several_turns_and_credit_comes_last() -> None:
    """Others are served between the turns, and each connection gets its messages in order and once."""
    with Reactor(places=FLUSHES_PER_TURN + 20) as reactor:
        worker = reactor.worker()
        clients = [reactor.open_client() for _ in range(FLUSHES_PER_TURN + 20)]
        reactor.turn()
        for client in clients:
            client.read()
        worker.take()
        for text in (b"one", b"two"):
            worker.writer.add_text(BROADCAST, 0, text)
            worker.writer.add(SYNC, 0)
            worker.send()
        reactor.turn(1)
        frames = build_frame(1, b"one") + build_frame(1, b"two")
        first, rest = clients[:FLUSHES_PER_TURN], clients[FLUSHES_PER_TURN:]
        assert [client.socket.recv(100) for client in first] == [frames] * len(first)
        assert all(client.connection.output.queued for client in rest)
        assert worker.link.settled < worker.link.received
        assert not reactor.sleeps()
        assert [client.socket.recv(100) for client in rest] == [frames] * len(rest)
        assert worker.link.settled == worker.link.received
        reactor.turn()
        assert reactor.sleeps()


def test_timers_run_only_in_turns_in_which_one_may_be_due(reactor: Reactor) -> None:
    ran: list[float] = []
    deadlines = reactor.loop.add_deadlines(3.0, lambda _: ran.append(reactor.loop.now))
    wheel = reactor.loop.add_wheel(lambda _: ran.append(reactor.loop.now))
    began = reactor.time.now
    deadlines.start(1)
    wheel.start(1, 1.0)
    for _ in range(40):
        reactor.time.now += 0.1
        reactor.turn(1)
    assert [round(at - began, 1) for at in ran] == [1.1, 3.0]


def test_a_sign_of_life_is_noted_when_bytes_come_and_when_what_had_waited_is_taken(reactor: Reactor) -> None:
    client = reactor.open_client()
    opened = client.connection.heard
    connection = client.connection
    connection.output.queue(b"x" * 2_000_000)
    reactor.loop.flush_later(connection)
    reactor.pass_time(1.0)
    assert connection.heard == opened, "what the kernel takes says nothing of the client"
    client.read()
    assert connection.heard == opened + 1.0
    reactor.pass_time(1.0)
    client.send(b"")
    assert connection.heard == opened + 1.0
    client.send(b"\x81")
    assert connection.heard == opened + 2.0


def test_an_idle_loop_sleeps_until_its_next_timer(reactor: Reactor) -> None:
    assert reactor.sleeps()


class Looks(Epoll):
    """An epoll that counts how often it was polled. Here waits end at once, and a poll takes 1 ms."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self.count = 0
        self._time = time

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        self.count += 1
        found = super().poll(0, most)
        if not found:
            self._time.now += timeout or 0.001
        return found


def test_a_loop_looks_again_and_again_only_after_short_waits_that_found_little(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoll = Looks(reactor.time)
    monkeypatch.setattr("zwoole.reactor.core.loop.monotonic", reactor.time)
    loop = Loop(reactor.registry, cast(select.epoll, epoll), Clock(reactor.time))

    def looks_of_a_wait() -> int:
        """Return how often a turn polls if nothing arrives for 0.3 s."""
        loop.add_deadlines(0.3, lambda _: None).start(0)
        before = epoll.count
        loop.turn()
        return epoll.count - before

    assert looks_of_a_wait() == 1
    loop.busy_poll_s = 0.1
    assert looks_of_a_wait() == pytest.approx(101, abs=1), "no wait was long yet"
    for _ in range(3):
        looks_of_a_wait()
    assert looks_of_a_wait() == 1, "the last ones were"
    pipes = [os.pipe() for _ in range(10)]
    for read_end, write_end in pipes:
        os.write(write_end, b"x")
        loop.add_source(read_end, lambda: None)
    for _ in range(20):
        loop.turn()
    for read_end, write_end in pipes:
        loop.remove_source(read_end)
        os.close(read_end)
        os.close(write_end)
    assert looks_of_a_wait() == 1, "the last ones found much"


def test_what_came_up_while_flushing_does_not_wait_for_the_sleep_to_end(reactor: Reactor) -> None:
    worker = reactor.worker()
    client = reactor.open_client()
    worker.finish(*worker.take())
    worker.writer.add_text(PUSH, client.connection.fd, b"x" * 1000)
    worker.send()
    client.socket.shutdown(socket.SHUT_RD)  # only the flush will notice
    reactor.loop.turn()
    assert client.connection.close_code == 1006
    assert not worker.has_batch()
    assert not reactor.sleeps()
    assert worker.has_batch()
    assert [event.kind for event in worker.take()] == [CLOSE]


def test_a_batch_that_arrives_while_another_is_sent_is_taken_without_a_sleep(reactor: Reactor) -> None:
    worker = reactor.worker()
    client = reactor.open_client()
    events = worker.take()
    client.socket.send(client_frame(1, b"a"))
    worker.writer.add_integer(ACK, events[0].sequence, 1)
    worker.send()
    reactor.loop.turn()
    reactor.loop.turn()
    assert [event.body for event in worker.take()] == ["a"]
    assert worker.link.window.events == 1


def test_listening_to_a_closed_connection_is_nothing(reactor: Reactor) -> None:
    connection = reactor.bare_connection()
    reactor.loop.listen(connection, IN)
    reactor.loop.flush_later(connection)
    reactor.turn()
    assert connection.interest == 0


def test_a_link_that_is_removed_is_not_listened_to(reactor: Reactor) -> None:
    worker = reactor.worker()
    reactor.turn()
    worker.writer.add(ACK, 0)
    worker.send()
    reactor.loop.remove_link(worker.link)
    reactor.loop.remove_link(worker.link)
    reactor.turn()
    assert worker.link.batches == 0


def test_run_turns_until_it_is_stopped(reactor: Reactor) -> None:
    turns: list[int] = []

    def turned() -> None:
        turns.append(1)
        if len(turns) == 5:
            reactor.loop.stop()

    reactor.loop.before_sleep(turned)
    reactor.loop.run()
    assert len(turns) == 5
