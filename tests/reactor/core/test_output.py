"""The output queue of a connection, with a socket whose buffers are small."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tests.client_frames import BOUNDARY_SIZES
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.output import FULL_CHUNK, LARGE, MAX_CHUNKS_PER_WRITE, MOST_FROM_RING
from zwoole.shared.websocket.frames import OP_BINARY, OP_TEXT
from zwoole.shared.wire.batches import ATTACH_BYTES, BatchReader, BatchWriter
from zwoole.shared.wire.events import PUSH
from zwoole.shared.wire.payload_ring import PayloadRing

ALPHABET = bytes(range(251))  # a prime, so that a lost or moved block never matches


class Client:
    """A connection and its peer, which reads only when told to."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel raises it to its minimum
        self.connection = Connection(1, self.ours.fileno(), "127.0.0.1", 40000)
        self.queued = bytearray()
        self.received = bytearray()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.ours.close()
        self.theirs.close()

    def queue(self, data: bytes) -> None:
        self.connection.output.queue(data)
        self.queued += data

    def queue_message(self, opcode: int, payload: bytes) -> None:
        self.connection.output.queue_message(opcode, event_with(opcode, payload))
        self.queued += Frame(Opcode(opcode), payload).serialize(mask=False)

    def flush(self) -> None:
        assert self.connection.output.flush(self.connection.transport, self.connection.descriptor) == 0

    def read(self, size: int) -> int:
        try:
            data = self.theirs.recv(size)
        except BlockingIOError:
            return 0
        self.received += data
        return len(data)

    def read_all(self) -> None:
        """Read and flush alternately until nothing is queued."""
        while self.read(65536) or self.connection.output.queued:
            self.flush()
        assert self.received == self.queued


def event_with(opcode: int, payload: bytes) -> BatchReader:
    writer = BatchWriter()
    if opcode == OP_TEXT:
        writer.add_text(PUSH, 1, payload)
    else:
        writer.add_bytes(PUSH, 1, payload)
    event = BatchReader([bytes(part) for part in writer.take(0, 0)])
    assert event.next()
    return event


