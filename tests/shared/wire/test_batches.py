"""The wire between master and workers, compared with the msgpack library and fed with invalid bytes."""

from __future__ import annotations

import struct
import sys
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zwoole.shared.websocket.frames import OP_BINARY, build_frame
from zwoole.shared.wire.batches import (
    ATTACH_BYTES,
    BODY_BYTES,
    BODY_INTEGER,
    BODY_NIL,
    BODY_TEXT,
    MAX_BATCH_EVENTS,
    BatchReader,
    BatchWriter,
    WireError,
    append_integer,
)
from zwoole.shared.wire.events import (
    ACK,
    BROADCAST,
    BYE,
    CLOSE,
    DISCONNECT,
    DRAIN,
    FAIL,
    HELLO,
    MESSAGE,
    OPEN,
    PUSH,
    WELCOME,
)
from zwoole.shared.wire.payload_ring import RING_MIN_BYTES, PayloadRing

HEAD_BYTES = 23  # the head has a fixed width, so that it can be filled in last

Body = None | int | str | bytes
Event = tuple[int, int, Body]

DOWN = [OPEN, MESSAGE, CLOSE, WELCOME, DRAIN]
UP = [HELLO, ACK, PUSH, BROADCAST, DISCONNECT, FAIL, BYE]

INTEGER_BORDERS = [0, 1, 127, 128, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, (1 << 53) - 1, (1 << 64) - 1]
SIZE_BORDERS = [0, 1, 31, 32, 255, 256, ATTACH_BYTES - 1, ATTACH_BYTES, 65535, 65536]

INTEGERS = st.one_of(st.sampled_from(INTEGER_BORDERS), st.integers(0, (1 << 64) - 1))
BODIES = st.one_of(
    st.none(),
    INTEGERS,
    st.text(max_size=40),
    st.binary(max_size=40),
    st.sampled_from(SIZE_BORDERS).map(lambda size: "x" * size),
    st.sampled_from(SIZE_BORDERS).map(bytes),
)
EVENTS = st.lists(st.tuples(st.integers(0, 127), INTEGERS, BODIES), max_size=8)


def written(events: list[Event], first: int = 0, credit: int = 0) -> list[bytes]:
    writer = BatchWriter()
    for kind, number, body in events:
        if body is None:
            writer.add(kind, number)
        elif isinstance(body, int):
            writer.add_integer(kind, number, body)
        elif isinstance(body, str):
            writer.add_text(kind, number, body.encode())
        else:
            writer.add_bytes(kind, number, body)
    assert writer.events == len(events)
    return [bytes(part) for part in writer.take(first, credit)]


def flat(events: list[Event], first: int = 0, credit: int = 0) -> tuple[list[Any], list[bytes]]:
    """Return the array and the attached parts that the batch's head describes."""
    values: list[Any] = [first, credit]
    attached = []
    for kind, number, body in events:
        values += [kind, number]
        data = body.encode() if isinstance(body, str) else body
        if isinstance(data, bytes) and len(data) >= ATTACH_BYTES:
            values.append(isinstance(body, str))
            attached.append(data)
        else:
            values.append(body)
    return values, attached


def body_of(reader: BatchReader) -> Body:
    """Return the current event's body, on which all three ways to read it must agree."""
    if reader.body_type == BODY_INTEGER:
        return reader.body_integer
    data = reader.data()
    if len(data) < 65536:
        frame = build_frame(OP_BINARY, data)
        assert reader.append_frame(bytearray(b"before"), 0x80 | OP_BINARY) == b"before" + frame
        assert reader.append_frame(None, 0x80 | OP_BINARY) == frame
    assert len(data) == reader.body_size
    if reader.body_type == BODY_NIL:
        assert data == b""
        return None
    if reader.body_type == BODY_BYTES:
        return data
    assert reader.body_type == BODY_TEXT
    text = reader.text()
    assert text.encode() == data
    return text


def read(parts: list[bytes]) -> list[Event]:
    reader = BatchReader(parts)
    events = []
    while reader.next():
        events.append((reader.kind, reader.number, body_of(reader)))
    assert not reader.next()
    return events


def batch(*values: Any, count: int | None = None) -> bytes:
    """Return a batch's first part as msgpack encodes it, with its length in the batch's form."""
    body = b"".join(value if isinstance(value, bytearray) else msgpack.packb(value) for value in values)
    return b"\xdd" + struct.pack(">I", len(values) if count is None else count) + body


# The writer.


@given(events=EVENTS, first=INTEGERS, credit=INTEGERS)
def test_what_is_written_is_what_msgpack_packs(events: list[Event], first: int, credit: int) -> None:
    head, *attached = written(events, first, credit)
    values, expected_attached = flat(events, first, credit)
    assert msgpack.unpackb(head) == values
    assert head[HEAD_BYTES:] == b"".join(msgpack.packb(value) for value in values[2:])
    assert attached == expected_attached


