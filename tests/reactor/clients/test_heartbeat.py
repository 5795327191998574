"""Pings, and clients that do not answer them or send nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.client_frames import client_frame
from tests.reactor.closing_parts import close_frame, told
from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.clients.heartbeat import PING_FRAME
from zwoole.reactor.core.connection_stages import STAGE_ENDING, STAGE_LINGERING, STAGE_OPEN
from zwoole.reactor.core.deadlines import TICK_S
from zwoole.shared.websocket.frames import OP_PING, OP_PONG, build_frame

INTERVAL = 10.0
TIMEOUT = 4.0
IDLE = 15.0
PONG = client_frame(OP_PONG)
TIMED_OUT = [1011, "keepalive ping timeout", "server"]
LATE = 2 * TICK_S + 0.01


class Beating:
    """A reactor with a worker and a client that has just been pinged."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.worker = reactor.worker()
        self.client = opened(reactor, self.worker)
        wait_for_ping(reactor, self.client)

    @property
    def stage(self) -> int:
        return self.client.connection.stage


def opened(reactor: Reactor, worker: Worker) -> Client:
    client = reactor.open_client()
    worker.finish(*worker.take())
    return client


def wait_for_ping(reactor: Reactor, client: Client) -> float:
    """Advance time until a ping arrives; return by how much."""
    before = reactor.time.now
    while not (received := client.read()):
        reactor.pass_time(TICK_S)
        assert reactor.time.now - before <= INTERVAL + LATE, "no ping"
    assert received == PING_FRAME == build_frame(OP_PING, b"")
    return reactor.time.now - before


def beating(**settings: Any) -> Reactor:
    return Reactor(**{"ping_interval": INTERVAL, "ping_timeout": TIMEOUT, "close_timeout": 30.0, **settings})


@pytest.fixture
def beat() -> Iterator[Beating]:
    with beating() as reactor:
        yield Beating(reactor)


# Pings.


def test_the_first_ping_comes_after_half_an_interval_at_the_earliest_and_the_next_an_interval_later() -> None:
    with beating() as reactor:
        client = opened(reactor, reactor.worker())
        assert INTERVAL / 2 <= wait_for_ping(reactor, client) <= INTERVAL + LATE
        for _ in range(3):
            client.send(PONG)
            assert INTERVAL - LATE <= wait_for_ping(reactor, client) <= INTERVAL + LATE


def test_clients_that_came_together_are_not_pinged_together() -> None:
    with beating() as reactor:
        reactor.worker()
        clients = [reactor.open_client() for _ in range(100)]
        pinged_at: dict[int, float] = {}
        for _ in range(int(INTERVAL / TICK_S) + 2):
            reactor.pass_time(TICK_S)
            for client in clients:
                if client.connection.fd not in pinged_at and client.read():
                    pinged_at[client.connection.fd] = reactor.time.now
                    client.send(PONG)
        assert len(pinged_at) == 100
        times = list(pinged_at.values())
        assert max(times.count(time) for time in times) < 20
        assert max(times) - min(times) > INTERVAL / 4


def test_a_client_that_answers_is_kept_however_long(beat: Beating) -> None:
    for _ in range(10):
        beat.client.send(PONG)
        wait_for_ping(beat.reactor, beat.client)
    assert beat.stage == STAGE_OPEN
    assert beat.reactor.heartbeat.pings == 11


@pytest.mark.parametrize("sent", [client_frame(1, b"a message"), client_frame(1, b"half")[:3], client_frame(9, b"p")])
def test_whatever_a_client_sends_is_an_answer(beat: Beating, sent: bytes) -> None:
    beat.reactor.pass_time(TIMEOUT - LATE)
    beat.client.send(sent)
    beat.reactor.pass_time(INTERVAL - TIMEOUT - LATE)
    assert beat.stage == STAGE_OPEN
    assert beat.reactor.limits.enforced == {}


def test_a_client_that_does_not_answer_is_closed_with_1011_in_time(beat: Beating) -> None:
    beat.reactor.pass_time(TIMEOUT - LATE)
    assert beat.stage == STAGE_OPEN
    beat.reactor.pass_time(2 * LATE)
    assert beat.stage == STAGE_LINGERING
    assert beat.client.read() == close_frame(1011, "keepalive ping timeout")
    assert beat.client.at_end()
    assert told(beat.worker) == TIMED_OUT
    assert beat.reactor.limits.enforced == {"ping_timeout": 1}
    assert beat.reactor.closing.closed == {1011: 1}


