"""Limits on what one client may send: rates, control frames, and memory for incomplete messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.client_frames import client_frame
from tests.reactor.closing_parts import close_frame, told
from tests.reactor.reactor_parts import Client, Reactor
from zwoole.reactor.core.connection_stages import STAGE_CLOSING, STAGE_ENDING, STAGE_LINGERING, STAGE_OPEN
from zwoole.reactor.core.deadlines import TICK_S
from zwoole.reactor.core.loop import IN
from zwoole.shared.wire.events import MESSAGE

MIB = 1 << 20
TICK = TICK_S + 0.01


class Limited:
    """A reactor with some limits, a worker that finishes everything at once, and a client."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.worker = reactor.worker()
        self.client = reactor.open_client()
        self.work()

    def work(self) -> list[Any]:
        """Return the bodies of the messages that the worker has received since the last call."""
        bodies = []
        while events := self.worker.take():
            self.worker.finish(*events)
            bodies += [event.body for event in events if event.kind == MESSAGE]
        return bodies

    def messages_within(self, seconds: float) -> int:
        """Advance time; return how many messages came down meanwhile."""
        count = len(self.work())
        end = self.reactor.time.now + seconds
        while self.reactor.time.now < end:
            self.reactor.pass_time(min(TICK_S, end - self.reactor.time.now))
            count += len(self.work())
        return count


def limited(**settings: Any) -> Reactor:
    return Reactor(**{"ping_interval": 0, "close_timeout": 30.0, **settings})


# Messages per second.


def test_a_second_of_messages_goes_through_at_once_and_the_rest_at_the_rate() -> None:
    with limited(rate_limit_messages=10) as reactor:
        it = Limited(reactor)
        it.client.send(client_frame(1, b"a") * 100)
        assert it.messages_within(0) == 10
        assert not it.client.connection.interest & IN
        assert it.messages_within(3.0 + TICK) in (30, 31)
        assert it.messages_within(5.0) in (49, 50, 51)
        assert it.messages_within(1.0 + TICK) >= 8
        assert len([event for event in it.worker.received if event.kind == MESSAGE]) == 100
        assert it.client.connection.interest & IN
        assert it.client.connection.stage == STAGE_OPEN
        assert reactor.limits.pauses > 1
        assert reactor.limits.enforced == {}


def test_a_client_at_its_rate_is_never_paused() -> None:
    with limited(rate_limit_messages=10) as reactor:
        it = Limited(reactor)
        for _ in range(50):
            it.client.send_message(b"a")
            assert it.messages_within(0.1 + 1e-9) == 1
        assert reactor.limits.pauses == 0


def test_a_bucket_holds_no_more_than_a_second() -> None:
    with limited(rate_limit_messages=10) as reactor:
        it = Limited(reactor)
        reactor.pass_time(100)
        it.client.send(client_frame(1, b"a") * 100)
        assert it.messages_within(0) == 10


@pytest.mark.parametrize("rate", [1, 3, 7, 10, 49, 100, 1000, 4096])
def test_over_the_rate_a_client_is_closed_where_the_policy_says_so(rate: int) -> None:
    with limited(rate_limit_messages=rate, rate_limit_policy="close", connection_window_events=8192) as reactor:
        it = Limited(reactor)
        it.client.send(client_frame(1, b"a") * rate)
        assert it.messages_within(0) == rate
        assert it.client.connection.stage == STAGE_OPEN
        it.client.send(client_frame(1, b"one too many") + client_frame(1, b"never looked at"))
        assert it.work() == []
        assert it.client.read() == close_frame(1008, "too many messages a second")
        assert told(it.worker) == [1008, "too many messages a second", "server"]
        assert reactor.limits.enforced == {"rate_limit_messages": 1}


def test_what_was_accepted_before_the_limit_is_finished() -> None:
    with limited(rate_limit_messages=2, rate_limit_policy="close") as reactor:
        worker = reactor.worker()
        client = reactor.open_client()
        worker.finish(*worker.take())
        client.send(client_frame(1, b"a") * 3)
        events = worker.take()
        assert [event.body for event in events] == ["a", "a"]
        assert client.connection.stage == STAGE_ENDING
        worker.finish(*events)
        assert client.connection.stage == STAGE_LINGERING
        assert told(worker)[0] == 1008


def test_off_nothing_is_counted() -> None:
    with limited() as reactor:
        it = Limited(reactor)
        it.client.send(client_frame(1, b"a") * 5000)
        assert it.messages_within(0) == 5000
        assert it.client.connection.message_bucket == it.client.connection.byte_bucket == 0
        assert reactor.limits.resumes is None


# Bytes per second.


