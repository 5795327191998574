"""What a `message` callback is given, as it is printed."""

from __future__ import annotations

import pytest

from zwoole import Frame


@pytest.mark.parametrize(
    ("data", "opcode", "text"),
    [
        ("hello", 1, "<Frame fd=7 opcode=1 data='hello'>"),
        (b"hello", 2, "<Frame fd=7 opcode=2 data=b'hello'>"),
        ("x" * 1000, 1, f"<Frame fd=7 opcode=1 data='{'x' * 79}>"),
    ],
)
def test_a_frame_is_printed_with_the_beginning_of_its_data(data: str | bytes, opcode: int, text: str) -> None:
    assert repr(Frame(7, data, opcode)) == text
