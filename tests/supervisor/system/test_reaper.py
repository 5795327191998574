"""Reaping children that other processes have started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.process.waiting import wait_for
from zwoole.supervisor.system import reaper

PROGRAM = """
import ctypes, os
from zwoole.supervisor.system import reaper
before = reaper.is_reaper()
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
print(before, reaper.is_reaper())
"""


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "gone"


def test_a_subreaper_knows_that_it_is_one() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert run.stdout == "False True\n"


def test_our_own_children_are_left_to_us() -> None:
    own = subprocess.Popen(["sleep", "0"])
    wait_for(lambda: state(own.pid) == "Z", "it to end")
    assert reaper.reap({own.pid}) == []
    assert state(own.pid) == "Z"
    assert own.wait() == 0


def test_strangers_are_reaped() -> None:
    stranger = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "0")
    wait_for(lambda: state(stranger) == "Z", "it to end")
    assert reaper.reap(set()) == [stranger]
    assert state(stranger) == "gone"
    assert reaper.reap(set()) == []
