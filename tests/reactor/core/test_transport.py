"""The transport: sockets as they are, and that one which holds bytes of its own finds its place."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from tests.client_frames import client_frame
from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.clients.inbound import READ_BYTES
from zwoole.reactor.core.connection_stages import STAGE_GONE, STAGE_LINGERING
from zwoole.reactor.core.transport import PLAIN, Transport
from zwoole.shared.websocket.frames import build_frame
from zwoole.shared.websocket.protocol import HEADROOM
from zwoole.shared.wire.events import CLOSE, MESSAGE

HEAD = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
KEY = 0x5A
HEADER = 4  # bytes of a record's length


class Records(Transport):
    """What TLS asks of the seam: bytes in records, unreadable before the whole record is there, kept when read in part.

    Attributes:
        goodbyes: records of length 0 that were sent, as close_notify is.
    """

    def __init__(self) -> None:
        self._arrived = b""
        self._clear = b""
        self._to_send = b""
        self.goodbyes = 0

    def read(self, descriptor: int, buffer: bytearray, start: int) -> int:
        if not self._clear:
            ended = self._fetch(descriptor)
            self._open_records()
            if not self._clear:
                return 0 if ended else -errno.EAGAIN
        count = min(len(self._clear), len(buffer) - start, 1000)
        buffer[start : start + count] = self._clear[:count]
        self._clear = self._clear[count:]
        return count

    def has_unread(self) -> bool:
        return bool(self._clear)

    def write(self, descriptor: int, data: bytearray) -> int:
        return self.write_all(descriptor, [data])

    def write_all(self, descriptor: int, parts: list[bytes | bytearray | memoryview]) -> int:
        if not self._to_send:
            clear = b"".join(bytes(part) for part in parts)[:3000]
            self._to_send = record(clear)
            self._size = len(clear)
        try:
            sent = os.write(descriptor, self._to_send)
        except OSError as error:
            return -(error.errno or errno.EIO)
        self._to_send = self._to_send[sent:]
        return -errno.EAGAIN if self._to_send else self._size

    def half_close(self, descriptor: int) -> int:
        self.goodbyes += 1
        os.write(descriptor, record(b""))
        return super().half_close(descriptor)

    def _fetch(self, descriptor: int) -> bool:
        """Take what lies in the socket; tell whether that was the end."""
        try:
            while data := os.read(descriptor, 65536):
                self._arrived += data
        except OSError:
            return False
        return True

    def _open_records(self) -> None:
        while len(self._arrived) >= HEADER:
            size = int.from_bytes(self._arrived[:HEADER], "big")
            if len(self._arrived) < HEADER + size:
                return
            self._clear += bytes(byte ^ KEY for byte in self._arrived[HEADER : HEADER + size])
            self._arrived = self._arrived[HEADER + size :]


def record(clear: bytes) -> bytes:
    return len(clear).to_bytes(HEADER, "big") + bytes(byte ^ KEY for byte in clear)


def opened_records(data: bytes) -> bytes:
    clear = b""
    while data:
        size = int.from_bytes(data[:HEADER], "big")
        clear += bytes(byte ^ KEY for byte in data[HEADER : HEADER + size])
        data = data[HEADER + size :]
    return clear


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_a_plain_transport_is_the_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    buffer = bytearray(10)
    assert PLAIN.read(ours.fileno(), buffer, 3) == -errno.EAGAIN
    theirs.send(b"hello, all")
    assert PLAIN.read(ours.fileno(), buffer, 3) == 7
    assert buffer == b"\0\0\0hello, "
    assert not PLAIN.has_unread(), "what is left lies in the socket, and epoll tells of it"
    assert PLAIN.write(ours.fileno(), bytearray(b"one")) == 3
    assert PLAIN.write_all(ours.fileno(), [b"two", memoryview(b"three")]) == 8
    assert theirs.recv(100) == b"onetwothree"
    assert PLAIN.half_close(ours.fileno()) == 0
    assert theirs.recv(100) == b""
    theirs.close()
    assert PLAIN.write(ours.fileno(), bytearray(b"late")) == -errno.EPIPE
    assert PLAIN.write_all(ours.fileno(), [b"late"]) == -errno.EPIPE


def test_a_socket_that_is_gone_already_cannot_be_half_closed() -> None:
    with socket.socket() as never_connected:
        assert PLAIN.half_close(never_connected.fileno()) == errno.ENOTCONN


@pytest.fixture
def client(reactor: Reactor, worker: Worker) -> Client:
    """Return a client whose bytes travel in records, with its handshake done."""
    client = reactor.client()
    client.connection.transport = Records()
    client.socket.setblocking(True)
    client.send(record(HEAD))
    assert opened_records(client.socket.recv(65536)).startswith(b"HTTP/1.1 101 ")
    client.socket.setblocking(False)
    worker.finish(*worker.take())
    return client


def test_a_handshake_may_come_in_many_records_and_bytes(reactor: Reactor, worker: Worker) -> None:
    client = reactor.client()
    client.connection.transport = Records()
    for byte in b"".join(record(HEAD[at : at + 7]) for at in range(0, len(HEAD), 7)):
        client.send(bytes([byte]))
    assert opened_records(client.read()).startswith(b"HTTP/1.1 101 ")


def test_what_one_record_holds_is_read_whole_though_the_socket_has_no_more(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    messages = [b"%d" % number * 100 for number in range(50)]
    client.send(record(b"".join(client_frame(1, message) for message in messages)))
    for _ in range(40):
        reactor.turn()
    assert [event.body.encode() for event in worker.take() if event.kind == MESSAGE] == messages


def test_a_connection_that_was_stopped_is_read_on_from_what_the_transport_holds(reactor: Reactor) -> None:
    """Its worker's window is full in the middle of a record; nothing more comes from the socket."""
    with Reactor(connection_window_events=1, parked_messages=2) as reactor:
        worker = reactor.worker()
        client = reactor.client()
        client.connection.transport = Records()
        client.send(record(HEAD))
        worker.finish(*worker.take())
        client.send(record(b"".join(client_frame(1, b"%d" % number * 200) for number in range(30))))
        got: list[str] = []
        for _ in range(200):
            events = [event for event in worker.take() if event.kind == MESSAGE]
            got += [event.body for event in events]
            worker.finish(*events)
        assert got == [str(number) * 200 for number in range(30)]


def test_a_large_answer_leaves_in_as_many_records_as_it_takes(reactor: Reactor, worker: Worker, client: Client) -> None:
    payload = bytes(range(256)) * 400
    assert reactor.outbound.send(client.connection, 2, payload)
    received = b""
    for _ in range(200):
        reactor.turn()
        received += client.read()
    assert opened_records(received) == build_frame(2, payload)
    assert client.connection.output.queued == 0


def test_the_end_goes_through_the_transport(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.send(record(client_frame(8, b"\x03\xe8")))
    assert [event.kind for event in worker.take()] == [CLOSE]
    transport = client.connection.transport
    assert isinstance(transport, Records)
    assert (client.connection.stage, transport.goodbyes) == (STAGE_LINGERING, 1)
    assert opened_records(client.read()) == b"\x88\x02\x03\xe8"
    client.leave()
    assert client.connection.stage == STAGE_GONE


def test_the_read_buffer_has_room_behind_the_headroom(reactor: Reactor) -> None:
    assert len(reactor.inbound.buffer) == HEADROOM + READ_BYTES
