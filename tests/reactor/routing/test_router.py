"""The way down: windows, parking, connections that wait for room, and the order of each connection."""

from __future__ import annotations

from collections.abc import Iterator

import msgpack
import pytest

from tests.client_frames import client_frame
from tests.reactor.reactor_parts import Event, Reactor, Worker
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.loop import IN
from zwoole.reactor.core.window import FOR_COMMANDS
from zwoole.reactor.routing.parking import MESSAGE_COST, QUEUE_COST
from zwoole.reactor.routing.router import STALE
from zwoole.shared.memory.progress_map import RING
from zwoole.shared.wire.batches import WireError
from zwoole.shared.wire.events import CLOSE, DRAIN, MESSAGE, OPEN

SETTINGS = {
    "window_events": 6,
    "window_bytes": 8192,  # counted twice
    "connection_window_events": 3,
    "connection_window_bytes": 2048,
    "parked_messages": 4,
    "parked_bytes": 2048,
}


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor(**SETTINGS) as reactor:
        yield reactor


def opened(reactor: Reactor, worker: Worker) -> Connection:
    """Return a connection whose open callback has run."""
    connection = reactor.bare_connection()
    finish(reactor, worker, worker.take())
    return connection


def finish(reactor: Reactor, worker: Worker, events: list[Event]) -> None:
    for event in events:
        reactor.router.finished(worker.link, event.sequence)
    reactor.router.serve(worker.link)


def accept(reactor: Reactor, connection: Connection, *payloads: bytes) -> list[bool]:
    return [reactor.router.accept(connection, 2, payload) for payload in payloads]


def bodies(events: list[Event]) -> list[bytes]:
    return [event.body for event in events]


def numbered(start: int, stop: int) -> list[bytes]:
    return [b"%d" % i for i in range(start, stop)]


def test_open_goes_down_before_the_first_message(reactor: Reactor, worker: Worker) -> None:
    connection = reactor.bare_connection()
    accept(reactor, connection, b"a")
    assert [(event.kind, event.fd) for event in worker.take()] == [(OPEN, connection.fd), (MESSAGE, connection.fd)]
    assert connection.outstanding == 2


def test_a_connection_goes_to_the_slot_with_the_fewest_that_is_ready() -> None:
    with Reactor(worker_num=3) as reactor:
        reactor.worker(1)
        reactor.worker(2)
        chosen = [reactor.bare_connection().worker for _ in range(5)]
        assert [worker.id for worker in chosen if worker is not None] == [1, 2, 1, 2, 1]
        assert [worker.connections for worker in reactor.router.workers] == [0, 3, 2]


def test_a_slot_without_a_ready_link_is_a_window_of_0(reactor: Reactor) -> None:
    connection = reactor.bare_connection()
    accept(reactor, connection, b"a", b"b")
    worker = reactor.worker(ready=False)
    assert worker.take() == []
    worker.link.worker.link = worker.link  # there, but has not said hello
    accept(reactor, connection, b"c")
    assert worker.take() == []
    assert connection.outstanding == 0
    worker.hello()
    assert bodies(worker.take()) == [msgpack.packb([b"request", b""]), b"a", b"b"]


def test_past_the_connections_window_messages_are_parked_and_go_down_in_order_as_credit_returns(
    reactor: Reactor, worker: Worker
) -> None:
    connection = opened(reactor, worker)
    assert accept(reactor, connection, *numbered(0, 6)) == [True] * 6
    first = worker.take()
    assert bodies(first) == numbered(0, 3)
    assert connection.parked_bytes == 3
    assert reactor.router.parking.bytes == 3 + 3 * MESSAGE_COST + QUEUE_COST
    finish(reactor, worker, first[1:2])
    second = worker.take()
    assert bodies(second) == [b"3"]
    accept(reactor, connection, b"6")
    finish(reactor, worker, [first[0], first[2], *second])
    assert bodies(worker.take()) == numbered(4, 7)
    assert connection.parked is None
    assert reactor.router.parking.bytes == 0


def test_a_connections_window_has_bytes_too(reactor: Reactor, worker: Worker) -> None:
    connection = opened(reactor, worker)
    accept(reactor, connection, b"a" * 1500, b"b" * 548, b"c")
    events = worker.take()
    assert bodies(events) == [b"a" * 1500, b"b" * 548]
    finish(reactor, worker, events[1:])
    assert bodies(worker.take()) == [b"c"]


