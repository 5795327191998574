"""The end of replaced workers, without starting any."""

from __future__ import annotations

import pytest

from tests.supervisor.process_parts import TestParts
from zwoole.shared.settings import FINISH_SHARE, Settings
from zwoole.supervisor.core.process import KILL_GRACE_S


def test_in_a_stop_the_time_of_a_replaced_worker_is_the_stops(parts: TestParts) -> None:
    worker = parts.worker(1)
    parts.rollouts.scale(to=1)
    (_, tell), (_, kill) = parts.due[-2:]
    parts.processes.stopping = True
    tell()
    kill()
    assert not worker.killed


@pytest.mark.parametrize("ends", ["by itself", "when told", "by a kill"])
def test_a_replaced_worker_that_goes_on_is_told_to_end_then_killed(
    parts: TestParts, log: pytest.LogCaptureFixture, ends: str
) -> None:
    worker = parts.worker(1)
    parts.rollouts.scale(to=1)
    (told_s, tell), (killed_s, kill) = parts.due[-2:]
    settings = Settings()
    assert told_s == settings.handover_timeout + FINISH_SHARE * settings.max_wait_time
    assert killed_s == settings.handover_timeout + settings.max_wait_time + KILL_GRACE_S
    if ends == "by itself":
        parts.end(worker, 0)
    tell()
    told = [kind for kind, _ in parts.told_to(worker)]
    if ends == "by itself":
        assert "end" not in told
        return
    assert told[-2:] == ["retire", "end"]
    assert f"{worker} was replaced and has not finished in time: cancelling what still runs there" in log.text
    if ends == "when told":
        parts.end(worker, 0)
    kill()
    assert (worker.killed != "") == (ends == "by a kill")
