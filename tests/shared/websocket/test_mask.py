"""The masking kernel compared with two lines of plain Python, and the checks for ASCII and UTF-8."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client_frames import KEY, masked
from zwoole.shared.websocket.mask import is_ascii, is_utf8, unmask

PATTERN = bytes(range(256))

BAD_UTF8 = [
    b"\x80",  # a continuation byte without a first byte
    b"\xc0\x80",  # overlong
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xed\xa0\x80",  # the first and the last surrogate
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",  # above U+10FFFF
    b"\xf5\x80\x80\x80",
    b"\xff",
    b"\xc3",  # incomplete
    b"\xe2\x82",
    b"\xf0\x9f\x98",
]


@pytest.mark.parametrize("phase", range(4))
def test_every_size_in_every_phase_is_unmasked_as_the_rfc_has_it(phase: int) -> None:
    for size in range(71):
        source = bytearray(PATTERN[:size])
        assert unmask(source, 0, size, int.from_bytes(KEY, "big"), phase) == masked(bytes(source), KEY, phase)


@pytest.mark.parametrize("start", range(17))
def test_the_source_may_begin_at_any_alignment_and_stays_as_it_is(start: int) -> None:
    source = bytearray(PATTERN)
    for end in (start, start + 1, start + 7, start + 8, start + 64, 256):
        assert unmask(source, start, end, int.from_bytes(KEY, "big"), 0) == masked(PATTERN[start:end], KEY)
    assert source == PATTERN


@given(source=st.binary(max_size=300), key=st.binary(min_size=4, max_size=4), phase=st.integers(0, 3), data=st.data())
def test_any_slice_with_any_key_is_unmasked_as_the_rfc_has_it(
    source: bytes, key: bytes, phase: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(source)))
    end = data.draw(st.integers(start, len(source)))
    assert unmask(bytearray(source), start, end, int.from_bytes(key, "big"), phase) == masked(
        source[start:end], key, phase
    )


def test_a_payload_unmasked_in_pieces_is_the_payload() -> None:
    source = bytearray(masked(PATTERN, KEY))
    for cut in range(257):
        key = int.from_bytes(KEY, "big")
        assert unmask(source, 0, cut, key, 0) + unmask(source, cut, 256, key, cut & 3) == PATTERN


@pytest.mark.parametrize("size", range(1, 26))
def test_one_top_bit_anywhere_is_not_ascii(size: int) -> None:
    plain = b"\x7f" * size
    assert is_ascii(plain)
    assert not any(is_ascii(plain[:at] + b"\x80" + plain[at + 1 :]) for at in range(size))


def test_nothing_is_ascii_and_utf8() -> None:
    assert is_ascii(b"")
    assert is_utf8(b"")


@pytest.mark.parametrize("text", ["ascii", "é", "€", "😀", "\0", "\ud7ff\ue000", "\uffff", "\U0010ffff"])
def test_every_length_of_character_is_utf8(text: str) -> None:
    assert is_utf8(text.encode())


@pytest.mark.parametrize("bad", BAD_UTF8, ids=bytes.hex)
@pytest.mark.parametrize("before", ["", "seven b", "eight by", "naïve"])
def test_surrogates_overlong_forms_and_cut_characters_are_not_utf8(before: str, bad: bytes) -> None:
    assert not is_utf8(before.encode() + bad)


@given(st.one_of(st.binary(), st.text().map(str.encode)))
def test_utf8_is_what_python_decodes(data: bytes) -> None:
    assert is_utf8(data) == (data.decode("utf-8", "replace").encode() == data)
    assert is_ascii(data) == data.isascii()