@pytest.mark.parametrize("size", [2049, 4097, 100_000])
def test_one_message_of_any_size_passes_an_empty_window(reactor: Reactor, worker: Worker, size: int) -> None:
    connection = opened(reactor, worker)
    accept(reactor, connection, b"x" * size, b"y")
    events = worker.take()
    assert bodies(events) == [b"x" * size]
    finish(reactor, worker, events)
    assert bodies(worker.take()) == [b"y"]


def test_a_message_larger_than_the_workers_window_waits_until_that_is_empty(reactor: Reactor, worker: Worker) -> None:
    first, second = opened(reactor, worker), opened(reactor, worker)
    accept(reactor, first, b"a")
    accept(reactor, second, b"x" * 5000)
    accept(reactor, first, b"b")
    events = worker.take()
    assert bodies(events) == [b"a"]  # b waits behind x, or x would never be sent
    finish(reactor, worker, events)
    events = worker.take()
    assert bodies(events) == [b"x" * 5000]
    finish(reactor, worker, events)
    assert bodies(worker.take()) == [b"b"]


def test_the_workers_window_holds_for_all_connections_together(reactor: Reactor, worker: Worker) -> None:
    connections = [opened(reactor, worker) for _ in range(3)]
    for connection in connections:
        accept(reactor, connection, b"a", b"b", b"c")
    events = worker.take()
    assert [event.fd for event in events] == [connections[0].fd] * 3 + [connections[1].fd] * 3
    finish(reactor, worker, events[:1])
    assert [(event.fd, event.body) for event in worker.take()] == [(connections[2].fd, b"a")]


def test_the_waiting_line_is_served_one_message_each_in_turn(reactor: Reactor, worker: Worker) -> None:
    hog, *others = [opened(reactor, worker) for _ in range(5)]
    accept(reactor, others[3], b"x", b"x", b"x")
    blockers = worker.take()
    accept(reactor, hog, b"x", b"x", b"x")
    blockers += worker.take()
    accept(reactor, others[0], b"0a", b"0b")
    accept(reactor, others[1], b"1a", b"1b", b"1c")
    accept(reactor, others[2], b"2a")
    assert worker.take() == []
    finish(reactor, worker, blockers)
    assert bodies(worker.take()) == [b"0a", b"1a", b"2a", b"0b", b"1b", b"1c"]


def test_who_comes_later_does_not_overtake_who_waits(reactor: Reactor, worker: Worker) -> None:
    full, waits, late = (opened(reactor, worker) for _ in range(3))
    accept(reactor, full, b"x" * 2048)
    accept(reactor, late, b"x" * 2000)
    events = worker.take()
    accept(reactor, waits, b"w" * 2000)
    accept(reactor, late, b"small")  # would have room
    assert worker.take() == []
    finish(reactor, worker, events)
    assert bodies(worker.take()) == [b"w" * 2000, b"small"]


@pytest.mark.parametrize(
    ("payloads", "reads_on"),
    [
        ([b"a"] * 4, [True, True, True, False]),  # parked_messages
        ([b"a" * 1000, b"a" * 1047, b"a"], [True, True, False]),  # parked_bytes
        ([b"a" * 5000], [False]),  # one message of any size
    ],
)
def test_a_connection_over_its_allowance_is_not_to_be_read(
    reactor: Reactor, payloads: list[bytes], reads_on: list[bool]
) -> None:
    connection = opened(reactor, reactor.worker())
    accept(reactor, connection, *[b"x"] * 3)
    assert connection.parked is None
    assert accept(reactor, connection, *payloads) == reads_on


def test_over_the_total_of_what_is_parked_nobody_who_parks_is_read() -> None:
    with Reactor(parked_bytes=1 << 21, parked_total_bytes=1 << 20) as reactor:
        first, second = reactor.bare_connection(), reactor.bare_connection()
        assert accept(reactor, first, b"x" * 1_000_000, b"x" * 50_000) == [True, False]
        assert accept(reactor, second, b"x") == [False]


def test_empty_messages_count_against_the_total_too() -> None:
    with Reactor(parked_messages=65536, parked_total_bytes=1 << 20) as reactor:
        connections = [reactor.bare_connection() for _ in range(4)]
        parked = 0
        while all(accept(reactor, connection, b"") == [True] for connection in connections):
            parked += 4
        assert (1 << 20) // 2 < parked * MESSAGE_COST <= 1 << 20


