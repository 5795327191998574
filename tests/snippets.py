"""The fenced blocks of the documentation's pages, and the commands within its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"),
    *sorted((ROOT / "docs").glob("**/*.md")),
]

MESSAGES = "troubleshooting.md"  # its tables start with messages, not commands

FENCE = re.compile(r"(?:^<!-- not run: ([^>]+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`((?:zwoole|make) [^`]+)`")


@dataclass
class Snippet:
    """A fenced block.

    Attributes:
        page: the page that contains it.
        line: the line number of its opening fence.
        language: the language named at the fence.
        text: the contents.
        why_not: why it is not run, from an HTML comment before it, `<!-- not run: why -->`; "" if it is run.
    """

    page: Path
    line: int
    language: str
    text: str
    why_not: str

    def __str__(self) -> str:
        return f"{self.page.name}-{self.line}"


def snippets(*languages: str) -> list[Snippet]:
    """Return the blocks of all pages; only those in certain languages if any are named."""
    return [found for page in PAGES for found in of_page(page) if not languages or found.language in languages]


def of_page(page: Path) -> Iterator[Snippet]:
    """Yield the blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start(2)) + 1
        yield Snippet(page, line, match[2], match[3], match[1] or "")


def commands(snippet: Snippet) -> list[tuple[str, str]]:
    """Return each command of a block with its output, which only blocks with prompts show."""
    if snippet.language == "sh":
        return [(line, "") for line in snippet.text.splitlines() if line and not line.startswith("#")]
    found: list[tuple[str, str]] = []
    for line in snippet.text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:].strip(), ""))
        else:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def spans() -> list[tuple[Path, str]]:
    """Return the calls of zwoole and make within the text, outside of blocks."""
    texts = [(page, FENCE.sub("", page.read_text(encoding="utf-8"))) for page in PAGES if page.name != MESSAGES]
    messages = (ROOT / "docs" / MESSAGES).read_text(encoding="utf-8")
    texts.append((ROOT / "docs" / MESSAGES, re.sub(r"^\| `.*?` \|", "|", messages, flags=re.MULTILINE)))
    return sorted({(page, " ".join(span.split())) for page, text in texts for span in SPAN.findall(text)})
