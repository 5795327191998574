"""The protocol that shows every frame: the same events, and each accepted frame once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client_frames import KEY, client_frame
from tests.shared.websocket.test_protocol import Event, Sent, conversations, expected_events, receive
from zwoole.shared.websocket.deflate import Inflater
from zwoole.shared.websocket.frames import OP_CLOSE, OP_CONTINUATION, OP_PING, OP_TEXT, FrameHeader
from zwoole.shared.websocket.protocol import Protocol
from zwoole.shared.websocket.traced_protocol import TracedProtocol

Traced = list[tuple[int, bool, bool, int]]


def trace(*chunks: bytes, inflater: Inflater | None = None) -> tuple[list[Event], Traced]:
    """Return the events of bytes that arrive chunk by chunk, and the frames: opcode, FIN, RSV1, length."""
    traced: Traced = []

    def note(header: FrameHeader) -> None:
        traced.append((header.opcode, header.fin, header.rsv1, header.length))

    return receive(TracedProtocol(note, 1 << 20, 1024, inflater), *chunks), traced


@given(frames=conversations(), size=st.integers(1, 200))
def test_every_frame_is_shown_once_however_it_arrives(frames: list[Sent], size: int) -> None:
    data = b"".join(client_frame(frame.opcode, frame.payload, fin=frame.fin) for frame in frames)
    events, traced = trace(*(data[i : i + size] for i in range(0, len(data), size)))
    assert events == expected_events(frames)
    assert traced == [(frame.opcode, frame.fin, False, len(frame.payload)) for frame in frames]


@given(
    data=st.lists(
        st.builds(
            client_frame,
            st.integers(0, 15),
            st.binary(max_size=130),
            fin=st.booleans(),
            reserved=st.sampled_from([0, 0, 0x40, 0x20]),
            key=st.sampled_from([KEY, KEY, KEY, None]),
            length=st.sampled_from([None, None, None, 3, 70_000, 1 << 63]),
        )
        | st.binary(max_size=20),
        max_size=8,
    ).map(b"".join),
    size=st.integers(1, 300),
    compressed=st.booleans(),
)
def test_whatever_arrives_it_gives_the_same_events(data: bytes, size: int, compressed: bool) -> None:
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    inflaters = [Inflater(15, True) if compressed else None for _ in range(2)]
    expected = receive(Protocol(1 << 20, 1024, inflaters[0]), *chunks)
    assert trace(*chunks, inflater=inflaters[1])[0] == expected


def test_a_frame_is_shown_when_its_header_has_arrived_but_a_control_frame_when_it_is_complete() -> None:
    assert trace(client_frame(OP_TEXT, b"text")[:6])[1] == [(OP_TEXT, True, False, 4)]
    assert trace(client_frame(OP_PING, b"ping")[:8])[1] == []


def test_a_compressed_frame_is_shown_with_its_bit() -> None:
    hello = bytes.fromhex("f248cdc9c90700")  # RFC 7692 section 7.2.3.1
    first = client_frame(OP_TEXT, hello[:3], fin=False, reserved=0x40)
    events, traced = trace(first + client_frame(OP_CONTINUATION, hello[3:]), inflater=Inflater(15, True))
    assert [event[2] for event in events] == [b"Hello"]
    assert traced == [(OP_TEXT, False, True, 3), (OP_CONTINUATION, True, False, 4)]


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        (client_frame(OP_CLOSE, b"\x03\xe8"), 1),
        (client_frame(OP_TEXT, b"\xff"), 1),
        (client_frame(OP_TEXT, b"x", key=None), 0),
        (client_frame(OP_CONTINUATION, b"x"), 0),
        (client_frame(3, b"x"), 0),
    ],
    ids=["close", "text that is not UTF-8", "not masked", "nothing to continue", "unknown opcode"],
)
def test_a_frame_whose_header_is_refused_is_not_shown(frame: bytes, shown: int) -> None:
    events, traced = trace(frame + client_frame(OP_TEXT, b"never read"))
    assert len(events) == 1
    assert len(traced) == shown