def test_what_a_dead_client_had_sent_is_finished_before_its_end_is_told() -> None:
    with beating() as reactor:
        beat = Beating(reactor)
        beat.client.send_message(b"the last")
        events = beat.worker.take()
        wait_for_ping(reactor, beat.client)
        reactor.pass_time(TIMEOUT + LATE)
        assert beat.stage == STAGE_ENDING
        beat.worker.finish(*events)
        assert told(beat.worker) == TIMED_OUT


def test_a_timeout_longer_than_the_interval_counts_from_the_first_ping_that_was_not_answered() -> None:
    with beating(ping_timeout=3.5 * INTERVAL) as reactor:
        beat = Beating(reactor)
        reactor.pass_time(3.5 * INTERVAL - LATE)
        assert beat.stage == STAGE_OPEN
        assert beat.client.read() == b"", "no further ping while one waits for its answer"
        reactor.pass_time(2 * LATE)
        assert beat.stage == STAGE_LINGERING


def test_a_timeout_longer_than_the_interval_does_not_make_pings_rarer() -> None:
    with beating(ping_timeout=3.5 * INTERVAL) as reactor:
        beat = Beating(reactor)
        for _ in range(5):
            beat.client.send(PONG)
            assert INTERVAL - LATE <= wait_for_ping(reactor, beat.client) <= INTERVAL + LATE


@pytest.mark.parametrize("tiny", [1e-12, 0.001])
def test_the_shortest_times_there_may_be_cost_a_look_in_each_tick(tiny: float) -> None:
    with beating(ping_interval=tiny, ping_timeout=INTERVAL) as reactor:
        client = opened(reactor, reactor.worker())
        for _ in range(20):
            reactor.pass_time(TICK_S + 0.001)
            assert client.read() == PING_FRAME
            client.send(PONG)
        assert client.connection.stage == STAGE_OPEN


def test_without_a_timeout_pings_go_on_and_nobody_is_closed() -> None:
    with beating(ping_timeout=0) as reactor:
        beat = Beating(reactor)
        for _ in range(5):
            assert wait_for_ping(reactor, beat.client) >= INTERVAL - LATE
        assert beat.stage == STAGE_OPEN


def test_without_an_interval_there_are_no_pings_and_the_loop_has_no_timer_for_them() -> None:
    with beating(ping_interval=0) as reactor:
        client = opened(reactor, reactor.worker())
        reactor.pass_time(100)
        assert client.read() == b""
        assert client.connection.stage == STAGE_OPEN
        assert reactor.sleeps()


@pytest.mark.parametrize("leave", [True, False])
def test_a_connection_that_ends_leaves_nothing_behind(beat: Beating, leave: bool) -> None:
    assert len(beat.reactor.heartbeat._looks) == 1
    if leave:
        beat.client.leave()
    else:
        beat.client.send_close(1000)
        beat.reactor.pass_time(INTERVAL + LATE)
    assert len(beat.reactor.heartbeat._looks) == 0
    beat.reactor.pass_time(TIMEOUT + INTERVAL)
    assert beat.reactor.limits.enforced == {}


# Silent clients.


def test_a_client_that_sends_nothing_for_so_long_is_closed_with_1001() -> None:
    with beating(ping_interval=0, heartbeat_idle_time=IDLE) as reactor:
        worker = reactor.worker()
        client = opened(reactor, worker)
        for _ in range(3):
            reactor.pass_time(IDLE - LATE)
            assert client.connection.stage == STAGE_OPEN
            client.send(PONG)
        reactor.pass_time(IDLE - LATE)
        assert client.connection.stage == STAGE_OPEN
        reactor.pass_time(2 * LATE)
        assert client.read() == close_frame(1001, "the client has sent nothing for too long")
        assert told(worker) == [1001, "the client has sent nothing for too long", "server"]
        assert reactor.limits.enforced == {"heartbeat_idle_time": 1}


def test_an_idle_time_shorter_than_the_interval_is_kept_to() -> None:
    with beating(heartbeat_idle_time=2.0) as reactor:
        client = opened(reactor, reactor.worker())
        reactor.pass_time(2.0 - LATE)
        assert client.connection.stage == STAGE_OPEN
        reactor.pass_time(2 * LATE)
        assert client.connection.stage == STAGE_LINGERING


