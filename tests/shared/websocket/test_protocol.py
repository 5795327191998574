"""One connection after its handshake, bytes in and events out, compared with the RFC and two other libraries."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import pytest
import wsproto.connection
import wsproto.events
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Frame
from websockets.protocol import Protocol as WebsocketsProtocol
from websockets.protocol import Side
from wsproto.connection import ConnectionType

from tests.client_frames import BOUNDARY_SIZES, client_frame
from zwoole.shared.websocket.close_codes import is_sendable
from zwoole.shared.websocket.frames import (
    OP_BINARY,
    OP_CLOSE,
    OP_CONTINUATION,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    append_header,
)
from zwoole.shared.websocket.protocol import (
    CLOSED_BY_PEER,
    FAILED,
    HEADROOM,
    MESSAGE,
    NEED_DATA,
    PING,
    PONG,
    Protocol,
    close_payload,
)

MIB = 1 << 20

Event = tuple[Any, ...]


# Driving the protocol.


def new_protocol(max_message: int = MIB, max_fragments: int = 1024) -> Protocol:
    return Protocol(max_message, max_fragments)


def events_of(protocol: Protocol) -> Iterator[Event]:
    """Take the events from the lent buffer."""
    while kind := protocol.next_event():
        if kind == MESSAGE:
            yield kind, protocol.opcode, protocol.data
        elif kind in (PING, PONG):
            yield kind, protocol.data
        else:
            yield kind, protocol.close_code, protocol.close_reason


def lend(protocol: Protocol, data: bytes) -> bytearray:
    """Lend a buffer whose HEADROOM is exactly as large as required."""
    buffer = bytearray(HEADROOM) + data
    protocol.receive_data(buffer, HEADROOM, len(buffer))
    return buffer


def receive(protocol: Protocol, *chunks: bytes) -> list[Event]:
    """Return the events of bytes that arrive chunk by chunk; each buffer is overwritten once it is used up."""
    events: list[Event] = []
    for chunk in chunks:
        buffer = lend(protocol, chunk)
        events += events_of(protocol)
        buffer[:] = b"\xff" * len(buffer)
    return events


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def violation(events: list[Event]) -> int | None:
    """Return the close code if the last event is a violation, else None."""
    return events[-1][1] if events and events[-1][0] == FAILED else None


# Conversations, their frames, and their events.


class Sent(NamedTuple):
    """One frame: a fragment of text (str) or of a binary message, or a control frame's payload."""

    opcode: int
    data: str | bytes
    fin: bool = True

    @property
    def payload(self) -> bytes:
        return self.data.encode() if isinstance(self.data, str) else self.data


CONTROLS = st.builds(Sent, st.sampled_from([OP_PING, OP_PONG]), st.binary(max_size=125), st.just(True))
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([125, 126, 127, 300]))
BINARY = SIZES.flatmap(lambda size: st.binary(min_size=size, max_size=size))
TEXT = st.one_of(st.text(max_size=30), SIZES.map(lambda size: "é" * size))


@st.composite
def conversations(draw: st.DrawFn) -> list[Sent]:
    """Messages in random fragments, with control frames in between."""
    frames: list[Sent] = []
    for opcode in draw(st.lists(st.sampled_from([OP_TEXT, OP_BINARY]), max_size=4)):
        fragment: st.SearchStrategy[str | bytes] = TEXT if opcode == OP_TEXT else BINARY
        fragments = draw(st.lists(fragment, min_size=1, max_size=4))
        for i, data in enumerate(fragments):
            frames += draw(st.lists(CONTROLS, max_size=2))
            frames.append(Sent(OP_CONTINUATION if i else opcode, data, i == len(fragments) - 1))
    return frames + draw(st.lists(CONTROLS, max_size=1))


