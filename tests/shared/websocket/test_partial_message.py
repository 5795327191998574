"""The parts of a message are joined correctly, whatever their sizes."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from zwoole.shared.websocket.partial_message import PIECE, Pieces

SIZES = st.one_of(st.integers(0, 300), st.sampled_from([PIECE - 1, PIECE, PIECE + 1, 65536]))


@given(sizes=st.lists(SIZES, max_size=30))
def test_the_parts_come_back_as_one(sizes: list[int]) -> None:
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]
    pieces = Pieces()
    for part in parts:
        pieces.add(part)
        assert pieces.size <= sum(sizes)
    assert pieces.size == sum(sizes)
    assert pieces.join() == b"".join(parts)


def test_a_large_part_is_kept_without_a_copy() -> None:
    part = bytes(PIECE)
    before = sys.getrefcount(part)
    pieces = Pieces()
    pieces.add(part)
    assert sys.getrefcount(part) == before + 1
