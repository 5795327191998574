"""Compressed messages in the protocol: reassembled, checked and limited like uncompressed ones."""

from __future__ import annotations

import itertools
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client_frames import client_frame
from zwoole.shared.websocket.deflate import Inflater
from zwoole.shared.websocket.protocol import (
    FAILED,
    HEADROOM,
    INFLATE_BYTES,
    LAST_BLOCK_COST,
    MESSAGE,
    NEED_DATA,
    PING,
    YIELD,
    Protocol,
)

RSV1 = 0x40
MAX_MESSAGE = 100_000


def deflated(payload: bytes, level: int = 6) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def frames(opcode: int, payload: bytes, cuts: list[int]) -> bytes:
    """Return a compressed message in fragments split at these positions."""
    data = deflated(payload)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    return b"".join(
        client_frame(
            opcode if number == 0 else 0, piece, fin=number == len(pieces) - 1, reserved=RSV1 if number == 0 else 0
        )
        for number, piece in enumerate(pieces)
    )


class Receiver:
    """Feeds a protocol and records the events."""

    def __init__(self, max_message: int = MAX_MESSAGE, takeover: bool = False) -> None:
        self.protocol = Protocol(max_message, 1000, Inflater(15, takeover))
        self.buffer = bytearray(HEADROOM + (1 << 21))
        self.events: list[tuple[int, object]] = []
        self.yields = 0

    def feed(self, data: bytes) -> None:
        self.buffer[HEADROOM : HEADROOM + len(data)] = data
        self.protocol.receive_data(self.buffer, HEADROOM, HEADROOM + len(data))
        while (event := self.protocol.next_event()) != NEED_DATA:
            if event == YIELD:
                self.yields += 1
                self.feed(self.protocol.take_rest())
                return
            protocol = self.protocol
            self.events.append((event, protocol.close_code if event == FAILED else protocol.data))
            if event == FAILED:
                return


