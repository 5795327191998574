"""Processes as the supervisor sees them, without starting any."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from zwoole.supervisor.core.process import EARLY_DEATH_S, Process, backoff, describe_exit
from zwoole.supervisor.core.roles import WORKER


class Popen:
    pid = 4242


class Turns:
    def read(self) -> int:
        return 0


def worker() -> Process:
    return Process(WORKER, 3, 17, Popen(), -1, Turns())  # type: ignore[arg-type]


def test_a_process_says_which_it_is() -> None:
    assert str(worker()) == "worker 3 (pid 4242)"
    assert worker().identity == b"worker-17"


def test_a_death_is_early_before_or_just_behind_its_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    process = worker()
    assert process.died_early
    process.ready_at = now
    assert process.died_early
    process.ready_at = now - EARLY_DEATH_S
    assert not process.died_early


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (-signal.SIGSEGV, "was ended by SIGSEGV (11)"),
        (-signal.SIGKILL, "was ended by SIGKILL (9): out of memory?"),
        (-50, "was ended by an unknown signal (50)"),
    ],
)
def test_an_exit_is_described(status: int, words: str) -> None:
    assert describe_exit(status) == words
    assert worker().describe_end(status) == words


def test_a_process_that_we_have_killed_is_not_said_to_have_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _, number: sent.append(number))
    monkeypatch.setattr(Process, "has_ended", lambda _: False)
    process = worker()
    process.abort("it hangs")
    assert process.describe_end(-9) == "was ended by SIGKILL (9): out of memory?"  # the supervisor has not sent it yet
    process.kill("it is killed, at last")
    assert sent == [signal.SIGABRT, signal.SIGKILL]
    assert process.describe_end(-9) == "was ended by zwoole with SIGKILL: it hangs"
    assert process.describe_end(3) == "exited with code 3"  # before the signal arrived
    assert process.describe_end(-signal.SIGSEGV) == "was ended by SIGSEGV (11)"  # the same


def test_a_process_that_has_ended_by_itself_was_not_ended_by_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to end it may come after its death."""
    with subprocess.Popen(["sleep", "600"]) as popen:
        process = Process(WORKER, 3, 17, popen, os.pidfd_open(popen.pid), Turns())  # type: ignore[arg-type]
        assert not process.has_ended()
        popen.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert process.has_ended()
        process.kill("it has closed its connection to the master")
        os.close(process.pidfd)
    assert process.describe_end(-9) == "was ended by SIGKILL (9): out of memory?"


def test_the_wait_doubles_up_to_its_limit_however_often_it_fails() -> None:
    waits = [backoff(failures) for failures in range(9)]
    assert waits == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert backoff(100_000) == 5.0