def expected_events(frames: Iterable[Sent]) -> list[Event]:
    events: list[Event] = []
    opcode, message = 0, b""
    for frame in frames:
        if frame.opcode in (OP_PING, OP_PONG):
            events.append((PING if frame.opcode == OP_PING else PONG, frame.payload))
            continue
        opcode = frame.opcode or opcode
        message += frame.payload
        if frame.fin:
            events.append((MESSAGE, opcode, message))
            message = b""
    return events


def as_plain_client(frames: Iterable[Sent]) -> bytes:
    return b"".join(client_frame(frame.opcode, frame.payload, fin=frame.fin) for frame in frames)


def as_websockets_client(frames: Iterable[Sent]) -> bytes:
    client = WebsocketsProtocol(Side.CLIENT)
    for opcode, data, fin in ((frame.opcode, frame.payload, frame.fin) for frame in frames):
        if opcode == OP_CONTINUATION:
            client.send_continuation(data, fin)
        elif opcode == OP_TEXT:
            client.send_text(data, fin)
        elif opcode == OP_BINARY:
            client.send_binary(data, fin)
        elif opcode == OP_PING:
            client.send_ping(data)
        else:
            client.send_pong(data)
    return b"".join(client.data_to_send())


def as_wsproto_client(frames: Iterable[Sent]) -> bytes:
    client = wsproto.connection.Connection(ConnectionType.CLIENT)
    sent = b""
    for frame in frames:
        opcode, data, fin = frame
        event: wsproto.events.Event
        if opcode == OP_PING:
            event = wsproto.events.Ping(payload=frame.payload)
        elif opcode == OP_PONG:
            event = wsproto.events.Pong(payload=frame.payload)
        elif isinstance(data, str):
            event = wsproto.events.TextMessage(data=data, message_finished=fin)
        else:
            event = wsproto.events.BytesMessage(data=data, message_finished=fin)
        sent += client.send(event)
    return sent


def as_our_server(frames: Iterable[Sent]) -> bytes:
    out = bytearray()
    for frame in frames:
        append_header(out, frame.fin << 7 | frame.opcode, len(frame.payload))
        out += frame.payload
    return bytes(out)


def read_by_websockets(data: bytes) -> tuple[list[Event], int | None]:
    """Return the events before the end, and the close code of the end."""
    client = WebsocketsProtocol(Side.CLIENT, max_size=None)
    client.receive_data(data)
    frames = [frame for frame in client.events_received() if isinstance(frame, Frame)]
    events = expected_events(Sent(int(frame.opcode), bytes(frame.data), frame.fin) for frame in frames)
    return events, client.close_sent.code if client.close_sent else None


def read_by_wsproto(data: bytes, side: ConnectionType = ConnectionType.CLIENT) -> tuple[list[Event], int | None]:
    """Return the events before the end, and the close code of the end."""
    peer = wsproto.connection.Connection(side)
    peer.receive_data(data)
    frames = []
    code = None
    for event in peer.events():
        if isinstance(event, wsproto.events.CloseConnection):
            code = int(event.code)
            break
        if isinstance(event, wsproto.events.TextMessage):
            frames.append(Sent(OP_TEXT, str(event.data), event.message_finished))
        elif isinstance(event, wsproto.events.BytesMessage):
            frames.append(Sent(OP_BINARY, bytes(event.data), event.message_finished))
        elif isinstance(event, wsproto.events.Ping):
            frames.append(Sent(OP_PING, bytes(event.payload)))
        elif isinstance(event, wsproto.events.Pong):
            frames.append(Sent(OP_PONG, bytes(event.payload)))
    return expected_events(frames), code


Encoder = Callable[[Iterable[Sent]], bytes]
Reader = Callable[[bytes], tuple[list[Event], int | None]]