def test_bytes_over_the_rate_stay_with_the_client_until_there_is_room() -> None:
    with limited(rate_limit_bytes=100_000) as reactor:
        it = Limited(reactor)
        frame = client_frame(2, bytes(10_000))
        sent, received = 0, 0
        for _ in range(100):  # 5 s
            try:
                while True:
                    sent += it.client.socket.send(frame[sent % len(frame) :])
            except BlockingIOError:
                pass
            received += it.messages_within(TICK_S)
        assert it.client.connection.stage == STAGE_OPEN
        assert 500_000 < received * len(frame) <= 600_000 + 65536
        assert reactor.limits.pauses > 3


def test_over_the_rate_of_bytes_a_client_is_closed_where_the_policy_says_so() -> None:
    with limited(rate_limit_bytes=100_000, rate_limit_policy="close") as reactor:
        it = Limited(reactor)
        for size in (60_000, 39_900):
            it.client.send(client_frame(2, bytes(size)))
            assert it.messages_within(0) == 1
        it.client.send(client_frame(2, b"x" * 100))
        assert it.work() == []
        assert it.client.read() == close_frame(1008, "too many bytes a second")
        assert reactor.limits.enforced == {"rate_limit_bytes": 1}


def test_bytes_of_a_message_that_is_not_whole_count_too_and_its_memory_is_freed() -> None:
    with limited(rate_limit_bytes=100_000, rate_limit_policy="close") as reactor:
        it = Limited(reactor)
        it.client.send(client_frame(2, bytes(60_000), fin=False))
        assert reactor.limits.partial_bytes == 60_000
        it.client.send(client_frame(0, bytes(60_000), fin=False))
        assert it.client.connection.close_code == 1008
        assert reactor.limits.partial_bytes == 0


def test_what_comes_while_a_connection_closes_is_not_counted() -> None:
    with limited(rate_limit_bytes=10_000, rate_limit_messages=1, rate_limit_policy="close") as reactor:
        it = Limited(reactor)
        reactor.closing.server_close(it.client.connection, 1000, "")
        for _ in range(5):
            it.client.send(client_frame(2, bytes(9_000)))
        assert it.client.connection.stage == STAGE_CLOSING
        it.client.send_close(1000)
        assert told(it.worker)[0] == 1000
        assert reactor.limits.enforced == {}


# While a client is paused.


def test_a_pause_outlasts_the_room_that_its_worker_makes() -> None:
    with limited(rate_limit_messages=2, connection_window_events=1, parked_messages=1) as reactor:
        worker = reactor.worker()
        client = reactor.open_client()
        worker.finish(*worker.take())
        client.send(client_frame(1, b"a") * 3)
        assert client.connection.parked is not None
        while events := worker.take():
            worker.finish(*events)
        assert client.connection.parked is None
        assert client.connection.throttled
        assert not client.connection.interest & IN
        reactor.pass_time(0.5 + TICK)
        assert not client.connection.throttled
        assert [event.body for event in worker.take()] == ["a"]


def test_the_end_of_a_pause_does_not_overrule_backpressure_nor_a_stopping_server() -> None:
    with limited(rate_limit_messages=2, connection_window_events=1, parked_messages=1) as reactor:
        worker = reactor.worker()
        client = reactor.open_client()
        worker.finish(*worker.take())
        client.send(client_frame(1, b"a") * 5)
        reactor.pass_time(5)
        assert not client.connection.throttled
        assert not client.connection.interest & IN
        reactor.router.reading_stopped = True
        while events := worker.take():
            worker.finish(*events)
        assert not client.connection.interest & IN


@pytest.mark.parametrize("how", ["leave", "server"])
def test_a_client_that_ends_while_it_is_paused_leaves_nothing_behind(how: str) -> None:
    with limited(rate_limit_messages=1, close_timeout=3.0) as reactor:
        it = Limited(reactor)
        it.client.send(client_frame(1, b"a") * 2)
        assert it.client.connection.throttled
        if how == "server":
            reactor.closing.server_close(it.client.connection, 1000, "")
            assert it.client.connection.stage == STAGE_CLOSING
            it.client.send_close(1000)
        it.client.leave()
        reactor.pass_time(10)
        it.work()
        assert len(reactor.registry) == 0
        assert reactor.limits.resumes is not None
        assert len(reactor.limits.resumes) == 0
        assert told(it.worker)[0] == (1000 if how == "server" else 1006)


def test_pings_are_not_due_while_a_client_is_paused() -> None:
    with limited(rate_limit_bytes=1000, ping_interval=2.0, ping_timeout=1.0) as reactor:
        it = Limited(reactor)
        it.client.send(client_frame(2, bytes(50_000)))
        reactor.pass_time(45)
        assert it.client.connection.throttled
        assert it.client.connection.stage == STAGE_OPEN
        assert it.client.read() == b""


# Control frames.


