"""Reads and judges the report of Autobahn|Testsuite's fuzzing client.

The suite gives two verdicts per case: on the server's behaviour, and on how the connection ended. Both must be OK or,
where RFC 6455 leaves the answer open, INFORMATIONAL. NON-STRICT and UNIMPLEMENTED count as failures, and so does a case
that was not run: a suite that stopped halfway must not look successful.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ACCEPTED = ("OK", "INFORMATIONAL")

# Title of each chapter, and its number of cases in version 0.8.2; there is no chapter 8 or 11.
CHAPTERS = {
    1: ("framing", 16),
    2: ("pings and pongs", 11),
    3: ("reserved bits", 7),
    4: ("opcodes", 10),
    5: ("fragmentation", 20),
    6: ("UTF-8 handling", 145),
    7: ("close handling", 37),
    9: ("limits and performance", 54),
    10: ("auto-fragmentation", 1),
    12: ("permessage-deflate, by payload", 90),
    13: ("permessage-deflate, by parameters", 126),
}

MARKUP = re.compile(r"(?:<[^>]*>|\s)+")


@dataclass(frozen=True)
class Case:
    """One case and its verdicts.

    Attributes:
        number: the suite's number, such as `6.4.3`.
        behavior: the verdict on the server's answer.
        behavior_close: the verdict on how the connection ended.
        seconds: how long it took.
        details: for a failed case, the suite's description of what it did, expected and saw.
    """

    number: str
    behavior: str
    behavior_close: str
    seconds: float
    details: tuple[str, ...] = ()

    @property
    def chapter(self) -> int:
        """The first part of its number."""
        return int(self.number.split(".")[0])

    @property
    def passed(self) -> bool:
        """Whether both verdicts are accepted."""
        return self.behavior in ACCEPTED and self.behavior_close in ACCEPTED

    def failure(self) -> str:
        """Return the verdicts and the details, as lines."""
        verdicts = f"{self.number}: behavior {self.behavior}, close {self.behavior_close}"
        return "\n    ".join((verdicts, *self.details))


def read_report(folder: Path) -> list[Case]:
    """Return the cases of the only server in a report folder's index, in the suite's order.

    Raises:
        OSError, ValueError, KeyError: the folder contains no report.
    """
    (verdicts,) = json.loads((folder / "index.json").read_text()).values()
    cases = []
    for number, entry in sorted(verdicts.items(), key=lambda item: [int(part) for part in item[0].split(".")]):
        case = Case(number, entry["behavior"], entry["behaviorClose"], entry["duration"] / 1000)
        cases.append(case if case.passed else replace(case, details=_details(folder / entry["reportfile"])))
    return cases


def failures(cases: Sequence[Case], chapters: Iterable[int]) -> list[str]:
    """Return everything that contradicts conformance in the requested chapters; empty if there is nothing."""
    found = [case.failure() for case in cases if not case.passed]
    ran = Counter(case.chapter for case in cases)
    for chapter in chapters:
        _, expected = CHAPTERS[chapter]
        if ran[chapter] != expected:
            found.append(f"chapter {chapter}: {ran[chapter]} of {expected} cases have a verdict")
    return found


def table(cases: Sequence[Case]) -> str:
    """Return a line per chapter: number of cases, duration, and count of each verdict."""
    row = "{:<38}{:>6}{:>9}  {:<26}{}".format
    lines = [row("chapter", "cases", "seconds", "behavior", "close")]
    for chapter, (title, _) in CHAPTERS.items():
        own = [case for case in cases if case.chapter == chapter]
        seconds = sum(case.seconds for case in own)
        behavior = _count(case.behavior for case in own)
        close = _count(case.behavior_close for case in own)
        lines.append(row(f"{chapter:>2} {title}", len(own), f"{seconds:.1f}", behavior, close))
    return "\n".join(lines)


def _count(verdicts: Iterable[str]) -> str:
    """Return how often each verdict was given; a dash if none was."""
    return ", ".join(f"{count} {verdict}" for verdict, count in Counter(verdicts).most_common()) or "-"


def _details(file: Path) -> tuple[str, ...]:
    """Return the suite's description from the report of one case, without its markup."""
    report = json.loads(file.read_text())
    wording = {
        "case": report["description"],
        "expected": report["expectation"],
        "behavior": report["result"],
        "close": report["resultClose"],
        "unclean because": report["wasNotCleanReason"],
    }
    return tuple(f"{label}: {MARKUP.sub(' ', text).strip()}" for label, text in wording.items() if text)
