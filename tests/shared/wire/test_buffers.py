"""Appending to a bytearray: the same bytes on both builds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zwoole.shared.websocket.frames import build_frame
from zwoole.shared.wire.buffers import append_frame, append_slice


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 300))))
def test_parts_are_appended_as_they_are(parts: list[tuple[bytes, int, int]]) -> None:
    out, expected = bytearray(b"before"), b"before"
    for data, first, second in parts:
        start, end = sorted((first % (len(data) + 1), second % (len(data) + 1)))
        append_slice(out, data, start, end - start)
        expected += data[start:end]
    assert out == expected


def test_a_large_part() -> None:
    out = bytearray()
    append_slice(out, b"x" * 1_000_000, 1, 999_998)
    append_slice(out, b"", 0, 0)
    assert out == b"x" * 999_998


@given(st.binary(max_size=400), st.integers(0, 400), st.integers(0, 400), st.sampled_from([None, b"", b"before"]))
def test_a_frame_is_appended_as_one_is_built(data: bytes, first: int, second: int, before: bytes | None) -> None:
    start, end = sorted((first % (len(data) + 1), second % (len(data) + 1)))
    out = append_frame(None if before is None else bytearray(before), 0x82, data, start, end - start)
    assert out == (before or b"") + build_frame(2, data[start:end])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 255, 256, 65535])
def test_every_form_of_the_length(size: int) -> None:
    assert append_frame(None, 0x81, b"-" + b"x" * size, 1, size) == build_frame(1, b"x" * size)