@given(events=EVENTS, first=INTEGERS, credit=INTEGERS)
def test_what_is_written_is_read_again(events: list[Event], first: int, credit: int) -> None:
    parts = written(events, first, credit)
    reader = BatchReader(parts)
    assert (reader.first, reader.credit) == (first, credit)
    assert read(parts) == events


@pytest.mark.parametrize("size", SIZE_BORDERS)
@pytest.mark.parametrize("body", ["x", b"x"], ids=["text", "bytes"])
def test_a_body_of_every_border_size_is_packed_as_msgpack_packs_it_or_attached(body: Any, size: int) -> None:
    events: list[Event] = [(MESSAGE, 7, body * size)]
    values, attached = flat(events)
    assert written(events)[0][HEAD_BYTES:] == b"".join(msgpack.packb(value) for value in values[2:])
    assert len(attached) == (size >= ATTACH_BYTES)
    assert read(written(events)) == events


@pytest.mark.parametrize("value", INTEGER_BORDERS)
def test_an_integer_takes_msgpacks_shortest_form(value: int) -> None:
    buffer = bytearray()
    append_integer(buffer, value)
    assert buffer == msgpack.packb(value)
    assert read(written([(ACK, value, value)])) == [(ACK, value, value)]


def test_attached_payloads_keep_their_order_between_the_others() -> None:
    events: list[Event] = [
        (PUSH, 1, b"a" * ATTACH_BYTES),
        (PUSH, 2, "small"),
        (PUSH, 3, "é" * ATTACH_BYTES),
        (ACK, 4, 5),
        (PUSH, 6, b"b" * ATTACH_BYTES),
    ]
    assert len(written(events)) == 4
    assert read(written(events)) == events


def test_an_attached_payload_is_not_copied() -> None:
    payload = bytes(ATTACH_BYTES)
    writer = BatchWriter()
    writer.add_bytes(PUSH, 1, payload)
    parts = writer.take(0, 0)
    assert parts[1] is payload
    reader = BatchReader([bytes(part) for part in parts])
    assert reader.next()
    assert reader.data() is payload


def test_the_size_counts_payloads_and_a_little_for_each_event() -> None:
    writer = BatchWriter()
    sizes = [writer.size]
    for body in (b"x" * 10, b"x" * ATTACH_BYTES):
        writer.add_bytes(PUSH, 1, body)
        sizes.append(writer.size - sum(sizes))
        writer.add_text(PUSH, 1, body)
        sizes.append(writer.size - sum(sizes))
    writer.add(BYE, 0)
    sizes.append(writer.size - sum(sizes))
    writer.add_integer(ACK, 1 << 40, 1 << 40)
    sizes.append(writer.size - sum(sizes))
    assert sizes == [0, 18, 18, ATTACH_BYTES + 8, ATTACH_BYTES + 8, 8, 8]


def test_a_batch_that_was_taken_leaves_an_empty_one_behind() -> None:
    writer = BatchWriter()
    writer.add_bytes(PUSH, 1, bytes(ATTACH_BYTES))
    writer.take(1, 2)
    assert (writer.events, writer.size) == (0, 0)
    assert [bytes(part) for part in writer.take(3, 4)] == written([], 3, 4)


def test_every_kind_has_a_number_of_its_own_that_fits_in_a_byte() -> None:
    assert len({*DOWN, *UP}) == len(DOWN + UP)
    assert all(0 < kind < 128 for kind in DOWN + UP)


# The reader, on bytes that no writer writes.


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xdd",
        b"\xdd\0\0\0",
        b"\xdd\0\0\0\2",
        b"\xdd\0\0\0\2\1",
        b"\x92\1\1",
        msgpack.packb(None),
        batch(1, -1),
        batch(-1, 1),
        batch("1", 1),
        batch(1, 1.5),
    ],
    ids=bytes.hex,
)
def test_a_head_that_is_none_is_refused(head: bytes) -> None:
    with pytest.raises(WireError):
        BatchReader([head])


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 3 * MAX_BATCH_EVENTS + 5, 0xFFFFFFFE, 0xFFFFFFFF])
def test_a_length_that_no_batch_has_is_refused_at_once(count: int) -> None:
    with pytest.raises(WireError, match=f"a batch of {count} values"):
        BatchReader([batch(1, 1, *[1] * 6, count=count)])


@pytest.mark.parametrize("events", [0, 1, 3, MAX_BATCH_EVENTS])
def test_a_length_that_lies_is_found_at_the_end(events: int) -> None:
    with pytest.raises(WireError):
        read([batch(1, 1, *[1] * 6, count=2 + 3 * events)])