def test_what_was_read_behind_a_parked_message_counts_against_the_total() -> None:
    with Reactor(**SETTINGS) as reactor:
        client = reactor.open_client()
        before = reactor.router.parking.bytes
        client.send(client_frame(2, b"x" * 3000) + client_frame(2, b"y" * 1000)[:-1])
        assert client.connection.unread
        assert reactor.router.parking.bytes == before + 3000 + MESSAGE_COST + len(client.connection.unread)
        client.leave()
        reactor.pass_time(4)
        assert reactor.router.parking.bytes == 0


def test_when_no_more_may_be_parked_a_connection_that_would_park_is_not_read_at_all() -> None:
    with Reactor(parked_total_bytes=1 << 20, window_events=2) as reactor:
        worker = reactor.worker()
        client, hog = reactor.open_client(), reactor.open_client()
        opened = worker.take()
        accept(reactor, hog.connection, b"x" * (1 << 19), b"x" * (1 << 19))
        client.send_message(b"a")
        assert not client.connection.interest & IN
        assert client.connection.parked is None
        assert not client.connection.unread
        finish(reactor, worker, opened[:1])
        parked = worker.take()
        assert bodies(parked) == [b"x" * (1 << 19)]
        finish(reactor, worker, [*opened[1:], *parked])
        reactor.turn()
        assert client.connection.interest & IN
        assert "a" in bodies(worker.take())


def test_a_connection_whose_worker_has_room_is_read_though_others_have_parked_all_they_may() -> None:
    with Reactor(parked_total_bytes=1 << 20, worker_num=2) as reactor:
        client, hog = reactor.open_client(), reactor.open_client()
        worker = reactor.worker(0)
        finish(reactor, worker, worker.take())
        assert hog.connection.worker is not client.connection.worker
        accept(reactor, hog.connection, b"x" * (1 << 20))
        client.send_message(b"a")
        hog.send_message(b"b")
        assert bodies(worker.take()) == ["a"]
        assert not hog.connection.interest & IN


def test_clients_that_come_and_go_leave_nothing_behind_at_a_worker_that_does_not_answer(
    reactor: Reactor, worker: Worker
) -> None:
    chosen = worker.link.worker
    waiting = 0
    for _ in range(3 * STALE):
        connection = reactor.bare_connection()
        accept(reactor, connection, b"a")
        reactor.closing.force(connection)
        waiting = max(waiting, len(chosen.adoptions) + len(chosen.pending_closes) + len(worker.link.waiting))
    assert waiting <= STALE + 20


def test_a_connection_is_read_on_when_its_parked_messages_have_gone_down(reactor: Reactor, worker: Worker) -> None:
    client = reactor.open_client()
    finish(reactor, worker, worker.take())
    for payload in numbered(0, 7):
        client.send_message(payload)
    assert not client.connection.interest & IN
    client.send_message(b"7")
    assert client.connection.parked is not None
    assert len(client.connection.parked) == 4
    events = worker.take()
    finish(reactor, worker, events)
    assert client.connection.interest & IN
    reactor.turn()
    assert [event.body for event in worker.take()] == ["3", "4", "5"]
    assert len(client.connection.parked) == 2


def test_what_was_read_behind_the_last_parked_message_is_looked_at_when_reading_goes_on(
    reactor: Reactor, worker: Worker
) -> None:
    client = reactor.open_client()
    finish(reactor, worker, worker.take())
    client.send(b"".join(client_frame(2, payload) for payload in numbered(0, 30)))
    assert client.connection.unread
    received: list[bytes] = []
    while events := worker.take():
        assert len(events) <= 3
        received += bodies(events)
        finish(reactor, worker, events)
        reactor.turn()
    assert received == numbered(0, 30)
    assert not client.connection.unread


def test_a_stopping_server_does_not_read_on(reactor: Reactor, worker: Worker) -> None:
    client = reactor.open_client()
    finish(reactor, worker, worker.take())
    for payload in numbered(0, 7):
        client.send_message(payload)
    reactor.router.reading_stopped = True
    while events := worker.take():
        finish(reactor, worker, events)
    assert not client.connection.interest & IN


def test_close_is_never_held_back_by_the_window(reactor: Reactor, worker: Worker) -> None:
    first, second = opened(reactor, worker), opened(reactor, worker)
    accept(reactor, first, b"a", b"b", b"c")
    accept(reactor, second, b"a", b"b", b"c", b"parked")
    reactor.router.close(second)
    events = worker.take()
    assert [event.kind for event in events] == [MESSAGE] * 6 + [CLOSE]
    assert reactor.router.parking.bytes == 0
    assert worker.link.window.events == 6
    finish(reactor, worker, events)
    assert worker.take() == []


