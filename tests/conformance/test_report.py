"""The reader of the conformance report must find every kind of failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.report import CHAPTERS, failures, read_report, table

REPORT = {
    "description": "Send a text<br><br>in two  fragments.",
    "expectation": "It comes <b>back</b>.",
    "result": "Actual events differ from any expected.",
    "resultClose": "The connection was failed by the wrong endpoint",
    "wasNotCleanReason": None,
}


def write_report(folder: Path, changed: dict[str, dict[str, Any] | None]) -> Path:
    """Write the report of a successful run of chapter 3, except for what is `changed`; None omits a case."""
    index = {}
    for case in range(1, 8):
        number = f"3.{case}"
        entry = {"behavior": "OK", "behaviorClose": "OK", "duration": 1500, "reportfile": f"{number}.json"}
        change = changed.get(number, {})
        if change is not None:
            index[number] = {**entry, **change}
            (folder / f"{number}.json").write_text(json.dumps(REPORT))
    (folder / "index.json").write_text(json.dumps({"zwoole": index}))
    return folder


def failures_of(folder: Path, changed: dict[str, dict[str, Any] | None]) -> list[str]:
    return failures(read_report(write_report(folder, changed)), [3])


def test_a_run_where_all_is_well_has_no_failures(tmp_path: Path) -> None:
    assert failures_of(tmp_path, {}) == []


def test_informational_is_no_failure(tmp_path: Path) -> None:
    verdict = {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"}
    assert failures_of(tmp_path, {"3.4": verdict}) == []


@pytest.mark.parametrize("verdict", ["FAILED", "NON-STRICT", "UNIMPLEMENTED", "NO_CLOSE", "a verdict not known today"])
def test_any_other_behavior_is_a_failure(verdict: str, tmp_path: Path) -> None:
    (failure,) = failures_of(tmp_path, {"3.4": {"behavior": verdict}})
    assert failure.splitlines()[0] == f"3.4: behavior {verdict}, close OK"


@pytest.mark.parametrize("verdict", ["FAILED", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT", "UNIMPLEMENTED"])
def test_any_other_end_is_a_failure(verdict: str, tmp_path: Path) -> None:
    (failure,) = failures_of(tmp_path, {"3.4": {"behaviorClose": verdict}})
    assert failure.splitlines()[0] == f"3.4: behavior OK, close {verdict}"


def test_each_failure_is_told(tmp_path: Path) -> None:
    found = failures_of(tmp_path, {"3.2": {"behavior": "NON-STRICT"}, "3.7": {"behaviorClose": "UNCLEAN"}})
    assert [failure.split(":")[0] for failure in found] == ["3.2", "3.7"]


def test_a_case_without_a_verdict_is_a_failure(tmp_path: Path) -> None:
    assert failures_of(tmp_path, {"3.7": None}) == ["chapter 3: 6 of 7 cases have a verdict"]


def test_a_chapter_without_a_case_is_a_failure(tmp_path: Path) -> None:
    cases = read_report(write_report(tmp_path, {}))
    assert failures(cases, [3, 12]) == ["chapter 12: 0 of 90 cases have a verdict"]


def test_a_failure_is_told_in_the_words_of_the_suite(tmp_path: Path) -> None:
    (failure,) = failures_of(tmp_path, {"3.4": {"behavior": "FAILED", "behaviorClose": "FAILED"}})
    assert failure.splitlines()[1:] == [
        "    case: Send a text in two fragments.",
        "    expected: It comes back .",
        "    behavior: Actual events differ from any expected.",
        "    close: The connection was failed by the wrong endpoint",
    ]


def test_a_folder_without_a_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"index\.json"):
        read_report(tmp_path)


def test_the_table_counts_verdicts_and_seconds_by_chapter(tmp_path: Path) -> None:
    cases = read_report(
        write_report(tmp_path, {"3.2": {"behavior": "NON-STRICT"}, "3.7": {"behaviorClose": "UNCLEAN"}})
    )
    (line,) = [line for line in table(cases).splitlines() if line.startswith(" 3 ")]
    assert " ".join(line.split()) == "3 reserved bits 7 10.5 6 OK, 1 NON-STRICT 6 OK, 1 UNCLEAN"


def test_the_suite_has_517_cases() -> None:
    assert sum(cases for _, cases in CHAPTERS.values()) == 517
