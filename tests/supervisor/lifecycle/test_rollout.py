"""Reloads, without starting any process."""

from __future__ import annotations

import math
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
    assert answers["first"]["result"]["workers"] == 2
    assert "waiting 0" not in answers, "their reload has only begun"
    parts.all_ready()
    done = answers["waiting 0"]
    assert done["result"]["workers"] == 2
    assert all(answers[f"waiting {number}"] == done for number in range(MAX_WAITING))


def test_a_worker_that_has_asked_to_be_replaced_is_replaced_when_the_code_boots_again(parts: TestParts) -> None:
    (old,) = [worker for worker in parts.workers if worker.id == 0]
    parts.rollouts.recycle_asked(old, "max_request", "it has run 50 events")
    parts.end(parts.worker(0), 3)
    assert old in parts.processes.all()
    assert old.not_replaced_before > 0
    old.not_replaced_before = math.inf
    parts.health.check(old, old.started)
    assert len(parts.workers) == 2, "not at once"
    old.not_replaced_before = 0.0
    parts.health.check(old, old.started)
    assert len(parts.workers) == 3
    parts.all_ready()
    assert old.retiring


def test_a_worker_that_has_asked_during_a_reload_that_fails_is_replaced_later(parts: TestParts) -> None:
    (old,) = [worker for worker in parts.workers if worker.id == 0]
    parts.rollouts.reload()
    parts.rollouts.recycle_asked(old, "SIGTERM", "it was sent SIGTERM")
    parts.end(parts.worker(0), 3)
    assert not old.retiring
    old.not_replaced_before = 0.0
    parts.health.check(old, old.started)
    parts.all_ready()
    assert old.retiring