@pytest.mark.parametrize("opcode", [9, 10])
def test_more_pings_or_pongs_than_a_second_allows_end_with_1008(opcode: int) -> None:
    with limited(control_frames_per_second=20) as reactor:
        it = Limited(reactor)
        it.client.send(client_frame(opcode, b"p") * 20)
        assert it.client.read() == (b"\x8a\x01p" * 20 if opcode == 9 else b"")
        for _ in range(100):
            reactor.pass_time(0.05 + 1e-9)
            it.client.send(client_frame(opcode, b"p"))
        assert it.client.connection.stage == STAGE_OPEN
        it.client.read()
        it.client.send(client_frame(opcode, b"p") * 2 + client_frame(1, b"never looked at"))
        assert it.client.connection.close_code == 1008
        assert it.client.read().endswith(close_frame(1008, "too many pings and pongs a second"))
        assert it.work() == []
        assert reactor.limits.enforced == {"control_frames_per_second": 1}


def test_control_frames_may_be_without_a_limit() -> None:
    with limited(control_frames_per_second=0) as reactor:
        it = Limited(reactor)
        it.client.send(client_frame(9) * 5000)
        assert it.client.connection.stage == STAGE_OPEN
        assert it.client.read() == b"\x8a\x00" * 5000


def test_a_flood_at_a_connection_that_is_closing_is_read_and_forgotten() -> None:
    with limited(control_frames_per_second=10) as reactor:
        it = Limited(reactor)
        reactor.closing.server_close(it.client.connection, 1000, "")
        it.client.send(client_frame(9) * 1000)
        assert it.client.connection.stage == STAGE_CLOSING
        assert it.client.read() == close_frame(1000)
        assert reactor.limits.enforced == {}


# Memory for incomplete messages.


@pytest.fixture
def holding() -> Iterator[Reactor]:
    with limited(partial_total_bytes=MIB, package_max_length=MIB) as reactor:
        reactor.worker()
        yield reactor


def finish(reactor: Reactor) -> None:
    """Make the worker finish what it was sent."""
    while events := reactor.workers[0].take():
        reactor.workers[0].finish(*events)


def hold(client: Client, size: int, opcode: int = 2) -> None:
    """Send that many bytes of an incomplete message."""
    piece = 50_000
    for sent in range(0, size, piece):
        client.send(client_frame(0 if sent else opcode, bytes(min(piece, size - sent)), fin=False))


def test_the_account_follows_what_each_message_holds(holding: Reactor) -> None:
    first, second = holding.open_client(), holding.open_client()
    hold(first, 300_000)
    hold(second, 200_000)
    assert holding.limits.partial_bytes == 500_000
    hold(first, 100_000, opcode=0)
    assert holding.limits.partial_bytes == 600_000
    first.send(client_frame(0, b"", fin=True))
    assert holding.limits.partial_bytes == 200_000
    second.send(client_frame(0, b"the end") + client_frame(2, bytes(70), fin=False))
    assert holding.limits.partial_bytes == 70


@pytest.mark.parametrize("end", ["leave", "close", "violation", "server", "server, then nothing", "too much"])
def test_the_account_forgets_connections_that_end(holding: Reactor, end: str) -> None:
    client, other = holding.open_client(), holding.open_client()
    hold(client, 100_000)
    hold(other, 7)
    if end == "leave":
        client.leave()
    elif end == "close":
        client.send_close(1000)
    elif end == "violation":
        client.send(client_frame(3))
    elif end == "too much":
        client.send(client_frame(0, length=MIB))
    else:
        holding.closing.server_close(client.connection, 1000, "")
        client.send_close(1000) if end == "server" else holding.pass_time(31)
    assert holding.limits.partial_bytes == 7


def test_over_the_total_the_one_that_grows_is_closed_with_1013_and_the_others_go_on(holding: Reactor) -> None:
    clients = [holding.open_client() for _ in range(4)]
    for client in clients[:3]:
        hold(client, 300_000)
    hold(clients[3], 100_000)
    assert [client.connection.stage for client in clients] == [STAGE_OPEN] * 4
    hold(clients[3], 50_000, opcode=0)
    assert [client.connection.stage for client in clients[:3]] == [STAGE_OPEN] * 3
    finish(holding)
    assert clients[3].read() == close_frame(1013, "the server has no memory for your message now")
    assert holding.limits.partial_bytes == 900_000
    assert holding.limits.enforced == {"partial_total_bytes": 1}
    clients[0].send(client_frame(0, b"the end"))
    hold(clients[1], 300_000, opcode=0)
    assert clients[1].connection.stage == STAGE_OPEN


def test_a_message_that_arrives_in_one_piece_is_not_held(holding: Reactor) -> None:
    clients = [holding.open_client() for _ in range(3)]
    hold(clients[0], 600_000)
    hold(clients[1], 400_000)
    clients[2].send(client_frame(2, bytes(60_000)))
    assert clients[2].connection.stage == STAGE_OPEN
    assert holding.limits.partial_bytes == 1_000_000
