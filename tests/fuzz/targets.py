"""The fuzz targets. A target takes any bytes, and raises if the code under test breaks its contract.

The first byte of the input says how the rest is given: in which chunks, with how many further parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import cycle
from typing import Any

from zwoole.reactor.clients.handshake import (
    Refused,
    early_refusal,
    find_head_end,
    parse_upgrade,
    refusal,
    switching_protocols,
)
from zwoole.reactor.clients.policy import Policy
from zwoole.shared.process.control_messages import ControlError, unpack
from zwoole.shared.request import pack_request, unpack_request
from zwoole.shared.settings import Settings
from zwoole.shared.websocket.deflate import Inflater
from zwoole.shared.websocket.frames import OP_BINARY, build_frame
from zwoole.shared.websocket.protocol import FAILED, HEADROOM, MESSAGE, PING, PONG, YIELD, Protocol
from zwoole.shared.wire.batches import BODY_INTEGER, BODY_NIL, BODY_TEXT, BatchReader, BatchWriter, WireError
from zwoole.shared.wire.payload_ring import PayloadRing
from zwoole.shared.wire.zmtp import GREETING, READY, Zmtp, ZmtpError, header

Event = tuple[Any, ...]

# Small, so that short inputs reach every limit.
MAX_MESSAGE_BYTES = 300
MAX_FRAGMENTS = 6
RING_BYTES = 256
WINDOW_BITS = 9

PAUSING = 0x80  # protocol: the buffer is taken back after every event and lent again
COMPRESSED = 0x40  # protocol: permessage-deflate was agreed on
TAKEOVER = 0x20  # protocol: with context takeover
MAX_CHUNK_SIZES = 0x0F  # protocol: number of bytes after the first one that are chunk sizes
ATTACHED = (b"", "é".encode(), b"\xff")  # wire: parts that may travel with a batch

POLICY = Policy(Settings(subprotocols=("chat", "superchat"), websocket_compression=True))


def handshake(data: bytes) -> None:
    """Pass bytes through the opening handshake: it may raise only Refused, and an accepted request can be answered."""
    half = len(data) // 2
    end = find_head_end(data, 0)
    early = find_head_end(data[:half], 0)
    assert end == (early if early >= 0 else find_head_end(data, half)), "the end moves with the pieces"
    try:
        if end < 0:
            if (refused := early_refusal(data)) is not None:
                raise refused
            return
        upgrade = parse_upgrade(data[:end])
        subprotocol = POLICY.judge(upgrade)
        agreement = POLICY.agree(upgrade)
    except Refused as refused:
        assert refusal(refused).startswith(b"HTTP/1.1 4"), "a client's mistake is answered with 4xx"
        return
    extensions = None if agreement is None else agreement.response
    assert switching_protocols(upgrade, subprotocol, (), extensions).startswith(b"HTTP/1.1 101 ")
    request = unpack_request(1, pack_request(upgrade.target, upgrade.headers, "127.0.0.1", 1, subprotocol))
    assert (request.path, request.subprotocol) == (upgrade.path, subprotocol), "the app is told something else"
    assert len(request.headers) > 0
    assert request.query is not None
    assert request.cookies is not None


def protocol(data: bytes) -> None:
    """Read bytes as frames: nothing may be raised, and chunks and pauses change nothing."""
    way = data[0] if data else 0
    count = way & MAX_CHUNK_SIZES
    sizes, stream = data[1 : 1 + count], data[1 + count :]
    whole = received([stream], way & ~PAUSING)
    for event in whole:
        check_event(event)
    assert outcome(received(chunks_of(stream, sizes or b"\0"), way), way) == outcome(whole, way)


def outcome(events: list[Event], way: int) -> list[Event]:
    """Return what must not depend on the chunks. If deflated data has several faults, zlib's output so far decides."""
    if way & COMPRESSED and events and events[-1][0] == FAILED:
        return [*events[:-1], (FAILED,)]
    return events


def received(chunks: Iterable[bytes], way: int) -> list[Event]:
    """Return the events of bytes that arrive in chunks."""
    inflater = Inflater(WINDOW_BITS, way & TAKEOVER != 0) if way & COMPRESSED else None
    protocol = Protocol(MAX_MESSAGE_BYTES, MAX_FRAGMENTS, inflater)
    events: list[Event] = []
    for chunk in chunks:
        lend(protocol, chunk)
        while kind := protocol.next_event():
            if kind == MESSAGE:
                events.append((kind, protocol.opcode, protocol.data))
            elif kind in (PING, PONG):
                events.append((kind, protocol.data))
            elif kind != YIELD:
                events.append((kind, protocol.close_code, protocol.close_reason))
            if kind == YIELD or way & PAUSING:
                lend(protocol, protocol.take_rest())
        assert protocol.partial_bytes() <= MAX_MESSAGE_BYTES, "more is held than one message may have"
    return events


