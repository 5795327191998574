"""What a new process says until it serves, without starting any."""

from __future__ import annotations

import pytest

from tests.supervisor.process_parts import TestParts


def test_a_worker_that_serves_after_a_death_is_said_once(parts: TestParts, log: pytest.LogCaptureFixture) -> None:
    parts.end(parts.worker(1), -9)
    parts.run_due()
    successor = parts.worker(1)
    for _ in range(2):  # a replaced master says it again
        parts.ready(successor)
    said = [record.getMessage() for record in log.records if "replaces" in record.getMessage()]
    assert said == [f"{successor} replaces the one that has ended (SIGKILL)"]
    log.clear()
    parts.rollouts.reload()
    parts.all_ready()
    assert "reload: done" in log.text
    assert "replaces" not in log.text, "nobody has died"