# Pauses of the server itself.


def test_a_pause_of_the_process_closes_nobody() -> None:
    with beating(heartbeat_idle_time=IDLE) as reactor:
        beat = Beating(reactor)
        silent = opened(reactor, beat.worker)
        reactor.time.now += 3600
        reactor.turn()
        assert beat.stage == silent.connection.stage == STAGE_OPEN
        beat.client.send(PONG)
        reactor.pass_time(TIMEOUT + LATE)
        assert beat.stage == STAGE_OPEN
        assert reactor.limits.enforced == {}


def test_an_answer_that_lies_unread_is_read_before_its_client_is_judged(beat: Beating) -> None:
    """As when a turn takes so long that the time is up, and epoll has more ready clients than fit into one turn."""
    connection = beat.client.connection
    beat.reactor.registry.by_descriptor.pop(connection.descriptor)  # epoll's event reaches no connection
    beat.client.socket.send(PONG)
    beat.reactor.pass_time(TIMEOUT + LATE)
    assert beat.stage == STAGE_OPEN
    assert connection.heard == pytest.approx(beat.reactor.time.now, abs=LATE + 0.5)
    beat.reactor.registry.by_descriptor[connection.descriptor] = connection


def test_a_client_that_left_while_its_end_lay_unread_left_by_itself(beat: Beating) -> None:
    connection = beat.client.connection
    beat.reactor.registry.by_descriptor.pop(connection.descriptor)
    beat.client.socket.close()
    beat.reactor.pass_time(TIMEOUT + LATE)
    assert connection.close_code == 1006
    assert beat.reactor.limits.enforced == {}


# Backpressure.


def test_while_a_client_is_not_read_nothing_runs_and_when_it_is_all_begins_anew() -> None:
    with beating(heartbeat_idle_time=IDLE, connection_window_events=1, parked_messages=1) as reactor:
        beat = Beating(reactor)
        beat.client.send(client_frame(1, b"a") * 2)
        assert not beat.client.connection.interest & 1
        reactor.pass_time(100)
        assert beat.stage == STAGE_OPEN
        assert beat.client.read() == b""
        beat.worker.finish(*beat.worker.take())
        assert beat.client.connection.interest & 1
        resumed = reactor.time.now
        while beat.stage == STAGE_OPEN:
            reactor.pass_time(TICK_S)
        assert reactor.limits.enforced == {"ping_timeout": 1}
        assert TIMEOUT <= reactor.time.now - resumed <= INTERVAL + TIMEOUT + LATE


def fill_the_kernel(beat: Beating) -> None:
    """Queue more output for the client than the kernel accepts."""
    beat.client.connection.output.queue(bytes(1 << 20))
    beat.reactor.loop.flush_later(beat.client.connection)
    beat.reactor.turn()
    assert beat.client.connection.output.queued > 0


def test_no_ping_is_put_behind_what_waits_and_who_takes_nothing_is_closed() -> None:
    with beating(ping_timeout=INTERVAL) as reactor:
        beat = Beating(reactor)
        beat.client.send(PONG)
        fill_the_kernel(beat)
        queued = beat.client.connection.output.queued
        ends = reactor.time.now + 2 * INTERVAL + LATE
        while beat.stage == STAGE_OPEN:
            assert beat.client.connection.output.queued == queued
            reactor.pass_time(TICK_S)
            assert reactor.time.now < ends
        assert reactor.limits.enforced == {"ping_timeout": 1}


def test_who_takes_what_waits_for_it_is_alive_though_it_sends_nothing() -> None:
    with beating(ping_timeout=INTERVAL / 2) as reactor:
        beat = Beating(reactor)
        beat.client.send(PONG)
        beat.client.connection.output.queue(bytes(20 << 20))
        reactor.loop.flush_later(beat.client.connection)
        reactor.turn()
        for _ in range(12):  # a little in each timeout
            received = 0
            while received < 1 << 20:
                received += len(beat.client.socket.recv(1 << 16))
                reactor.turn()
            reactor.pass_time(INTERVAL / 4)
            assert beat.client.connection.output.queued > 0
        assert beat.stage == STAGE_OPEN
        assert reactor.limits.enforced == {}
