"""What it means if a turn counter stands still, by the clock of the observer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.process.waiting import wait_for
from zwoole.supervisor.core.hang_detector import Liveness, held_by


class Turns:
    count = 0

    def read(self) -> int:
        return self.count


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def verdicts(liveness: Liveness, seconds: list[float], boot: float = 20.0, turn: float = 10.0) -> list[str]:
    return [liveness.look(now, boot, turn) for now in seconds]


def each_second(begin: int, end: int) -> list[float]:
    return [float(now) for now in range(begin, end)]


def test_a_process_that_turns_is_alive(turns: Turns) -> None:
    liveness = Liveness(os.getpid(), turns, 0.0)  # type: ignore[arg-type]
    for now in range(1, 100):
        turns.count += now % 2  # some checks fall between two turns
        assert verdicts(liveness, [float(now)]) == [""]


def test_one_that_does_not_turn_hangs_after_its_time(turns: Turns) -> None:
    turns.count = 7
    liveness = Liveness(os.getpid(), turns, 0.0)  # type: ignore[arg-type]
    found = verdicts(liveness, each_second(1, 13))
    assert found[:-2] == [""] * 10
    assert found[-2] == "it hangs: its loop has not turned for 10 s (worker_timeout)"


def test_one_that_has_not_turned_at_all_boots_and_has_another_time(turns: Turns) -> None:
    liveness = Liveness(os.getpid(), turns, 0.0)  # type: ignore[arg-type]
    found = verdicts(liveness, each_second(1, 21))
    assert found[:-1] == [""] * 19
    assert found[-1] == "it does not become ready: no hello after 20 s (boot_timeout)"


@pytest.mark.parametrize("count", [0, 7])
def test_0_is_any_time(turns: Turns, count: int) -> None:
    turns.count = count
    liveness = Liveness(os.getpid(), turns, 0.0)  # type: ignore[arg-type]
    assert set(verdicts(liveness, each_second(1, 1000), boot=0.0, turn=0.0)) == {""}


def test_a_supervisor_that_was_stopped_itself_does_not_count_that(turns: Turns) -> None:
    turns.count = 7
    liveness = Liveness(os.getpid(), turns, 0.0)  # type: ignore[arg-type]
    assert verdicts(liveness, [1.0, 1001.0, 2001.0, 2002.0]) == [""] * 4


def test_a_stopped_process_does_not_hang_and_has_its_whole_time_afterwards(
    turns: Turns, process: subprocess.Popen[bytes]
) -> None:
    turns.count = 7
    liveness = Liveness(process.pid, turns, 0.0)  # type: ignore[arg-type]
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: held_by(process.pid), "it to be stopped")
    assert set(verdicts(liveness, each_second(1, 100))) == {""}
    assert liveness.held == "it is stopped; SIGCONT lets it go on"
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: not held_by(process.pid), "it to go on")
    assert verdicts(liveness, each_second(100, 109)) == [""] * 9
    assert "hangs" in verdicts(liveness, each_second(109, 111))[-1]
    turns.count += 1
    assert verdicts(liveness, [120.0]) == [""]
    assert liveness.held == ""


def test_a_process_that_is_gone_is_held_by_nothing(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert held_by(process.pid) == ""