def test_a_close_without_a_link_waits_for_one(reactor: Reactor) -> None:
    first_worker = reactor.worker()
    connections = [opened(reactor, first_worker) for _ in range(3)]
    chosen = first_worker.link.worker
    first_worker.die()
    for connection in connections:
        connection.close_code = 1000 + connection.fd
        reactor.router.close(connection)
    assert chosen.connections == 0
    second = reactor.worker()
    events = second.take()
    assert [(event.kind, event.fd, second.end_of(event)[0]) for event in events] == [
        (CLOSE, connection.fd, 1000 + connection.fd) for connection in connections
    ]


def test_a_close_that_finds_the_ring_full_waits_for_a_place_and_keeps_its_order(
    reactor: Reactor, worker: Worker
) -> None:
    connections = [opened(reactor, worker) for _ in range(3)]
    used = worker.link.window.next_sequence
    for _ in range(RING - FOR_COMMANDS):
        worker.link.send_command(DRAIN, 0, b"")
    reactor.loop.touch(worker.link)
    for connection in connections:
        reactor.router.close(connection)
    assert [event.kind for event in worker.take()] == [DRAIN] * (RING - FOR_COMMANDS)
    reactor.router.finished(worker.link, used)
    reactor.router.serve(worker.link)
    assert [event.fd for event in worker.take()] == [connections[0].fd]
    reactor.router.finished(worker.link, used + 1)
    reactor.router.finished(worker.link, used + 2)
    reactor.router.serve(worker.link)
    assert [event.fd for event in worker.take()] == [connection.fd for connection in connections[1:]]


def test_a_worker_that_was_never_told_of_an_open_is_not_told_of_the_close(reactor: Reactor) -> None:
    connection = reactor.bare_connection()
    accept(reactor, connection, b"a")
    chosen = connection.worker
    assert chosen is not None
    reactor.router.close(connection)
    assert chosen.connections == 0
    worker = reactor.worker()
    assert worker.take() == []
    assert not worker.link.waiting
    assert not chosen.adoptions


def test_a_closed_connection_leaves_the_waiting_line(reactor: Reactor) -> None:
    first, second = reactor.bare_connection(), reactor.bare_connection()
    reactor.router.discard_parked(first)
    worker = reactor.worker()
    assert [event.fd for event in worker.take()] == [second.fd]
    assert not first.waiting


def test_a_parked_message_that_its_connection_has_no_room_for_holds_up_nobody(reactor: Reactor, worker: Worker) -> None:
    busy, other = opened(reactor, worker), opened(reactor, worker)
    accept(reactor, busy, b"x", b"x" * 2048, b"y")
    assert not busy.waiting
    accept(reactor, other, b"z")
    assert bodies(worker.take()) == [b"x", b"z"]


def test_others_go_on_when_the_first_of_the_line_has_gone(reactor: Reactor, worker: Worker) -> None:
    full, large, small = (opened(reactor, worker) for _ in range(3))
    accept(reactor, full, b"x" * 2000)
    accept(reactor, large, b"x" * 3000)
    accept(reactor, small, b"s")
    assert bodies(worker.take()) == [b"x" * 2000]
    reactor.router.close(large)
    assert [(event.fd, event.kind) for event in worker.take()] == [(large.fd, CLOSE), (small.fd, MESSAGE)]


def test_an_acknowledgement_of_nothing_is_an_error(reactor: Reactor, worker: Worker) -> None:
    opened(reactor, worker)
    for sequence in (0, 1, 1000):
        with pytest.raises(WireError):
            reactor.router.finished(worker.link, sequence)


def test_a_message_that_takes_long_holds_up_none_of_those_of_other_connections(
    reactor: Reactor, worker: Worker
) -> None:
    slow, quick = opened(reactor, worker), opened(reactor, worker)
    accept(reactor, slow, b"long")
    (long,) = worker.take()
    for number in range(RING + 100):
        assert accept(reactor, quick, b"%d" % number, b"next") == [True, True]
        events = worker.take()
        assert bodies(events) == [b"%d" % number, b"next"]
        assert long.sequence % RING not in [event.sequence % RING for event in events]
        finish(reactor, worker, events)
    assert slow.outstanding == 1
    finish(reactor, worker, [long])
    assert slow.outstanding == worker.link.window.places == 0
