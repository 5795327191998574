"""Queued output: its accounting, its limits, and the events about its marks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.core.connection_stages import STAGE_GONE
from zwoole.reactor.core.window import FOR_COMMANDS
from zwoole.shared.memory.progress_map import RING
from zwoole.shared.websocket.frames import build_frame
from zwoole.shared.wire.events import ADOPT, BROADCAST, BUFFER_EMPTY, BUFFER_FULL, DRAIN, PUSH

MIB = 1 << 20
HEADER = 10  # bytes of a frame's header, from 64 KiB on
KERNEL = 1 << 19  # more than a socket pair's buffers hold


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor(socket_buffer_size=4 * MIB, output_total_bytes=8 * MIB) as reactor:
        yield reactor


def opened(reactor: Reactor, worker: Worker, handler: bool = False) -> Client:
    client = reactor.open_client()
    client.connection.handler = handler
    worker.finish(*worker.take())
    return client


def push(reactor: Reactor, worker: Worker, client: Client, size: int, times: int = 1) -> None:
    for _ in range(times):
        worker.writer.add_bytes(PUSH, client.connection.fd, b"x" * size)
    worker.send()
    reactor.turn()
    while worker.link.unfinished is not None:
        reactor.turn(1)


def marks(worker: Worker) -> list[tuple[int, int]]:
    """Return the full and empty buffer events that the worker was sent since the last call."""
    found = [event for event in worker.take() if event.kind in (BUFFER_FULL, BUFFER_EMPTY)]
    assert all(event.body is None for event in found), "these events have no body"
    return [(event.kind, event.fd) for event in found]


# The total.


@pytest.mark.parametrize("size", [100, 20_000, MIB])
def test_the_total_is_the_memory_held_and_falls_to_nothing(reactor: Reactor, worker: Worker, size: int) -> None:
    client = opened(reactor, worker)
    push(reactor, worker, client, size, 2 * MIB // size)
    queued = client.connection.output.queued
    assert queued > MIB
    assert queued <= reactor.output_limits.total <= queued * 1.3 + size
    client.read()
    assert client.connection.output.queued == reactor.output_limits.total == 0


def test_a_chunk_that_a_client_has_begun_to_read_counts_as_a_whole(reactor: Reactor, worker: Worker) -> None:
    client = opened(reactor, worker)
    push(reactor, worker, client, 3 * MIB)
    before = reactor.output_limits.total
    while client.connection.output.queued > MIB:
        client.socket.recv(100_000)
        reactor.turn()
    assert reactor.output_limits.total >= before - 3 * MIB // 8 >= 2 * MIB


@pytest.mark.parametrize("kind", [PUSH, BROADCAST])
def test_at_the_limit_for_all_those_with_the_most_are_cut_off_and_the_rest_is_served(
    reactor: Reactor, worker: Worker, kind: int
) -> None:
    small, *large = [opened(reactor, worker) for _ in range(8)]
    highest = 0
    for client in large:
        push(reactor, worker, client, 100_000, 14)
        highest = max(highest, reactor.output_limits.total)
    assert highest <= 8 * MIB
    gone = [client for client in large if client.connection.stage == STAGE_GONE]
    assert 0 < len(gone) < 7
    assert [client.connection.close_code for client in gone] == [1006] * len(gone)
    assert reactor.output_limits.closed == len(gone)
    worker.writer.add_text(kind, small.connection.fd, b"still there?")
    worker.send()
    reactor.turn()
    assert small.read() == build_frame(1, b"still there?")


def test_one_turn_cannot_pass_the_limit_for_all(reactor: Reactor, worker: Worker) -> None:
    """The broadcasts of one batch come to 50 MiB; checking only at the end of the turn would be too late."""
    clients = [opened(reactor, worker) for _ in range(50)]
    highest = 0
    note = reactor.output_limits.note

    def watch(connection: object) -> None:
        nonlocal highest
        note(connection)  # type: ignore[arg-type]
        highest = max(highest, sum(client.connection.output.queued for client in clients))

    reactor.reconnect(queue_changed=watch)
    for _ in range(1000):
        worker.writer.add_bytes(BROADCAST, 0, b"x" * 1000)
    worker.send()
    reactor.turn()
    while worker.link.unfinished is not None:
        reactor.turn(1)
    assert 4 * MIB < highest <= 8 * MIB + MIB // 8


def test_a_queue_that_has_grown_to_its_noted_memory_is_noted_again(reactor: Reactor, worker: Worker) -> None:
    client = opened(reactor, worker)
    output = client.connection.output
    push(reactor, worker, client, KERNEL)
    noted = output.noted
    push(reactor, worker, client, noted - output.queued - HEADER)
    assert output.queued == noted
    assert reactor.table.queued(client.connection.fd) == output.queued
    assert output.noted > noted


# One client's limit.


def test_tiny_frames_cannot_take_many_times_their_size_where_each_is_kept_apart() -> None:
    with Reactor(socket_buffer_size=MIB, slow_reader="drop_oldest") as reactor:
        worker = reactor.worker()
        client = opened(reactor, worker)
        client.connection.output.framed = True
        push(reactor, worker, client, KERNEL)
        push(reactor, worker, client, 1, 100_000)
        assert client.connection.output.held() <= MIB
        assert reactor.output_limits.dropped > 50_000


# Marks.


def test_full_and_empty_are_told_once_for_each_crossing(reactor: Reactor, worker: Worker) -> None:
    client = opened(reactor, worker)
    fd = client.connection.fd
    for _ in range(3):
        push(reactor, worker, client, MIB)
        assert marks(worker) == []
        push(reactor, worker, client, MIB, 3)
        assert marks(worker) == [(BUFFER_FULL, fd)]
        client.socket.recv(100_000)
        reactor.turn()
        assert marks(worker) == []
        client.read()
        assert marks(worker) == [(BUFFER_EMPTY, fd)]


def test_a_handlers_marks_lie_low(reactor: Reactor, worker: Worker) -> None:
    """What the worker sends before it learns of the mark must fit below the limit."""
    client = opened(reactor, worker, handler=True)
    push(reactor, worker, client, MIB)
    assert marks(worker) == [(BUFFER_FULL, client.connection.fd)]


def test_what_a_worker_without_a_place_for_it_cannot_be_told_is_told_later() -> None:
    with Reactor(socket_buffer_size=4 * MIB) as reactor:
        worker = reactor.worker()
        back, full, empty = [opened(reactor, worker) for _ in range(3)]
        push(reactor, worker, empty, 999_000, 4)
        assert marks(worker) == [(BUFFER_FULL, empty.connection.fd)]
        used = worker.link.window.next_sequence
        for _ in range(RING - FOR_COMMANDS - worker.link.window.places):
            worker.link.send_command(DRAIN, 0, b"")
        reactor.loop.touch(worker.link)
        for client in (full, back):
            push(reactor, worker, client, 999_000, 4)
        empty.read()
        back.read()
        assert marks(worker) == []
        for sequence in range(used, used + 10):
            worker.link.window.finish(sequence)
        reactor.router.serve(worker.link)
        assert marks(worker) == [(BUFFER_FULL, full.connection.fd), (BUFFER_EMPTY, empty.connection.fd)]
        assert not worker.link.worker.notices


def test_a_mark_that_is_crossed_between_two_workers_is_told_to_the_next(reactor: Reactor, worker: Worker) -> None:
    client, pusher = opened(reactor, worker), Worker(reactor, 0, 99)
    reactor.workers.append(pusher)
    reactor.loop.add_link(pusher.link)
    worker.die()
    push(reactor, pusher, client, 999_000, 4)
    assert client.connection.output.full
    successor = reactor.worker()
    assert [event.kind for event in successor.take()] == [ADOPT, BUFFER_FULL]
    client.read()
    assert marks(successor) == [(BUFFER_EMPTY, client.connection.fd)]