def test_a_batch_that_was_cut_off_anywhere_is_refused() -> None:
    whole = written([(2, 300, "text"), (33, 70000, 1 << 40), (2, 3, b"x" * 300), (6, 0, None)])[0]
    for kept in range(len(whole)):
        with pytest.raises(WireError):
            read([whole[:kept]])


@pytest.mark.parametrize("attached", [0, 1, 3])
def test_a_part_too_few_or_too_many_is_refused(attached: int) -> None:
    head, *parts = written([(PUSH, 1, b"a" * ATTACH_BYTES), (PUSH, 1, "b" * ATTACH_BYTES)])
    assert len(parts) == 2
    with pytest.raises(WireError):
        read([head, *(parts + [b"more"])[:attached]])


def test_a_part_that_no_event_asks_for_is_refused() -> None:
    with pytest.raises(WireError, match="something behind the last event"):
        read([*written([(DRAIN, 0, None)]), b""])


def test_an_attached_part_may_have_any_size() -> None:
    assert read([batch(1, 1, PUSH, 5, True), b""]) == [(PUSH, 5, "")]
    assert read([batch(1, 1, PUSH, 5, False), b"x"]) == [(PUSH, 5, b"x")]


@pytest.mark.parametrize("parts", [[batch(1, 1, 2, 3, bytearray(b"\xa1\xff"))], [batch(1, 1, 2, 3, True), b"\xff"]])
def test_text_that_is_not_utf8_is_refused_where_it_is_read_as_text(parts: list[bytes]) -> None:
    reader = BatchReader(parts)
    assert reader.next()
    assert reader.data() == b"\xff"
    with pytest.raises(WireError, match="not UTF-8"):
        reader.text()


@pytest.mark.parametrize(
    "body", [-1, 1.5, [], {}, [1, 2], {"a": 1}, msgpack.ExtType(1, b"x"), bytes(70000), "x" * 70000]
)
def test_a_body_that_no_event_has_is_refused(body: Any) -> None:
    with pytest.raises(WireError):
        read([batch(1, 1, MESSAGE, 5, body)])


@pytest.mark.parametrize("wrong", [None, True, -1, "1", b"1", 1.5, [1]])
@pytest.mark.parametrize("at", [2, 3])
def test_a_kind_and_a_number_are_unsigned_integers(at: int, wrong: Any) -> None:
    values: list[Any] = [1, 1, MESSAGE, 5, "body"]
    values[at] = wrong
    with pytest.raises(WireError):
        read([batch(*values)])


def test_a_kind_that_is_not_known_is_read_like_any_other() -> None:
    assert read([batch(1, 1, 1 << 40, 5, "body")]) == [(1 << 40, 5, "body")]


def walk(parts: list[bytes]) -> list[Event] | None:
    """Return the events of a batch, or None if it is refused; only WireError may be raised."""
    try:
        return read(parts)
    except WireError:
        return None


def accepted_values(part: bytes, parts: int) -> list[Any]:
    values = msgpack.unpackb(part, strict_map_key=False)
    assert isinstance(values, list)
    assert sum(isinstance(value, bool) for value in values) == parts - 1
    return values


@settings(max_examples=300)
@given(tail=st.binary(max_size=60), events=st.integers(0, 5), parts=st.lists(st.binary(max_size=5), max_size=2))
def test_arbitrary_bytes_are_refused_or_are_msgpack(tail: bytes, events: int, parts: list[bytes]) -> None:
    assert walk([tail, *parts]) is None or tail[0] == 0xDD
    head = b"\xdd" + struct.pack(">I", 2 + 3 * events) + tail
    found = walk([head, *parts])
    if found is not None:
        assert len(accepted_values(head, 1 + len(parts))) == 2 + 3 * len(found)


MUTATIONS = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from(["set", "insert", "delete", "cut"]), st.integers(0, 255)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=500)
@given(
    events=st.lists(
        st.tuples(
            st.integers(0, 127), INTEGERS, st.one_of(st.none(), INTEGERS, st.text(max_size=40), st.binary(max_size=40))
        ),
        max_size=4,
    ),
    mutations=MUTATIONS,
)
def test_damaged_batches_are_refused_or_read_as_msgpack_reads_them(
    events: list[Event], mutations: list[tuple[int, str, int]]
) -> None:
    data = bytearray(written(events)[0])
    for at, what, byte in mutations:
        at %= max(len(data), 1)
        if what == "insert":
            data.insert(at, byte)
        elif what == "cut":
            del data[at:]
        elif what == "delete":
            del data[at : at + 1]
        else:
            data[at : at + 1] = bytes([byte])
    found = walk([bytes(data)])
    if found is not None:
        assert flat(found)[0][2:] == accepted_values(bytes(data), 1)[2:]


