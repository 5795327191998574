"""How missing processes are described."""

from __future__ import annotations

from zwoole.supervisor.lifecycle.missing_processes import NAMED, Missing, describe


def test_one_line_names_some_of_many() -> None:
    many = [Missing("worker", index, True, 0, None, "") for index in range(NAMED + 2)]
    assert describe(many[:2]) == "worker 0: starting; worker 1: starting"
    assert describe(many).endswith(f"worker {NAMED - 1}: starting; and 2 more")
    assert describe([]) == ""
