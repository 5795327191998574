"""The frame codec, byte by byte: one test per rule of RFC 6455 section 5.2."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tests.client_frames import BOUNDARY_SIZES, KEY, client_frame
from zwoole.shared.websocket.frames import (
    HEADER_INCOMPLETE,
    HEADER_INVALID,
    MAX_CONTROL_PAYLOAD,
    OP_BINARY,
    OP_CLOSE,
    OP_CONTINUATION,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    FrameHeader,
    append_header,
    build_frame,
    read_header,
)

LIMIT = 1 << 20
DATA_OPCODES = [OP_CONTINUATION, OP_TEXT, OP_BINARY]
CONTROL_OPCODES = [OP_CLOSE, OP_PING, OP_PONG]
RESERVED_OPCODES = [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF]

# (rule, header, close code, number of bytes after which it is refused)
VIOLATIONS = [
    *((f"reserved bit {bit:#x}", client_frame(OP_TEXT, reserved=bit), 1002, 1) for bit in (0x10, 0x20, 0x40)),
    *((f"opcode {opcode:#x}", client_frame(opcode), 1002, 1) for opcode in RESERVED_OPCODES),
    *((f"fragmented control {opcode:#x}", client_frame(opcode, fin=False), 1002, 1) for opcode in CONTROL_OPCODES),
    *((f"126 bytes of {opcode:#x}", client_frame(opcode, length=126), 1002, 2) for opcode in CONTROL_OPCODES),
    *((f"65536 bytes of {opcode:#x}", client_frame(opcode, length=65536), 1002, 2) for opcode in CONTROL_OPCODES),
    *((f"unmasked {n}", client_frame(OP_TEXT, key=None, length=n), 1002, 2) for n in BOUNDARY_SIZES),
    *((f"{n} in 2 bytes", client_frame(OP_BINARY, length=n, length_bytes=2), 1002, 4) for n in (0, 1, 125)),
    *((f"{n} in 8 bytes", client_frame(OP_BINARY, length=n, length_bytes=8), 1002, 10) for n in (0, 125, 126, 65535)),
    *((f"{n:#x} bytes", client_frame(OP_BINARY, length=n), 1002, 10) for n in (1 << 63, (1 << 63) + 1, (1 << 64) - 1)),
    *((f"{n:#x} bytes", client_frame(OP_BINARY, length=n), 1009, 10) for n in (LIMIT + 1, 1 << 32, (1 << 63) - 1)),
]

# Each header breaks the rule it is named for, and as many later rules as one header can.
IN_ORDER = [
    ("reserved bit", bytes([0x3F, 0x7F])),
    ("unknown opcode", bytes([0x0F, 0x7F])),
    ("fragmented control frame", bytes([0x09, 0x7F])),
    ("longer than 125 bytes", bytes([0x89, 0x7F])),
    ("without a mask", bytes([0x82, 0x7E, 0, 125])),
    ("shortest form", bytes([0x82, 0xFE, 0, 125])),
    ("2^63", bytes([0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0])),
    ("too big", bytes([0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0])),
]


def read(data: bytes, limit: int = LIMIT, allow_rsv1: bool = False) -> tuple[int, FrameHeader]:
    header = FrameHeader()
    return read_header(header, bytearray(data), 0, len(data), limit, allow_rsv1), header


@pytest.mark.parametrize("length", BOUNDARY_SIZES)
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("opcode", DATA_OPCODES)
def test_a_data_header_is_read_at_every_boundary_of_its_length(opcode: int, fin: bool, length: int) -> None:
    data = client_frame(opcode, fin=fin, length=length)
    size, header = read(data)
    assert size == len(data)
    assert (header.opcode, header.fin, header.rsv1, header.length) == (opcode, fin, False, length)
    assert header.key == int.from_bytes(KEY, "big")


@pytest.mark.parametrize("length", [0, 1, MAX_CONTROL_PAYLOAD])
@pytest.mark.parametrize("opcode", CONTROL_OPCODES)
def test_a_control_header_is_read(opcode: int, length: int) -> None:
    size, header = read(client_frame(opcode, length=length))
    assert (size, header.opcode, header.fin, header.length) == (6, opcode, True, length)


@given(length=st.integers(0, (1 << 63) - 1), key=st.binary(min_size=4, max_size=4))
@example(length=(1 << 63) - 1, key=b"\xff\xff\xff\xff")
def test_every_length_below_2_63_and_every_key_is_read_as_it_was_written(length: int, key: bytes) -> None:
    data = client_frame(OP_BINARY, length=length, key=key)
    size, header = read(data, limit=(1 << 63) - 1)
    assert (size, header.length, header.key) == (len(data), length, int.from_bytes(key, "big"))


@pytest.mark.parametrize("length", BOUNDARY_SIZES)
def test_a_header_that_is_cut_short_is_incomplete(length: int) -> None:
    data = client_frame(OP_TEXT, length=length)
    assert [read(data[:size])[0] for size in range(len(data))] == [HEADER_INCOMPLETE] * len(data)


def test_only_the_bytes_between_start_and_end_are_looked_at() -> None:
    frame = client_frame(OP_PING, b"hello")
    buffer = bytearray(b"\xff" * 3 + frame + b"\xff" * 3)
    header = FrameHeader()
    assert read_header(header, buffer, 3, 3 + 6, LIMIT, False) == 6
    assert (header.opcode, header.length) == (OP_PING, 5)
    assert [read_header(header, buffer, 3, 3 + size, LIMIT, False) for size in range(6)] == [HEADER_INCOMPLETE] * 6


def test_the_longest_header_has_eight_bytes_of_length_and_four_of_mask() -> None:
    size, _ = read(client_frame(OP_BINARY, length=65536))
    assert size == 2 + 8 + 4


@pytest.mark.parametrize(("data", "code", "at"), [v[1:] for v in VIOLATIONS], ids=[v[0] for v in VIOLATIONS])
def test_a_violation_is_refused_as_soon_as_the_field_that_proves_it_is_there(data: bytes, code: int, at: int) -> None:
    answers = [read(data[:size])[0] for size in range(len(data) + 1)]
    assert answers == [HEADER_INCOMPLETE] * at + [HEADER_INVALID] * (len(data) + 1 - at)
    assert read(data)[1].error_code == code


@pytest.mark.parametrize(("words", "data"), IN_ORDER, ids=[words for words, _ in IN_ORDER])
def test_the_first_rule_that_is_broken_is_the_one_that_is_named(words: str, data: bytes) -> None:
    answer, header = read(data, limit=0)
    assert answer == HEADER_INVALID
    assert words in header.error


@pytest.mark.parametrize("limit", [n for n in BOUNDARY_SIZES if n])
@pytest.mark.parametrize("opcode", DATA_OPCODES)
def test_the_limit_itself_may_be_announced_and_one_more_may_not(opcode: int, limit: int) -> None:
    assert read(client_frame(opcode, length=limit), limit)[0] > 0
    answer, header = read(client_frame(opcode, length=limit + 1), limit)
    assert (answer, header.error_code) == (HEADER_INVALID, 1009)


@pytest.mark.parametrize("opcode", CONTROL_OPCODES)
def test_the_limit_does_not_concern_control_frames(opcode: int) -> None:
    assert read(client_frame(opcode, length=125), limit=0)[0] == 6


@pytest.mark.parametrize("opcode", [OP_TEXT, OP_BINARY])
def test_an_extension_may_set_rsv1_on_a_messages_first_frame(opcode: int) -> None:
    size, header = read(client_frame(opcode, reserved=0x40), allow_rsv1=True)
    assert (size, header.rsv1) == (6, True)


@pytest.mark.parametrize("opcode", [OP_CONTINUATION, *CONTROL_OPCODES])
def test_an_extension_may_not_set_rsv1_on_any_other_frame(opcode: int) -> None:
    assert read(client_frame(opcode, reserved=0x40), allow_rsv1=True)[0] == HEADER_INVALID


@pytest.mark.parametrize("bit", [0x10, 0x20])
def test_an_extension_that_uses_rsv1_allows_no_other_bit(bit: int) -> None:
    assert read(client_frame(OP_TEXT, reserved=bit), allow_rsv1=True)[0] == HEADER_INVALID


@pytest.mark.parametrize("size", BOUNDARY_SIZES)
@pytest.mark.parametrize("opcode", [OP_TEXT, OP_BINARY])
def test_a_built_frame_is_the_one_another_library_builds(opcode: int, size: int) -> None:
    payload = b"x" * size
    assert build_frame(opcode, payload) == Frame(Opcode(opcode), payload).serialize(mask=False)


@given(length=st.integers(0, (1 << 63) - 1), fin=st.booleans(), opcode=st.sampled_from(DATA_OPCODES))
def test_an_appended_header_is_the_unmasked_one_with_the_shortest_length(length: int, fin: bool, opcode: int) -> None:
    out = bytearray(b"before")
    append_header(out, fin << 7 | opcode, length)
    assert out == b"before" + client_frame(opcode, fin=fin, length=length, key=None)