def test_a_reader_leaves_its_parts_alone() -> None:
    parts = written([(PUSH, 1, bytes(ATTACH_BYTES)), (PUSH, 1, "text")])
    before = [sys.getrefcount(part) for part in parts]
    assert len(read(parts)) == 2
    assert [sys.getrefcount(part) for part in parts] == before


@given(st.text() | st.sampled_from(SIZE_BORDERS).map(lambda size: "x" * size), st.sampled_from([0, 3 * ATTACH_BYTES]))
def test_a_str_is_written_as_its_utf_8(text: str, ring_bytes: int) -> None:
    rings = [PayloadRing(memoryview(bytearray(ring_bytes))) if ring_bytes else None for _ in range(2)]
    writers = [BatchWriter(), BatchWriter()]
    for writer, ring in zip(writers, rings, strict=True):
        writer.ring = ring
    for _ in range(2):
        writers[0].add_text(PUSH, 7, text.encode())
        writers[1].add_str(PUSH, 7, text)
    assert len({(writer.events, writer.size, writer.ring_bytes) for writer in writers}) == 1
    bodies = []
    for writer, ring in zip(writers, rings, strict=True):
        reader = BatchReader([bytes(part) for part in writer.take(1, 2)], ring)
        bodies.append([body_of(reader) for _ in range(2) if reader.next()])
    assert bodies == [[text] * 2] * 2


def test_a_str_with_a_lone_surrogate_leaves_the_batch_as_it_was() -> None:
    writer = BatchWriter()
    with pytest.raises(UnicodeEncodeError):
        writer.add_str(PUSH, 7, "a\ud800")
    assert writer.events == 0
    assert writer.take(0, 0) == BatchWriter().take(0, 0)


# Payloads in the ring.


def test_a_large_payload_lies_in_the_ring_and_the_batch_says_where() -> None:
    ring = PayloadRing(memoryview(bytearray(10_000)))
    writer = BatchWriter()
    writer.ring = ring
    writer.add_text(PUSH, 1, b"x" * RING_MIN_BYTES)
    writer.add_bytes(PUSH, 2, b"y" * RING_MIN_BYTES)
    writer.add_bytes(PUSH, 3, b"z" * (RING_MIN_BYTES - 1))
    assert writer.ring_bytes == 2 * RING_MIN_BYTES
    parts = [bytes(part) for part in writer.take(0, 0)]
    assert writer.ring_bytes == 0
    values = msgpack.unpackb(parts[0])
    where = struct.pack(">II", RING_MIN_BYTES, RING_MIN_BYTES)
    assert values[4] == msgpack.ExtType(2, struct.pack(">II", 0, RING_MIN_BYTES))
    assert values[7] == msgpack.ExtType(1, where)
    reader = BatchReader(parts, ring)
    bodies = []
    while reader.next():
        bodies.append(body_of(reader))
    assert bodies == ["x" * RING_MIN_BYTES, b"y" * RING_MIN_BYTES, b"z" * (RING_MIN_BYTES - 1)]
    assert reader.ring_bytes == 2 * RING_MIN_BYTES


def test_what_the_ring_has_no_room_for_travels_with_the_batch() -> None:
    writer = BatchWriter()
    writer.ring = PayloadRing(memoryview(bytearray(RING_MIN_BYTES)))
    bodies: list[Body] = [b"a" * RING_MIN_BYTES, b"b" * RING_MIN_BYTES, "c" * ATTACH_BYTES]
    writer.add_bytes(PUSH, 1, b"a" * RING_MIN_BYTES)
    writer.add_bytes(PUSH, 1, b"b" * RING_MIN_BYTES)
    writer.add_text(PUSH, 1, b"c" * ATTACH_BYTES)
    ring = writer.ring
    reader = BatchReader([bytes(part) for part in writer.take(0, 0)], ring)
    assert [body_of(reader) for _ in bodies if reader.next()] == bodies


@pytest.mark.parametrize(
    ("extension", "position", "size", "capacity"),
    [
        (1, 0, 101, 100),
        (2, 100, 1, 100),
        (1, 0xFFFFFFFF, 0xFFFFFFFF, 100),
        (3, 0, 1, 100),
        (0, 0, 1, 100),
        (1, 0, 1, 0),
    ],
)
def test_a_place_that_is_in_no_ring_is_an_error(extension: int, position: int, size: int, capacity: int) -> None:
    place = msgpack.packb(msgpack.ExtType(extension, struct.pack(">II", position, size)))
    ring = PayloadRing(memoryview(bytearray(capacity))) if capacity else None
    reader = BatchReader([batch(0, 0, PUSH, 1, bytearray(place))], ring)
    with pytest.raises(WireError):
        reader.next()