def content(size: int) -> bytes:
    return (ALPHABET * (size // len(ALPHABET) + 1))[:size]


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as client:
        yield client


def test_nothing_queued_is_nothing_sent(client: Client) -> None:
    client.flush()
    client.queue(b"")
    client.flush()
    assert client.connection.output.queued == 0
    assert client.read(1) == 0


def test_what_is_queued_waits_for_the_flush_and_leaves_together(client: Client) -> None:
    client.queue(b"first")
    client.queue_message(OP_TEXT, b"second")
    client.queue(b"third")
    assert client.connection.output.queued == len(client.queued)
    assert client.read(100) == 0
    client.flush()
    assert client.connection.output.queued == 0
    assert client.read(100) == len(client.queued)
    assert client.received == b"first\x81\x06secondthird"


@pytest.mark.parametrize("size", [*BOUNDARY_SIZES, LARGE - 1, LARGE, ATTACH_BYTES - 1, ATTACH_BYTES, 1_000_000])
@pytest.mark.parametrize("opcode", [OP_TEXT, OP_BINARY])
def test_a_message_of_any_size_leaves_as_one_frame(client: Client, opcode: int, size: int) -> None:
    client.queue_message(opcode, b"x" * size)
    assert client.connection.output.queued == len(client.queued)
    client.flush()
    client.read_all()


@pytest.mark.parametrize("size", [1, LARGE - 1, LARGE, 1_000_000])
def test_bytes_of_any_size_leave_as_they_are(client: Client, size: int) -> None:
    client.queue(content(size))
    assert client.connection.output.queued == size
    client.flush()
    client.read_all()


def test_what_the_kernel_does_not_take_stays_queued_and_is_counted(client: Client) -> None:
    client.queue(content(500_000))
    client.flush()
    left = client.connection.output.queued
    assert 0 < left < 500_000
    client.flush()
    assert client.connection.output.queued == left
    while client.read(65536):
        pass
    assert len(client.received) == 500_000 - left
    client.read_all()


@pytest.mark.parametrize("total", [FULL_CHUNK - 1000, 3 * FULL_CHUNK])
def test_small_frames_behind_a_slow_reader_keep_their_order(client: Client, total: int) -> None:
    for i in range(total // 100):
        client.queue_message(OP_BINARY, content(90 + i % 20))
    client.flush()
    assert client.connection.output.queued
    for i in range(20):
        client.queue_message(OP_TEXT, b"%d" % i)
        client.flush()
        client.read(5000)
    client.read_all()


@pytest.mark.parametrize("sizes", [[150_000], [LARGE] * 6 + [100], [50_000, 50_000, 50_000]])
def test_no_more_leaves_than_the_turn_allows_though_the_kernel_has_room(sizes: list[int]) -> None:
    with Client() as client:
        client.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for size in sizes:
            client.queue(content(size))
        for most in (1, 70_000, 13):
            before = client.connection.output.queued
            assert client.connection.output.flush(client.connection.transport, client.connection.descriptor, most) == 0
            assert before - client.connection.output.queued == most
        client.read_all()


def test_small_and_large_payloads_keep_their_order(client: Client) -> None:
    for size in (10, LARGE, 20, LARGE + 1, LARGE - 1, 0, 70_000, 70_000, 5):
        client.queue_message(OP_BINARY, content(size))
        client.queue(content(size))
    client.flush()
    client.read_all()


@pytest.mark.parametrize("count", [MAX_CHUNKS_PER_WRITE // 2, MAX_CHUNKS_PER_WRITE, 3 * MAX_CHUNKS_PER_WRITE + 1])
def test_more_chunks_than_leave_in_one_call_keep_their_order(client: Client, count: int) -> None:
    for i in range(count):
        client.queue(content(LARGE + i))
    client.flush()
    client.read_all()


def test_a_large_payload_is_queued_without_a_copy(client: Client) -> None:
    payload = content(ATTACH_BYTES)
    event = event_with(OP_BINARY, payload)
    before = sys.getrefcount(payload)
    client.connection.output.queue_message(OP_BINARY, event)
    assert sys.getrefcount(payload) == before + 1
    client.connection.output.queue(payload)
    assert sys.getrefcount(payload) == before + 2
    client.connection.output.drop()
    assert sys.getrefcount(payload) == before


@pytest.mark.parametrize("size", [100, 1_000_000])
def test_output_that_is_dropped_is_never_sent(client: Client, size: int) -> None:
    client.connection.output.queue(content(size))
    client.connection.output.queue(b"small")
    client.connection.output.drop()
    assert client.connection.output.queued == 0
    client.queue(b"new")
    client.flush()
    client.read_all()


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_peer_that_went_away_is_an_error_number(client: Client, size: int) -> None:
    client.theirs.close()
    client.connection.output.queue(content(size))
    assert client.connection.output.flush(client.connection.transport, client.connection.descriptor) == errno.EPIPE


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_socket_that_is_closed_is_an_error_number(client: Client, size: int) -> None:
    client.connection.descriptor = -1
    client.connection.output.queue(content(size))
    assert client.connection.output.flush(client.connection.transport, client.connection.descriptor) == errno.EBADF


def event_in_ring(opcode: int, payload: bytes) -> BatchReader:
    ring = PayloadRing(memoryview(bytearray(len(payload))))
    writer = BatchWriter()
    writer.ring = ring
    writer.add_text(PUSH, 1, payload) if opcode == OP_TEXT else writer.add_bytes(PUSH, 1, payload)
    event = BatchReader([bytes(part) for part in writer.take(0, 0)], ring)
    assert event.next()
    return event


def send_from_ring(client: Client, event: BatchReader, opcode: int = OP_BINARY) -> int:
    connection = client.connection
    return connection.output.send_from_ring(connection.transport, connection.descriptor, opcode, event)


@pytest.mark.parametrize("size", [LARGE, 65535, 65536, MOST_FROM_RING])
@pytest.mark.parametrize("opcode", [OP_TEXT, OP_BINARY])
def test_a_large_payload_leaves_straight_from_the_ring_and_the_rest_is_queued(
    client: Client, opcode: int, size: int
) -> None:
    payload = content(size)
    client.queued += Frame(Opcode(opcode), payload).serialize(mask=False)
    assert send_from_ring(client, event_in_ring(opcode, payload), opcode) == 1
    assert client.read(1 << 20) > 0, "something has left without a flush"
    assert client.connection.output.queued < size
    client.queue(b"behind it")
    client.read_all()


def test_if_the_kernel_takes_nothing_all_is_queued(client: Client) -> None:
    while True:
        try:
            client.queued += content(client.ours.send(content(1000)))
        except BlockingIOError:
            break
    client.queued += Frame(Opcode.BINARY, content(LARGE)).serialize(mask=False)
    assert send_from_ring(client, event_in_ring(OP_BINARY, content(LARGE))) == 1
    assert client.connection.output.queued == 4 + LARGE
    client.read_all()


def test_what_would_overtake_other_output_or_lies_elsewhere_is_not_sent(client: Client) -> None:
    large = event_in_ring(OP_BINARY, content(LARGE))
    assert send_from_ring(client, event_with(OP_BINARY, content(LARGE))) == 0
    assert send_from_ring(client, event_in_ring(OP_BINARY, content(LARGE - 1))) == 0
    assert send_from_ring(client, event_in_ring(OP_BINARY, content(MOST_FROM_RING + 1))) == 0
    client.connection.output.framed = True
    assert send_from_ring(client, large) == 0
    client.connection.output.framed = False
    client.queue(b"first")
    assert send_from_ring(client, large) == 0
    assert client.read(1) == 0


def test_a_broken_socket_is_an_error_number_if_a_payload_leaves_from_the_ring(client: Client) -> None:
    client.theirs.close()
    assert send_from_ring(client, event_in_ring(OP_BINARY, content(LARGE))) == -errno.EPIPE
    assert client.connection.output.queued == 0


SIZES = st.one_of(st.integers(0, 300), st.sampled_from([LARGE - 1, LARGE, ATTACH_BYTES, FULL_CHUNK, 200_000]))
STEPS = st.lists(st.tuples(st.sampled_from(["queue", "message", "message", "flush", "read"]), SIZES), max_size=30)


@settings(max_examples=100)
@given(steps=STEPS)
def test_every_byte_arrives_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    with Client() as client:
        for step, size in steps:
            if step == "queue":
                client.queue(content(size))
            elif step == "message":
                client.queue_message(OP_BINARY, content(size))
            elif step == "flush":
                client.flush()
            else:
                client.read(size)
            assert 0 <= client.connection.output.queued <= len(client.queued) - len(client.received)
            assert client.queued.startswith(client.received)
        client.read_all()
        assert client.connection.output.queued == 0