@pytest.mark.parametrize("encode", [as_plain_client, as_websockets_client, as_wsproto_client])
@settings(max_examples=200)
@given(frames=conversations(), data=st.data())
def test_what_other_clients_send_arrives_however_its_bytes_are_split(
    encode: Encoder, frames: list[Sent], data: st.DataObject
) -> None:
    stream = encode(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert receive(new_protocol(), *chunks) == expected_events(frames)


@settings(max_examples=50)
@given(frames=conversations())
def test_one_byte_at_a_time_gives_the_same_events(frames: list[Sent]) -> None:
    assert receive(new_protocol(), *byte_by_byte(as_plain_client(frames))) == expected_events(frames)


@pytest.mark.parametrize("read", [read_by_websockets, read_by_wsproto])
@settings(max_examples=200)
@given(frames=conversations())
def test_what_we_send_is_understood_by_other_clients(read: Reader, frames: list[Sent]) -> None:
    assert read(as_our_server(frames)) == (expected_events(frames), None)


# Every kind of frame, in a stream that can be split at every position.
SAMPLE = [
    Sent(OP_TEXT, "whole é€😀"),
    Sent(OP_BINARY, bytes(range(256)), False),
    Sent(OP_PING, bytes(range(125))),
    Sent(OP_CONTINUATION, b"", False),
    Sent(OP_PONG, b""),
    Sent(OP_CONTINUATION, b"end"),
    Sent(OP_TEXT, "", False),
    Sent(OP_CONTINUATION, "fragment é€", False),
    Sent(OP_PING, b"between"),
    Sent(OP_CONTINUATION, ""),
    Sent(OP_BINARY, b""),
]


def test_every_single_split_gives_the_same_events() -> None:
    stream = as_plain_client(SAMPLE)
    expected = expected_events(SAMPLE)
    for at in range(len(stream) + 1):
        assert receive(new_protocol(), stream[:at], stream[at:]) == expected, at


def test_a_message_may_be_fragmented_at_every_byte_even_inside_a_character() -> None:
    text = "é€😀".encode()
    for at in range(len(text) + 1):
        stream = client_frame(OP_TEXT, text[:at], fin=False) + client_frame(OP_CONTINUATION, text[at:])
        assert receive(new_protocol(), stream) == [(MESSAGE, OP_TEXT, text)], at
        assert receive(new_protocol(), *byte_by_byte(stream)) == [(MESSAGE, OP_TEXT, text)], at


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
@pytest.mark.parametrize("opcode", [OP_TEXT, OP_BINARY])
def test_a_message_of_every_boundary_size_arrives_whole_and_in_halves(opcode: int, size: int) -> None:
    frame = client_frame(opcode, b"x" * size)
    expected = [(MESSAGE, opcode, b"x" * size)]
    assert receive(new_protocol(), frame) == expected
    assert receive(new_protocol(), frame[: len(frame) // 2], frame[len(frame) // 2 :]) == expected


@pytest.mark.parametrize("size", [0, 1, 124, 125])
@pytest.mark.parametrize("opcode", [OP_PING, OP_PONG])
def test_a_control_frame_may_be_cut_anywhere_and_arrive_in_any_number_of_pieces(opcode: int, size: int) -> None:
    payload = bytes(range(size))
    frame = client_frame(opcode, payload)
    expected = [(PING if opcode == OP_PING else PONG, payload)]
    for at in range(len(frame) + 1):
        assert receive(new_protocol(), frame[:at], frame[at:]) == expected, at
    assert receive(new_protocol(), *byte_by_byte(frame)) == expected


PIECES = [b"x", "é".encode(), "😀".encode(), b"\xc3", b"\xa9", b"\xff", b"\x03\xe8", b"\x03\xe7", b"\x03\xee"]
DOUBTFUL_FRAMES = st.builds(
    client_frame,
    st.sampled_from([0x0, 0x0, 0x1, 0x1, 0x2, 0x8, 0x9, 0xA, 0x3]),
    st.lists(st.sampled_from(PIECES), max_size=5).map(b"".join),
    fin=st.booleans(),
    reserved=st.sampled_from([0, 0, 0, 0, 0, 0x40]),
    length_bytes=st.sampled_from([None, None, None, None, 2]),
)


@settings(max_examples=300)
@given(frames=st.lists(DOUBTFUL_FRAMES, max_size=8), junk=st.binary(max_size=20), limit=st.integers(0, 40))
def test_whatever_arrives_gives_the_same_events_whole_and_byte_by_byte(
    frames: list[bytes], junk: bytes, limit: int
) -> None:
    stream = b"".join(frames) + junk
    whole = receive(new_protocol(max_message=limit, max_fragments=3), stream)
    assert receive(new_protocol(max_message=limit, max_fragments=3), *byte_by_byte(stream)) == whole


@settings(max_examples=300)
@given(frames=st.lists(DOUBTFUL_FRAMES, max_size=8))
def test_another_server_takes_and_refuses_the_same_frames_with_the_same_codes(frames: list[bytes]) -> None:
    events = receive(new_protocol(), b"".join(frames))
    ended = bool(events) and events[-1][0] in (CLOSED_BY_PEER, FAILED)
    theirs, code = read_by_wsproto(b"".join(frames), ConnectionType.SERVER)
    assert (events[:-1] if ended else events) == theirs
    assert (events[-1][1] if ended else None) == code


# Violations.


@pytest.mark.parametrize(
    ("length", "code"),
    [(MIB + 1, 1009), ((1 << 63) - 1, 1009), (1 << 63, 1002), ((1 << 64) - 1, 1002)],
)
@pytest.mark.parametrize("opcode", [OP_TEXT, OP_BINARY])
def test_a_length_that_cannot_be_taken_is_refused_when_it_is_announced(opcode: int, length: int, code: int) -> None:
    head = client_frame(opcode, length=length)[:10]
    assert violation(receive(new_protocol(), head)) == code
    assert violation(receive(new_protocol(), *byte_by_byte(head))) == code


@pytest.mark.parametrize(
    "frame",
    [
        *(client_frame(OP_TEXT, b"x", reserved=bit) for bit in (0x10, 0x20, 0x40)),
        *(client_frame(opcode, b"x") for opcode in (0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF)),
        *(client_frame(opcode, fin=False) for opcode in (OP_CLOSE, OP_PING, OP_PONG)),
        *(client_frame(opcode, bytes(126)) for opcode in (OP_CLOSE, OP_PING, OP_PONG)),
        *(client_frame(opcode, b"x", key=None) for opcode in (OP_TEXT, OP_CLOSE, OP_PING)),
        client_frame(OP_TEXT, b"x" * 125, length_bytes=2),
        client_frame(OP_TEXT, b"x" * 126, length_bytes=8),
        client_frame(OP_CONTINUATION, b"x"),
        client_frame(OP_CONTINUATION, b"x", fin=False),
        client_frame(OP_TEXT, b"x", fin=False) + client_frame(OP_TEXT, b"x"),
        client_frame(OP_BINARY, b"", fin=False) + client_frame(OP_BINARY, b"x", fin=False),
        client_frame(OP_TEXT, b"x") + client_frame(OP_CONTINUATION, b"x"),
        client_frame(OP_CLOSE, b"\x03"),
    ],
    ids=lambda frame: frame[:8].hex(" "),
)
def test_a_frame_that_breaks_the_protocol_ends_it_with_1002(frame: bytes) -> None:
    assert violation(receive(new_protocol(), frame)) == 1002
    assert violation(receive(new_protocol(), *byte_by_byte(frame))) == 1002


def test_a_violation_does_not_take_back_the_events_before_it() -> None:
    stream = client_frame(OP_TEXT, b"good") + client_frame(0x3)
    events = receive(new_protocol(), stream)
    assert events[0] == (MESSAGE, OP_TEXT, b"good")
    assert violation(events) == 1002


@pytest.mark.parametrize(
    "end",
    [client_frame(OP_CLOSE, b"\x03\xe8bye"), client_frame(OP_CLOSE), client_frame(0x3), client_frame(OP_TEXT, b"\xff")],
    ids=["close", "empty close", "violation", "bad text"],
)
def test_what_comes_behind_the_end_is_ignored(end: bytes) -> None:
    more = client_frame(OP_TEXT, b"more") + client_frame(OP_CLOSE)
    protocol = new_protocol()
    assert len(receive(protocol, end + more)) == 1
    assert not protocol.receiving
    assert protocol.take_rest() == b""
    assert receive(protocol, more, *byte_by_byte(more)) == []
    lend(protocol, more)
    assert protocol.take_rest() == b""


def test_what_had_arrived_of_a_message_is_dropped_at_the_end() -> None:
    protocol = new_protocol()
    events = receive(protocol, client_frame(OP_TEXT, b"half", fin=False) + client_frame(OP_CLOSE, b"\x03\xe8"))
    assert events == [(CLOSED_BY_PEER, 1000, "")]
    assert protocol.partial_bytes() == 0


# The limits of a message.


@pytest.mark.parametrize("sizes", [[101], [60, 41], [100, 1], [0, 101], [50, 50, 0, 1]])
def test_a_message_over_the_limit_is_refused_however_it_is_fragmented(sizes: list[int]) -> None:
    frames = [
        Sent(OP_CONTINUATION if i else OP_BINARY, bytes(size), i == len(sizes) - 1) for i, size in enumerate(sizes)
    ]
    ping = client_frame(OP_PING, bytes(125))
    events = receive(new_protocol(max_message=100), *(as_plain_client([frame]) + ping for frame in frames))
    assert violation(events) == 1009
    assert events[-1][2] == "message bigger than 100 bytes"


def test_the_fragment_that_goes_over_the_limit_is_refused_by_its_header() -> None:
    protocol = new_protocol(max_message=100)
    assert receive(protocol, client_frame(OP_BINARY, bytes(60), fin=False)) == []
    assert violation(receive(protocol, client_frame(OP_CONTINUATION, bytes(41))[:2])) == 1009


@pytest.mark.parametrize("sizes", [[100], [60, 40], [100, 0], [0, 100], [50, 50, 0]])
def test_a_message_at_the_limit_arrives_however_it_is_fragmented(sizes: list[int]) -> None:
    frames = [
        Sent(OP_CONTINUATION if i else OP_BINARY, bytes(size), i == len(sizes) - 1) for i, size in enumerate(sizes)
    ]
    protocol = new_protocol(max_message=100)
    expected = [(MESSAGE, OP_BINARY, bytes(100))]
    assert receive(protocol, as_plain_client(frames)) == expected
    assert receive(protocol, *byte_by_byte(as_plain_client(frames))) == expected  # the count starts again


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_a_message_in_more_fragments_than_allowed_is_refused(payload: bytes) -> None:
    first = client_frame(OP_TEXT, payload, fin=False)
    fragment = client_frame(OP_CONTINUATION, payload, fin=False)
    protocol = new_protocol(max_fragments=3)
    assert receive(protocol, first + fragment * 2) == []
    assert violation(receive(protocol, fragment)) == 1008


def test_a_message_in_as_many_fragments_as_allowed_arrives_and_control_frames_are_none() -> None:
    message = (
        client_frame(OP_TEXT, b"a", fin=False)
        + client_frame(OP_PING) * 5
        + client_frame(OP_CONTINUATION, b"b", fin=False)
        + client_frame(OP_CONTINUATION, b"c")
    )
    protocol = new_protocol(max_fragments=3)
    expected = [(PING, b"")] * 5 + [(MESSAGE, OP_TEXT, b"abc")]
    assert receive(protocol, message + message) == expected * 2


# UTF-8: (bytes, index of the first byte that is invalid).

BAD_TEXT = [
    (b"\x80", 0),
    (b"\xc0\xaf", 0),
    (b"\xc1\xbf", 0),
    (b"\xf5\x80\x80\x80", 0),
    (b"\xff", 0),
    (b"\xc3(", 1),
    (b"\xc3\xc3", 1),
    (b"\xe0\x9f\x80", 1),
    (b"\xed\xa0\x80", 1),
    (b"\xf0\x8f\xbf\xbf", 1),
    (b"\xf4\x90\x80\x80", 1),
    (b"\xe2\x82(", 2),
    (b"\xf0\x9f\x98(", 3),
    ("é€😀".encode() + b"\xe2(\xa1", 10),
]


@pytest.mark.parametrize(("bad", "at"), BAD_TEXT, ids=[bad.hex() for bad, _ in BAD_TEXT])
@pytest.mark.parametrize("before", ["", "ascii", "naïve"])
def test_a_bad_byte_is_reported_when_it_arrives_inside_half_a_message(before: str, bad: bytes, at: int) -> None:
    frame = client_frame(OP_TEXT, before.encode() + bad + b"x" * 1000)
    wrong = 8 + len(before.encode()) + at
    protocol = new_protocol()
    assert receive(protocol, *byte_by_byte(frame[:wrong])) == []
    assert violation(receive(protocol, frame[wrong : wrong + 1])) == 1007


@pytest.mark.parametrize(("bad", "at"), BAD_TEXT, ids=[bad.hex() for bad, _ in BAD_TEXT])
def test_a_bad_byte_is_reported_when_it_arrives_inside_a_fragment(bad: bytes, at: int) -> None:
    fragments = [client_frame(OP_CONTINUATION if i else OP_TEXT, bad[i : i + 1], fin=False) for i in range(len(bad))]
    protocol = new_protocol()
    assert receive(protocol, *fragments[:at]) == []
    assert violation(receive(protocol, fragments[at])) == 1007


@pytest.mark.parametrize("cut", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"ok\xf0\x9f"], ids=bytes.hex)
def test_text_that_ends_inside_a_character_is_refused_at_its_end(cut: bytes) -> None:
    whole = client_frame(OP_TEXT, cut)
    fragments = client_frame(OP_TEXT, cut, fin=False) + client_frame(OP_CONTINUATION, b"")
    for stream in (whole, fragments):
        assert violation(receive(new_protocol(), stream)) == 1007
        protocol = new_protocol()
        assert receive(protocol, *byte_by_byte(stream[:-1])) == []
        assert violation(receive(protocol, stream[-1:])) == 1007


def test_a_cut_character_does_not_leak_into_the_next_message() -> None:
    good = client_frame(OP_TEXT, "é".encode())
    fragmented = client_frame(OP_TEXT, b"\xc3", fin=False) + client_frame(OP_CONTINUATION, b"\xa9")
    assert receive(new_protocol(), fragmented + good + fragmented) == [(MESSAGE, OP_TEXT, "é".encode())] * 3


def test_a_control_frame_inside_a_character_leaves_it_alone() -> None:
    stream = client_frame(OP_TEXT, b"\xe2\x82", fin=False) + client_frame(OP_PING, b"\xff")
    stream += client_frame(OP_CONTINUATION, b"\xac")
    assert receive(new_protocol(), *byte_by_byte(stream)) == [(PING, b"\xff"), (MESSAGE, OP_TEXT, "€".encode())]


def test_binary_messages_may_hold_anything() -> None:
    stream = client_frame(OP_BINARY, b"\xff\xc3", fin=False) + client_frame(OP_CONTINUATION, b"\x80")
    assert receive(new_protocol(), *byte_by_byte(stream)) == [(MESSAGE, OP_BINARY, b"\xff\xc3\x80")]


@given(data=st.one_of(st.binary(max_size=12), st.text(max_size=6).map(lambda text: text.encode()[:-1])))
def test_text_is_accepted_just_where_python_decodes_it(data: bytes) -> None:
    valid = data.decode("utf-8", "replace").encode() == data
    expected = None if valid else 1007
    assert violation(receive(new_protocol(), client_frame(OP_TEXT, data))) == expected
    assert violation(receive(new_protocol(), *byte_by_byte(client_frame(OP_TEXT, data)))) == expected


# The close frame.


def test_every_close_code_is_answered_by_the_rule_for_it() -> None:
    for code in [*range(5001), 65535]:
        event = receive(new_protocol(), client_frame(OP_CLOSE, code.to_bytes(2, "big")))[0]
        assert event[:2] == ((CLOSED_BY_PEER, code) if is_sendable(code) else (FAILED, 1002)), code


def test_a_close_frame_without_a_code_is_1005() -> None:
    assert receive(new_protocol(), client_frame(OP_CLOSE)) == [(CLOSED_BY_PEER, 1005, "")]


@pytest.mark.parametrize("reason", ["", "bye", "é€😀", "x" * 123, "é" * 61])
def test_a_close_reason_arrives_however_it_is_cut(reason: str) -> None:
    frame = client_frame(OP_CLOSE, Close(1001, reason).serialize())
    for at in range(len(frame) + 1):
        assert receive(new_protocol(), frame[:at], frame[at:]) == [(CLOSED_BY_PEER, 1001, reason)], at


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"ok\xe2\x82", b"\xed\xa0\x80"], ids=bytes.hex)
def test_a_close_reason_that_is_not_utf8_is_refused(bad: bytes) -> None:
    assert violation(receive(new_protocol(), client_frame(OP_CLOSE, b"\x03\xe8" + bad))) == 1007


