"""Signals while a server starts, and handlers that are installed and restored. Tested in separate programs."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# A process that believes that it is process 1 waits in the middle of importing an app.
PROGRAM = """
import os, signal, sys
{before}
os.getpid = lambda: {pid}
from zwoole.shared.process import signals
signals.obey_while_starting()
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
    """Send a program a signal once it waits, and return its exit code, negative for a signal."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waits\n"
        process.send_signal(number)
        return process.wait()


HEAD = """
import signal, subprocess, sys
from zwoole.shared.process import signals

def its_own(number, frame): pass
def ours(number, frame): print("ours", flush=True)
def kept(number): return signal.getsignal(number)
"""


def run(program: str) -> list[str]:
    """Run a program and return the lines that it prints."""
    return subprocess.run(
        [sys.executable, "-c", HEAD + program], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_what_was_there_before_is_given_back() -> None:
    assert run("""
signal.signal(signal.SIGHUP, its_own)
signals.install(signal.SIGHUP, ours)
signals.install(signal.SIGHUP, ours)
signals.install(signal.SIGTERM, signal.SIG_DFL)
signals.install(signal.SIGTERM, ours)
signal.raise_signal(signal.SIGHUP)
signals.restore()
print(kept(signal.SIGHUP) is its_own, kept(signal.SIGTERM) is signal.SIG_DFL)
""") == ["ours", "True True"]


def test_a_script_that_installs_its_handler_between_two_of_ours_has_it_back() -> None:
    assert run("""
signals.leave_to_supervisor()
signal.signal(signal.SIGTERM, its_own)
signals.leave_to_supervisor()
signals.install(signal.SIGTERM, ours)
signals.restore()
print(kept(signal.SIGTERM) is its_own, kept(signal.SIGINT) is signal.default_int_handler)
""") == ["True True"]


def test_what_was_installed_after_ours_stays() -> None:
    assert run("""
signals.install(signal.SIGHUP, ours)
signal.signal(signal.SIGHUP, its_own)
signals.restore()
print(kept(signal.SIGHUP) is its_own)
""") == ["True"]


def test_signals_are_held_back_at_birth_until_they_are_left_to_the_supervisor() -> None:
    child = (
        "from zwoole.shared.process import signals; import signal; signals.{}(); print(signal.pthread_sigmask(0, []))"
    )
    assert run(f"""
for how in ("ignore", "leave_to_supervisor"):
    with signals.blocked():
        child = subprocess.Popen([sys.executable, "-c", {child!r}.format(how)])
        for number in signals.SUPERVISOR_SIGNALS:
            if how == "ignore" or number not in signals.FROM_TERMINAL_IO:
                child.send_signal(number)
    print(child.wait(), signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
""") == ["set()", "0 set()", "set()", "0 set()"]


def test_a_program_does_not_inherit_what_a_worker_does_nothing_at() -> None:
    assert run("""
signals.leave_to_supervisor()
status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
ignored = int(status.split("SigIgn:")[1].split()[0], 16)
print([number for number in signals.SUPERVISOR_SIGNALS if ignored >> number - 1 & 1])
""") == ["[]"]


def test_interrupted_calls_go_on() -> None:
    assert run("""
import ctypes, os, threading
libc = ctypes.CDLL(None, use_errno=True)
read_end, write_end = os.pipe()
signals.install(signal.SIGHUP, lambda *_: os.write(write_end, b"x"))
def send():
    while "S" not in open(f"/proc/{os.getpid()}/stat").read().rpartition(")")[2].split()[0]: pass
    os.kill(os.getpid(), signal.SIGHUP)
    os.write(write_end, b"y")
threading.Thread(target=send).start()
print(libc.read(read_end, ctypes.create_string_buffer(1), 1))
""") == ["1"]
