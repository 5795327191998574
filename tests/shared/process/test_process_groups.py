"""Process groups, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.process.waiting import wait_for
from zwoole.shared.process import process_groups

# Starts a program in its own group and one in another, and ends the processes of its own.
ENDS_ITS_OWN = """
import signal, subprocess, sys
from zwoole.shared.process import process_groups

signal.signal(signal.SIGTERM, lambda *_: print("asked too", flush=True))
stays = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=-3, stderr=-3)
print(stays.pid)
for command in {commands}:
    print(subprocess.Popen(command, stdout=subprocess.PIPE).stdout.readline(), flush=True)
process_groups.end_own({timeout})
print("the end")
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ignores'); time.sleep(1000)"
POLITE = "import time; print('waits'); time.sleep(1000)"


def run(*programs: str, timeout: float, session: bool = True) -> tuple[int, list[str]]:
    """Run it; return its code and what it printed."""
    commands = [[sys.executable, "-u", "-c", program] for program in programs]
    source = ENDS_ITS_OWN.format(commands=commands, timeout=timeout)
    process = subprocess.run(
        [sys.executable, "-u", "-c", source], capture_output=True, text=True, start_new_session=session, check=False
    )
    stays, *lines = process.stdout.splitlines()
    os.kill(int(stays), signal.SIGKILL)  # raises an error if it has ended
    assert process.stderr == ""
    return process.returncode, lines


def test_members_that_have_ended_count_no_more() -> None:
    shell = subprocess.Popen(["sh", "-c", "sleep 1000 & sleep 1000 & wait"], start_new_session=True)
    found = wait_for(lambda: pair if len(pair := process_groups.members(shell.pid)) == 2 else [], "both")
    assert shell.pid not in found
    os.kill(found[0], signal.SIGKILL)
    wait_for(lambda: process_groups.members(shell.pid) == found[1:], "the other one alone")
    shell.kill()
    wait_for(lambda: process_groups.is_member(shell.pid, shell.pid) is False, "the leader's end")
    assert process_groups.members(shell.pid) == found[1:]  # while the leader is not reaped, its pid is not reused
    process_groups.send(shell.pid, signal.SIGKILL)
    wait_for(lambda: not process_groups.members(shell.pid), "all to end")
    shell.wait()
    process_groups.send(shell.pid, signal.SIGKILL)  # to nobody


def test_a_process_ends_its_own_group_and_goes_on() -> None:
    code, lines = run(POLITE, POLITE, timeout=600)
    assert (code, lines) == (0, ["b'waits\\n'", "b'waits\\n'", "asked too", "the end"])


def test_what_does_not_end_is_killed_and_the_process_with_it() -> None:
    code, lines = run(POLITE, STUBBORN, timeout=0)
    assert (code, lines) == (-signal.SIGKILL, ["b'waits\\n'", "b'ignores\\n'", "asked too"])


def test_alone_in_a_group_it_does_nothing() -> None:
    assert run(timeout=0) == (0, ["the end"])


def test_a_process_that_leads_no_group_leaves_it_alone() -> None:
    assert run(timeout=0, session=False) == (0, ["the end"])