def test_a_close_frame_is_made_once() -> None:
    protocol = new_protocol()
    assert not protocol.close_sent
    assert protocol.close_frame(1000, "bye") == b"\x88\x05\x03\xe8bye"
    assert protocol.close_sent
    assert protocol.close_frame(1000, "bye") == b""


def test_after_our_close_frame_the_peer_is_still_heard() -> None:
    protocol = new_protocol()
    protocol.close_frame(1000, "")
    events = receive(protocol, client_frame(OP_TEXT, b"late") + client_frame(OP_CLOSE, b"\x03\xe8"))
    assert events == [(MESSAGE, OP_TEXT, b"late"), (CLOSED_BY_PEER, 1000, "")]


@pytest.mark.parametrize("code", [0, 1005])
def test_without_a_code_the_close_frame_is_empty(code: int) -> None:
    assert new_protocol().close_frame(code, "cannot be told") == b"\x88\x00"


@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
@pytest.mark.parametrize("shift", range(4))
def test_a_long_reason_is_cut_at_the_end_of_a_character(character: str, shift: int) -> None:
    reason = "x" * shift + character * 124
    sent = close_payload(1000, reason)[2:]
    assert 123 - len(character.encode()) < len(sent) <= 123
    assert reason.startswith(sent.decode())


@given(code=st.integers(1000, 4999).filter(is_sendable), reason=st.text(st.characters(), max_size=200))
def test_any_code_and_reason_make_a_close_frame_that_another_library_reads(code: int, reason: str) -> None:
    frame = new_protocol().close_frame(code, reason)
    client = WebsocketsProtocol(Side.CLIENT)
    client.receive_data(frame)
    assert client.close_rcvd is not None
    assert client.close_rcvd.code == code
    assert reason.encode("utf-8", "replace").decode().startswith(client.close_rcvd.reason)


