"""Processes as the supervisor sees them, without starting any."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from zwoole.supervisor.process import EARLY_DEATH_S, Child, backoff, describe_exit, interpreter_flags, run_module


class Process:
    pid = 4242


class Turns:
    def read(self) -> int:
        return 0


def child() -> Child:
    return Child("worker", 3, 17, Process(), -1, Turns())  # type: ignore[arg-type]


def test_a_child_says_who_it_is() -> None:
    assert str(child()) == "worker 3 (pid 4242)"
    assert child().identity == b"worker-17"


def test_a_death_is_early_before_or_just_behind_its_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    worker = child()
    assert worker.died_early
    worker.ready_at = now
    assert worker.died_early
    worker.ready_at = now - EARLY_DEATH_S
    assert not worker.died_early


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
    assert child().describe_end(status) == words


def test_a_child_that_we_have_killed_is_not_said_to_have_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _, number: sent.append(number))
    monkeypatch.setattr(Child, "has_ended", lambda _: False)
    worker = child()
    worker.abort("it hangs")
    assert worker.describe_end(-9) == "was ended by SIGKILL (9): out of memory?"  # the supervisor has not sent it yet
    worker.kill("it is killed, at last")
    assert sent == [signal.SIGABRT, signal.SIGKILL]
    assert worker.describe_end(-9) == "was ended by zwoole with SIGKILL: it hangs"
    assert worker.describe_end(3) == "exited with code 3"  # before the signal arrived
    assert worker.describe_end(-signal.SIGSEGV) == "was ended by SIGSEGV (11)"  # the same


def test_a_child_that_has_ended_by_itself_was_not_ended_by_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to end it may come after its death."""
    with subprocess.Popen(["sleep", "600"]) as process:
        worker = Child("worker", 3, 17, process, os.pidfd_open(process.pid), Turns())  # type: ignore[arg-type]
        assert not worker.has_ended()
        process.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
        assert worker.has_ended()
        worker.kill("it has left its wire to the master")
        os.close(worker.pidfd)
    assert worker.describe_end(-9) == "was ended by SIGKILL (9): out of memory?"


def test_the_wait_doubles_up_to_its_limit_however_often_it_fails() -> None:
    waits = [backoff(failures) for failures in range(9)]
    assert waits == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert backoff(100_000) == 5.0


def test_a_module_is_run_without_the_current_folder_on_its_path() -> None:
    arguments = run_module("zwoole.reactor")
    assert arguments == ["-P", "-m", "zwoole.reactor"] if sys.version_info >= (3, 11) else arguments[0] == "-c"


def test_interpreter_flags_are_strings() -> None:
    assert all(isinstance(flag, str) for flag in interpreter_flags())
