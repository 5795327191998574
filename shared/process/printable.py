"""Makes text from outside safe to write to a terminal or into a line of a log."""

from __future__ import annotations

import re

# C0, DEL and C1 control characters, line and paragraph separators, marks that change the direction of text, the byte
# order mark, annotations, lone surrogates.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Return `text` on one line with each control character escaped as in Python: a newline as \n, ESC as \x1b."""
    return UNPRINTABLE.sub(escaped, text)


def escaped(found: re.Match[str]) -> str:
    """Return the escape sequence of the character that a match found."""
    return found[0].encode("unicode_escape").decode("ascii")