def test_a_reason_with_half_a_surrogate_pair_is_sent_without_it() -> None:
    assert close_payload(1000, "a\ud800b") == b"\x03\xe8a?b"


# Backpressure.


@pytest.mark.parametrize("split", [None, 3, 8, 100, 300, 420])
def test_a_buffer_taken_back_after_any_event_goes_on_where_it_was(split: int | None) -> None:
    stream = as_plain_client(SAMPLE)
    expected = expected_events(SAMPLE)
    chunks = [stream] if split is None else [stream[:split], stream[split:]]
    for stop in range(1, len(expected) + 1):
        protocol = new_protocol()
        events: list[Event] = []
        for chunk in chunks:
            lend(protocol, chunk)
            for event in events_of(protocol):
                events.append(event)
                if len(events) == stop:
                    break
            rest = protocol.take_rest()
            assert protocol.next_event() == NEED_DATA
            events += receive(protocol, rest)
        assert events == expected, stop


def test_a_buffer_may_be_taken_back_after_every_event() -> None:
    stream = as_plain_client(SAMPLE)
    protocol = new_protocol()
    events: list[Event] = []
    rest = stream
    while rest:
        lend(protocol, rest)
        events += islice(events_of(protocol), 1)
        rest = protocol.take_rest()
    assert events == expected_events(SAMPLE)


