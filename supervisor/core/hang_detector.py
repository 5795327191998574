"""Telling a process that hangs from one that is idle, booting, stopped, or being debugged.

Each process counts the turns of its loop. An idle one wakes every second to count a turn, and so does an asyncio loop
whose coroutines all wait. A process that does not count is stuck in one callback, or in the import of the app.
"""

from __future__ import annotations

from pathlib import Path

from zwoole.shared.memory.turn_counter import TurnCounter

LONGEST_STEP_S = 2.0  # seconds that one check adds at most: a longer gap means that the supervisor was stopped
SUSPICIOUS_S = 2.0  # after so much silence it is looked at more closely
SHORTEST_TIMEOUT_S = 3.0  # an idle process counts once a second


class Liveness:
    """What is known of one process's turns.

    Attributes:
        held: why its silence does not count now: it is stopped, or being debugged; "" if it counts.
    """

    def __init__(self, pid: int, turns: TurnCounter, now: float) -> None:
        """Watch the process `pid` from `now` on."""
        self.held = ""
        self._pid = pid
        self._turns = turns
        self._count = 0
        self._looked = now
        self._silent_s = 0.0

    def look(self, now: float, boot_timeout: float, turn_timeout: float) -> str:
        """Return why the process is to be killed, "" if it is not.

        Args:
            now: monotonic seconds.
            boot_timeout: how many seconds its first turn may be away; 0: any number.
            turn_timeout: how many seconds one turn may take; 0: any number.
        """
        step = min(now - self._looked, LONGEST_STEP_S)
        self._looked = now
        count = self._turns.read()
        if count != self._count:
            self._count = count
            self._silent_s = 0.0
            self.held = ""
            return ""
        self._silent_s += step
        if self._silent_s < SUSPICIOUS_S:
            return ""
        if held := held_by(self._pid):
            self.held = held
            self._silent_s = 0.0
            return ""
        limit = turn_timeout if count else boot_timeout
        if not limit or self._silent_s < max(limit, SHORTEST_TIMEOUT_S):
            return ""
        if count:
            return f"it hangs: its loop has not turned for {limit:g} s (worker_timeout)"
        return f"it does not become ready: no hello after {limit:g} s (boot_timeout)"


def held_by(pid: int) -> str:
    """Return what keeps a process from running, a stop signal or a debugger; "" if nothing does."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if fields.get("TracerPid", "0").strip() != "0":
        return f"it is traced by process {fields['TracerPid'].strip()}"
    if fields.get("State", "").split()[:1] == ["T"]:
        return "it is stopped; SIGCONT lets it go on"
    return ""