@pytest.mark.parametrize("size", [0, 1, 5, 125, 126, 70_000, MAX_MESSAGE])
@pytest.mark.parametrize("cuts", [[], [1], [3, 3, 10]])
def test_a_message_is_inflated(size: int, cuts: list[int]) -> None:
    payload = (b"compressible " * (size // 13 + 1))[:size]
    receiver = Receiver()
    receiver.feed(frames(2, payload, cuts))
    assert receiver.events == [(MESSAGE, payload)]


def test_every_cut_of_the_bytes_gives_the_same() -> None:
    payload = ("é" * 300).encode()
    data = frames(1, payload, [4])
    for cut in range(len(data) + 1):
        receiver = Receiver()
        receiver.feed(data[:cut])
        receiver.feed(data[cut:])
        assert receiver.events == [(MESSAGE, payload)]


def test_byte_by_byte_with_a_ping_between_fragments_and_a_plain_message_behind() -> None:
    first, second = deflated(b"Hello" * 50)[:7], deflated(b"Hello" * 50)[7:]
    data = (
        client_frame(2, first, fin=False, reserved=RSV1)
        + client_frame(9, b"ping")
        + client_frame(0, second)
        + client_frame(1, b"plain")
    )
    receiver = Receiver()
    for i in range(len(data)):
        receiver.feed(data[i : i + 1])
    assert receiver.events == [(PING, b"ping"), (MESSAGE, b"Hello" * 50), (MESSAGE, b"plain")]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.lists(st.integers(0, 40), max_size=3))
def test_context_takeover(payloads: list[bytes], cuts: list[int]) -> None:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    receiver = Receiver(takeover=True)
    for payload in payloads:
        data = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        receiver.feed(client_frame(2, data, reserved=RSV1))
    assert receiver.events == [(MESSAGE, payload) for payload in payloads]


def last_block(payload: bytes) -> bytes:
    """Return a deflated payload whose last block is marked as such (BFINAL), up to the end of its byte."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(payload) + compressor.flush(zlib.Z_FINISH)


FORMS = {  # of a message "Hello" (RFC 7692 section 7.2.3), in frames
    "no last block": [deflated(b"Hello")],
    "a last block with the octet that section 7.2.3.4 appends": [last_block(b"Hello") + b"\0"],
    "a last block and nothing behind it": [last_block(b"Hello")],
    "the same, and an empty frame": [last_block(b"Hello"), b""],
    "the octet in a frame of its own": [last_block(b"Hello"), b"\0"],
    "two last blocks": [last_block(b"Hel") + last_block(b"lo")],
    "two last blocks with the octet": [last_block(b"Hel") + last_block(b"lo") + b"\0"],
    "a last block in the middle": [last_block(b"Hel") + deflated(b"lo")],
    "a last block in the middle, at the end of a frame": [last_block(b"Hel"), deflated(b"lo")],
    "a last block at the end of a frame, and one behind it": [last_block(b"Hel"), last_block(b"lo")],
    "an empty last block at the end": [last_block(b"Hello") + last_block(b"")],
}


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_messages_end_leaves_the_next_message_whole(form: str, takeover: bool) -> None:
    pieces = FORMS[form]
    data = b"".join(
        client_frame(0 if number else 2, piece, fin=number == len(pieces) - 1, reserved=0 if number else RSV1)
        for number, piece in enumerate(pieces)
    )
    again = client_frame(2, deflated(b"again"), reserved=RSV1)
    for cut in range(len(data) + 1):
        receiver = Receiver(takeover=takeover)
        for part in (again, data[:cut], data[cut:], data, again):
            receiver.feed(part)
        texts = [b"again", b"Hello", b"Hello", b"again"]
        assert receiver.events == [(MESSAGE, text) for text in texts]


@pytest.mark.parametrize("takeover", [False, True])
def test_a_message_without_a_payload_is_empty_and_leaves_the_window_as_it_was(takeover: bool) -> None:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    receiver = Receiver(takeover=takeover)
    empty = client_frame(2, b"", reserved=RSV1)
    in_frames = client_frame(2, b"", fin=False, reserved=RSV1) + client_frame(0, b"")
    for data in (empty, in_frames):
        if not takeover:
            compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
        text = compressor.compress(b"Hello Hello Hello") + compressor.flush(zlib.Z_SYNC_FLUSH)
        receiver.feed(data)
        receiver.feed(client_frame(2, text[:-4], reserved=RSV1))
    assert receiver.events == [(MESSAGE, b""), (MESSAGE, b"Hello Hello Hello")] * 2


def test_what_stands_behind_a_last_block_must_be_deflated_too() -> None:
    receiver = Receiver(takeover=True)
    receiver.feed(client_frame(2, last_block(b"Hello") + b"\xff\xff", reserved=RSV1))
    assert receiver.events == [(FAILED, 1007)]


def test_last_blocks_without_end_never_hold_the_loop() -> None:
    """Each of them takes a new decompressor, though it inflates to nothing."""
    receiver = Receiver(takeover=True)
    receiver.feed(client_frame(2, last_block(b"") * 1000 + last_block(b"Hello"), reserved=RSV1))
    assert receiver.events == [(MESSAGE, b"Hello")]
    assert receiver.yields == 1001 * LAST_BLOCK_COST // INFLATE_BYTES


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client_frame(2, b"\xff\xff\xff\xff", reserved=RSV1), 1007),
        (client_frame(1, deflated(b"\xff\xfe"), reserved=RSV1), 1007),
        (client_frame(1, deflated("é".encode()[:1]), reserved=RSV1), 1007),
        (client_frame(2, deflated(b"x" * (MAX_MESSAGE + 1)), reserved=RSV1), 1009),
        (client_frame(2, b"x" * (MAX_MESSAGE + 1)), 1009),
        (client_frame(9, deflated(b"ping"), reserved=RSV1), 1002),
        (client_frame(2, b"", fin=False) + client_frame(0, deflated(b"x"), reserved=RSV1), 1002),
        (client_frame(2, deflated(b"x"), reserved=0x20), 1002),
    ],
)
def test_what_breaks_the_rules_ends_the_connection(data: bytes, code: int) -> None:
    receiver = Receiver()
    receiver.feed(data)
    assert receiver.events[-1] == (FAILED, code)


def test_bad_text_fails_before_its_message_is_whole() -> None:
    compressor = zlib.compressobj(0, zlib.DEFLATED, -15)
    data = compressor.compress(b"\xff" + b"x" * 50_000) + compressor.flush(zlib.Z_SYNC_FLUSH)
    receiver = Receiver()
    receiver.feed(client_frame(1, data, reserved=RSV1, fin=False))
    assert receiver.events == [(FAILED, 1007)]


@pytest.mark.parametrize("size", [MAX_MESSAGE - 1, MAX_MESSAGE])
def test_what_does_not_shrink_may_be_as_long_as_the_limit(size: int) -> None:
    payload = bytes(i * i * 31 % 251 for i in range(size))
    receiver = Receiver()
    receiver.feed(client_frame(2, deflated(payload, level=0), reserved=RSV1))
    assert receiver.events == [(MESSAGE, payload)]


def test_without_an_agreement_the_bit_is_a_violation() -> None:
    protocol = Protocol(MAX_MESSAGE, 1000)
    data = client_frame(2, deflated(b"x"), reserved=RSV1)
    buffer = bytearray(HEADROOM) + data
    protocol.receive_data(buffer, HEADROOM, len(buffer))
    assert protocol.next_event() == FAILED
    assert protocol.close_code == 1002


def test_a_bomb_costs_no_more_than_the_limit_and_never_holds_the_loop() -> None:
    """A megabyte that would inflate to a gigabyte."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(1024)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 1 << 21
    limit = 1 << 20
    receiver = Receiver(max_message=limit)
    data = client_frame(2, bomb[: limit // 2], reserved=RSV1, fin=False)
    tracemalloc.start()
    receiver.feed(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert receiver.events == [(FAILED, 1009)]
    assert receiver.yields == limit // INFLATE_BYTES
    assert peak < 4 * limit
