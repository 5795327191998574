"""Files that processes leave for each other in the run directory."""

from __future__ import annotations

from pathlib import Path

from zwoole.shared.process.run_files import FAILURE, MOST_FAILURES, forget_failures, is_first_failure


def test_a_failure_is_the_first_of_its_kind_until_they_are_forgotten(tmp_path: Path) -> None:
    assert [is_first_failure(tmp_path, text) for text in ("a", "a", "b", "a")] == [True, False, True, False]
    forget_failures(tmp_path)
    assert is_first_failure(tmp_path, "a")


def test_failures_that_differ_each_time_leave_a_bounded_number_of_files(tmp_path: Path) -> None:
    texts = [str(number) for number in range(2 * MOST_FAILURES)]
    assert all(is_first_failure(tmp_path, text) for text in texts)
    assert len(list(tmp_path.glob(f"{FAILURE}*"))) == MOST_FAILURES
    assert not is_first_failure(tmp_path, texts[0])
    assert is_first_failure(tmp_path, texts[-1]), "it is shown each time, since it could not be noted"


def test_without_a_directory_each_is_shown(tmp_path: Path) -> None:
    assert is_first_failure(tmp_path / "gone", "a")
    assert is_first_failure(tmp_path / "gone", "a")
