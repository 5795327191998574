"""Signals while a server starts, when nothing of it handles them yet."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# A process that believes to be process 1: it waits with an app half imported, so to say.
PROGRAM = """
import os, signal, sys
{before}
os.getpid = lambda: {pid}
from zwoole.shared import signals
signals.heed_while_starting()
print("waits", flush=True)
signal.pause()
"""
HELD_BACK = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
OWN = "signal.signal(signal.SIGTERM, lambda *_: os._exit(7))"


@pytest.mark.parametrize(
    ("pid", "before", "number", "code"),
    [
        (1, "", signal.SIGTERM, 143),
        (1, "", signal.SIGQUIT, 131),
        (1, HELD_BACK, signal.SIGTERM, 143),
        (2, "", signal.SIGTERM, -signal.SIGTERM),
        (2, HELD_BACK, signal.SIGTERM, -signal.SIGTERM),
    ],
)
def test_a_process_that_starts_can_be_ended(pid: int, before: str, number: signal.Signals, code: int) -> None:
    assert ended(PROGRAM.format(before=before, pid=pid), number) == code


def test_a_handler_that_is_there_stays() -> None:
    assert ended(PROGRAM.format(before=OWN, pid=1), signal.SIGTERM) == 7


def ended(program: str, number: signal.Signals) -> int:
    """Send a program a signal when it waits, and return its exit code, negative for a signal."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waits\n"
        process.send_signal(number)
        return process.wait()