def test_a_buffer_taken_back_unread_comes_back_whole_with_what_was_kept_in_front() -> None:
    protocol = new_protocol()
    frame = client_frame(OP_PING, b"hello")
    assert receive(protocol, frame[:4]) == []
    lend(protocol, frame[4:])
    assert protocol.take_rest() == frame
    assert protocol.take_rest() == b""
    assert receive(protocol, frame) == [(PING, b"hello")]


# Memory.


@pytest.mark.parametrize(
    "stream",
    [b"", client_frame(OP_TEXT, b"x"), client_frame(OP_TEXT, b"x" * 500)[:100], client_frame(OP_PING, b"x")[:3]],
    ids=["nothing", "message", "half a message", "half a ping"],
)
def test_a_lent_buffer_is_let_go_when_it_is_used_up(stream: bytes) -> None:
    protocol = new_protocol()
    buffer = bytearray(HEADROOM) + stream
    before = sys.getrefcount(buffer)
    protocol.receive_data(buffer, HEADROOM, len(buffer))
    list(events_of(protocol))
    assert sys.getrefcount(buffer) == before
    protocol.receive_data(buffer, HEADROOM, HEADROOM)
    protocol.take_rest()
    assert sys.getrefcount(buffer) == before


@pytest.mark.parametrize("end", [client_frame(OP_CLOSE), client_frame(0x3)], ids=["close", "violation"])
def test_a_lent_buffer_is_let_go_with_the_last_event(end: bytes) -> None:
    protocol = new_protocol()
    buffer = bytearray(HEADROOM) + end
    before = sys.getrefcount(buffer)
    protocol.receive_data(buffer, HEADROOM, len(buffer))
    assert protocol.next_event() in (CLOSED_BY_PEER, FAILED)
    assert sys.getrefcount(buffer) == before


def test_what_has_arrived_of_a_message_is_counted() -> None:
    protocol = new_protocol()
    receive(protocol, client_frame(OP_BINARY, bytes(50), fin=False), client_frame(OP_CONTINUATION, bytes(50))[:26])
    assert protocol.partial_bytes() == 70
    receive(protocol, client_frame(OP_CONTINUATION, bytes(50))[26:])
    assert protocol.partial_bytes() == 0


@pytest.mark.parametrize("fragments", [1, 4])
def test_an_idle_connection_holds_nothing_of_what_it_received(fragments: int) -> None:
    size = 65536 // fragments
    frames = [Sent(OP_CONTINUATION if i else OP_BINARY, bytes(size), i == fragments - 1) for i in range(fragments)]
    stream = as_plain_client([*frames, Sent(OP_PING, bytes(125))])
    rounds = [[new_protocol() for _ in range(20)] for _ in range(5)]
    held = []
    tracemalloc.start()
    for protocols in rounds:
        before = tracemalloc.get_traced_memory()[0]
        for protocol in protocols:
            receive(protocol, stream[: len(stream) // 2], stream[len(stream) // 2 :])
        held.append(tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    assert min(held) < 20 * 100  # in one of the rounds caches are filled, and other threads of the tests allocate
