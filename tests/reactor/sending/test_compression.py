"""Compressed output: in order, deflated once for all receivers, and in slices that do not block the loop."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import msgpack
import pytest

from tests.client_frames import client_frame, server_frames
from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.core.connection_stages import STAGE_GONE
from zwoole.reactor.sending import compression
from zwoole.reactor.sending.compression import AT_ONCE
from zwoole.shared.websocket.deflate import TAIL, Deflater
from zwoole.shared.websocket.frames import OP_TEXT
from zwoole.shared.wire.events import BROADCAST, DISCONNECT, PING, PUSH

LARGE = os.urandom(10 * AT_ONCE)


class Received(NamedTuple):
    """One frame from the server."""

    opcode: int
    compressed: bool
    payload: bytes


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor(compression_threshold=100, close_timeout=3.0, socket_buffer_size=4 * len(LARGE)) as reactor:
        yield reactor


def compressing_client(reactor: Reactor, bits: int = 15, takeover: bool = False) -> Client:
    client = reactor.open_client()
    client.connection.deflater = Deflater(bits, takeover, 1)
    return client


def receive(reactor: Reactor, client: Client, decoder: zlib._Decompress | None = None) -> list[Received]:
    """Return the frames that arrive, inflated if they are compressed."""
    data = b""
    while (more := client.read()) or client.connection.output.jobs is not None:
        data += more
        reactor.turn()
    frames = []
    for first, payload in server_frames(data):
        compressed = bool(first & 0x40)
        if compressed:
            payload = (decoder or zlib.decompressobj(-15)).decompress(payload + TAIL)
        frames.append(Received(first & 0x0F, compressed, payload))
    return frames


def push(worker: Worker, client: Client, *payloads: bytes) -> None:
    for payload in payloads:
        worker.writer.add_bytes(PUSH, client.connection.fd, payload)
    worker.send()


def test_only_what_is_worth_it_is_compressed(reactor: Reactor, worker: Worker) -> None:
    client = compressing_client(reactor)
    push(worker, client, b"small", b"x" * 100, b"y" * AT_ONCE)
    reactor.turn()
    assert receive(reactor, client) == [
        Received(2, False, b"small"),
        Received(2, True, b"x" * 100),
        Received(2, True, b"y" * AT_ONCE),
    ]


def test_a_large_message_is_deflated_in_slices_and_keeps_its_place(reactor: Reactor, worker: Worker) -> None:
    client, other = compressing_client(reactor), compressing_client(reactor)
    push(worker, client, LARGE, b"small", b"x" * 200, LARGE)
    worker.writer.add_bytes(PUSH, other.connection.fd, b"quick")
    worker.send()
    reactor.turn(1)
    assert client.connection.output.jobs is not None, "it takes more than a turn"
    assert reactor.table.queued(client.connection.fd) >= len(LARGE)
    client.send(client_frame(9, b"ping"))
    assert receive(reactor, other) == [Received(2, False, b"quick")]
    frames = receive(reactor, client)
    assert frames[0] == Received(10, False, b"ping"), "a pong does not wait"
    assert [frame.payload for frame in frames[1:]] == [LARGE, b"small", b"x" * 200, LARGE]
    assert client.connection.output.pending == client.connection.output.queued == 0
    assert reactor.table.queued(client.connection.fd) == 0
    assert reactor.output_limits.total == 0


def test_the_loop_does_not_sleep_while_there_is_work_and_does_when_it_is_done(reactor: Reactor, worker: Worker) -> None:
    client = compressing_client(reactor)
    push(worker, client, LARGE)
    reactor.turn(1)
    assert not reactor.sleeps()
    receive(reactor, client)
    assert reactor.sleeps()
    assert not client.connection.interest & 0x4


def test_the_close_frame_stays_behind(reactor: Reactor, worker: Worker) -> None:
    client = compressing_client(reactor)
    push(worker, client, LARGE)
    worker.writer.add_bytes(DISCONNECT, client.connection.fd, msgpack.packb([1000, "bye"]))
    worker.send()
    reactor.turn(1)
    frames = receive(reactor, client)
    assert [frame.opcode for frame in frames] == [2, 8]
    assert frames[0].payload == LARGE
    client.send_close()
    assert client.at_end()
    client.leave()
    assert client.connection.stage == STAGE_GONE


def test_a_clients_close_is_answered_behind_what_is_still_compressed(reactor: Reactor, worker: Worker) -> None:
    client = compressing_client(reactor)
    worker.finish(*worker.take())
    push(worker, client, LARGE)
    reactor.turn(1)
    client.send_close()
    frames = receive(reactor, client)
    assert [frame.opcode for frame in frames] == [2, 8]
    assert client.at_end()


def test_one_that_is_cut_off_is_worked_on_no_more(reactor: Reactor, worker: Worker) -> None:
    client = compressing_client(reactor)
    push(worker, client, LARGE)
    reactor.turn(1)
    reactor.closing.force(client.connection)
    reactor.turn()
    assert client.connection.output.pending == reactor.output_limits.total == 0
    assert reactor.sleeps()


def test_what_waits_to_be_compressed_counts_against_the_limit(reactor: Reactor, worker: Worker) -> None:
    client = compressing_client(reactor)
    push(worker, client, *[LARGE] * 5)
    reactor.turn(1)
    assert reactor.output_limits.closed == 1
    frames = receive(reactor, client)
    assert [frame.opcode for frame in frames] == [2, 2, 2, 2, 8]
    assert frames[-1].payload[:2] == (1013).to_bytes(2, "big")


def test_a_broadcast_is_deflated_once_for_all_with_the_same_window(
    reactor: Reactor, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counted(bits: int, level: int) -> zlib._Compress:
        made.append(bits)
        return zlib.compressobj(level, zlib.DEFLATED, -bits)

    monkeypatch.setattr(compression, "new_compressor", counted)
    clients = [compressing_client(reactor, bits) for bits in (15, 15, 15, 10, 10)]
    plain = reactor.open_client()
    for payload in (b"x" * 500, LARGE, b"small"):
        made.clear()
        worker.writer.add_bytes(BROADCAST, 0, payload)
        worker.send()
        reactor.turn(1)
        for client in clients:
            assert receive(reactor, client) == [Received(2, payload != b"small", payload)]
        assert receive(reactor, plain) == [Received(2, False, payload)]
        assert sorted(made) == ([] if payload == b"small" else [10, 15])


def test_broadcasts_and_own_messages_mix_where_the_window_outlasts_them(reactor: Reactor, worker: Worker) -> None:
    client = compressing_client(reactor, takeover=True)
    decoder = zlib.decompressobj(-15)
    own, shared = os.urandom(300), os.urandom(300)
    for payload, broadcast in ((own, 0), (own, 0), (shared, 1), (own, 0), (shared, 0), (LARGE, 1), (own, 0), (own, 0)):
        if broadcast:
            worker.writer.add_bytes(BROADCAST, 0, payload)
        else:
            worker.writer.add_bytes(PUSH, client.connection.fd, payload)
        worker.send()
        reactor.turn(1)
        assert receive(reactor, client, decoder) == [Received(2, True, payload)]


def test_what_the_command_line_pushes_stays_behind_what_is_still_compressed(reactor: Reactor, worker: Worker) -> None:
    client = compressing_client(reactor)
    push(worker, client, LARGE)
    reactor.turn(1)
    assert reactor.outbound.send(client.connection, OP_TEXT, b"later")
    assert reactor.outbound.send(client.connection, OP_TEXT, b"x" * 200)
    assert [frame.payload for frame in receive(reactor, client)] == [LARGE, b"later", b"x" * 200]


def test_a_message_of_the_command_line_counts_what_waits_to_be_compressed(reactor: Reactor, worker: Worker) -> None:
    client = compressing_client(reactor)
    push(worker, client, *[LARGE] * 4)
    reactor.turn(1)
    assert reactor.outbound.send(client.connection, OP_TEXT, b"x" * len(LARGE))
    assert client.connection.close_code == 1013


def test_a_ping_counts_what_waits_to_be_compressed(reactor: Reactor, worker: Worker) -> None:
    client = compressing_client(reactor)
    push(worker, client, *[LARGE] * 4)
    reactor.turn(1)
    client.connection.output.queue(b"x" * (reactor.output_limits.limit - client.connection.output.pending - 10))
    worker.writer.add_bytes(PING, client.connection.fd, b"p" * 125)
    worker.send()
    reactor.turn(1)
    assert client.connection.close_code == 1013
