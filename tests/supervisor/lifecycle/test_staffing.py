"""Starting processes, without starting any: what happens if one cannot be started."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.supervisor.process_parts import TestParts
from zwoole.shared.errors import StartError
from zwoole.supervisor.core.process import MAX_BACKOFF_S


@pytest.mark.parametrize("role", ["worker", "master"])
def test_what_cannot_be_started_now_is_tried_again(parts: TestParts, role: str) -> None:
    process = parts.worker(1) if role == "worker" else parts.masters[0]
    number = len(parts.processes.running)
    parts.lack = "no space left"
    parts.end(process, -9)
    for _ in range(3):
        assert MAX_BACKOFF_S in parts.run_due() or parts.due
        assert len(parts.processes.running) == number - 1
    parts.lack = ""
    parts.run_due()
    assert len(parts.processes.running) == number


def test_a_server_does_not_start_without_room(tmp_path: Path) -> None:
    parts = TestParts(tmp_path)
    parts.lack = "no space left"
    with pytest.raises(StartError, match="no process can be started; the reason is above"):
        parts.staffing.start_all()
    parts.close()


def test_a_system_that_starts_no_process_is_an_error_that_is_logged(
    parts: TestParts, log: pytest.LogCaptureFixture
) -> None:
    number = len(parts.processes.running)
    parts.spawner.failure = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    parts.end(parts.worker(1), -9)
    parts.run_due()
    assert "cannot start worker 1: Resource temporarily unavailable" in log.text
    parts.spawner.failure = None
    parts.run_due()
    assert len(parts.processes.running) == number
