"""Reloads, without starting any process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.supervisor.process_parts import TestParts
from zwoole.supervisor.lifecycle.rollout import MAX_WAITING

Make = Callable[..., TestParts]


def test_a_boot_that_takes_too_long_says_so_wherever_it_is_reported(make: Make) -> None:
    parts = make()
    parts.all_ready()
    answers: list[dict[str, Any]] = []
    parts.rollouts.reload(lambda **fields: answers.append(fields))
    hanging = parts.worker(0)
    hanging.abort("it does not become ready: no hello after 60 s (boot_timeout)")
    parts.end(hanging, -6)
    (answer,) = answers
    assert "was ended by zwoole with SIGABRT: it does not become ready: no hello after 60 s" in answer["error"]


def test_a_reload_without_room_fails_and_changes_nothing(parts: TestParts) -> None:
    before = parts.processes.all()
    parts.lack = "no space left"
    answers: list[dict[str, Any]] = []
    parts.rollouts.reload(lambda **fields: answers.append(fields))
    assert answers == [{"error": "reload failed, the old workers stay in service: no space left"}]
    assert parts.processes.all() == before
    parts.lack = ""
    parts.rollouts.reload()
    assert len(parts.workers) == 4


def test_the_reloads_that_wait_become_one_and_no_more_wait_than_may(parts: TestParts) -> None:
    answers: dict[str, dict[str, Any]] = {}

    def reload(name: str) -> None:
        parts.rollouts.reload(lambda **fields: answers.update({name: fields}))

    reload("first")
    for number in range(MAX_WAITING):
        reload(f"waiting {number}")
    reload("one too many")
    assert answers == {"one too many": {"error": f"{MAX_WAITING} reloads wait already"}}
    parts.all_ready()
    merged = {f"waiting {number}": {"result": {"merged": True}} for number in range(MAX_WAITING - 1)}
    assert merged.items() <= answers.items()
    assert "result" in answers["first"]
    assert f"waiting {MAX_WAITING - 1}" not in answers
    parts.all_ready()
    assert answers[f"waiting {MAX_WAITING - 1}"]["result"]["workers"] == 2
