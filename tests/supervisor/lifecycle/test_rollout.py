"""Reloads, without starting any process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.supervisor.process_parts import TestParts

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