def lend(protocol: Protocol, data: bytes) -> None:
    """Lend a buffer whose HEADROOM is exactly as large as required."""
    buffer = bytearray(HEADROOM) + data
    protocol.receive_data(buffer, HEADROOM, len(buffer))


def chunks_of(stream: bytes, sizes: bytes) -> Iterable[bytes]:
    """Cut a stream into chunks of the given sizes, each reduced by one, repeatedly."""
    start = 0
    for size in cycle(sizes):
        if start >= len(stream):
            return
        yield stream[start : start + size + 1]
        start += size + 1


def check_event(event: Event) -> None:
    """Check what every event promises."""
    if event[0] == MESSAGE:
        _, opcode, payload = event
        assert len(payload) <= MAX_MESSAGE_BYTES
        assert opcode == 2 or payload.decode() is not None
    elif event[0] in (PING, PONG):
        assert len(event[1]) <= 125
    else:
        kind, code, reason = event
        assert kind != FAILED or code in (1002, 1007, 1008, 1009)
        assert len(Protocol(0, 1).close_frame(code, reason)) <= 2 + 125


def wire(data: bytes) -> None:
    """Read bytes as a batch: only WireError may be raised, and the events are the same after they are written again."""
    parts = [data[1:], *ATTACHED[: data[0] & 3 if data else 0]]
    try:
        reader = BatchReader(parts, PayloadRing(memoryview(bytearray(RING_BYTES))))
        events = list(events_of(reader))
    except WireError:
        return
    if all(kind < 0x80 for kind, *_ in events):  # no version has larger ones, so they are not written
        again = BatchReader(written(events, reader.first, reader.credit))
        assert list(events_of(again)) == events
        assert (again.first, again.credit) == (reader.first, reader.credit)


def events_of(reader: BatchReader) -> Iterable[Event]:
    """Return kind, number, type and body of a batch's events; the body by each way to read it."""
    while reader.next():
        body: bytes | int = reader.body_integer
        if reader.body_type != BODY_INTEGER:
            body = reader.data()
            assert len(body) == reader.body_size
            if len(body) < 65536:
                assert reader.append_frame(None, 0x82) == build_frame(OP_BINARY, body)
        if reader.body_type == BODY_TEXT:
            assert reader.text().encode() == body
        yield reader.kind, reader.number, reader.body_type, body


def written(events: Iterable[Event], first: int, credit: int) -> list[bytes]:
    """Return a batch of these events."""
    writer = BatchWriter()
    for kind, number, body_type, body in events:
        if body_type == BODY_NIL:
            writer.add(kind, number)
        elif body_type == BODY_INTEGER:
            writer.add_integer(kind, number, body)
        elif body_type == BODY_TEXT:
            writer.add_text(kind, number, body)
        else:
            writer.add_bytes(kind, number, body)
    return [bytes(part) for part in writer.take(first, credit)]


def zmtp(data: bytes) -> None:
    """Read bytes as a connection of ZeroMQ: only ZmtpError may be raised, and chunks change nothing."""
    count = data[0] & MAX_CHUNK_SIZES if data else 0
    sizes, stream = data[1 : 1 + count], data[1 + count :]
    whole = zmtp_messages([stream])
    assert zmtp_messages(chunks_of(stream, sizes or b"\0")) == whole
    messages, error = whole
    if not error and messages:
        again = (
            GREETING
            + READY
            + b"".join(
                header(len(part), at + 1 < len(parts)) + part for parts in messages for at, part in enumerate(parts)
            )
        )
        assert zmtp_messages([again]) == (messages, "")


def zmtp_messages(chunks: Iterable[bytes]) -> tuple[list[list[bytes]], str]:
    """Return the messages of bytes that arrive in chunks, and the error that ended them."""
    connection = Zmtp()
    messages = []
    for chunk in chunks:
        connection.make_room()
        connection.buffer[connection.end : connection.end + len(chunk)] = chunk
        connection.end += len(chunk)
        try:
            while (parts := connection.next_message()) is not None:
                assert connection.ready, "a message before the handshake has finished"
                messages.append(parts)
        except ZmtpError as error:
            return messages, str(error)
    return messages, ""


def control(data: bytes) -> None:
    """Read bytes as a control message: only ControlError may be raised."""
    try:
        message = unpack(data)
    except ControlError:
        return
    assert isinstance(message["type"], str)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "handshake": handshake,
    "protocol": protocol,
    "wire": wire,
    "zmtp": zmtp,
    "control": control,
}
