"""Text from outside, as it is written to terminals and logs."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zwoole.shared.process.printable import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, é, 漢字\u3000, \N{CROSS MARK}", "plain text, é, 漢字\u3000, \N{CROSS MARK}"),
        ("\n\r\t\0\x1b[31m\x7f", r"\n\r\t\x00\x1b[31m\x7f"),
        ("\x85\x9b", r"\x85\x9b"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u200f\u202e\u2066", r"\u200f\u202e\u2066"),
        ("\udc80", r"\udc80"),
    ],
)
def test_control_characters_are_escaped_and_nothing_else(text: str, expected: str) -> None:
    assert printable(text) == expected


@given(st.text(st.characters(exclude_categories=())))
def test_the_result_is_one_line_without_control_characters(text: str) -> None:
    result = printable(text)
    assert not {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(character) for character in result}
    assert not {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"} & set(
        map(unicodedata.bidirectional, result)
    )
    assert len(result.splitlines()) <= 1
    assert printable(result) == result
