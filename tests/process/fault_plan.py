"""Faults to inject into the socket of one client of a server that runs with faults.c preloaded."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")

NOTHING, SHORT, TRICKLE, ERRNO = range(4)


class _Plan(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int)
        for name in (
            *("armed", "at", "fault", "number", "descriptor", "calls", "fired"),
            *("accept_number", "accept_times"),
        )
    ]


class FaultPlan:
    """The plan, in memory that it shares with the server.

    Attributes:
        environment: environment variables for the server.
    """

    def __init__(self, folder: Path) -> None:
        """Compile faults.c into a folder, and keep the plan there.

        Raises:
            FileNotFoundError: there is no C compiler.
        """
        library, path = folder / "faults.so", folder / "plan"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE)], check=True)
        path.write_bytes(bytes(ctypes.sizeof(_Plan)))
        with path.open("r+b") as file:
            self._plan = _Plan.from_buffer(mmap.mmap(file.fileno(), 0))
        self._plan.descriptor = -1
        self.environment = {"LD_PRELOAD": str(library), "FAULT_PLAN": str(path)}

    def arm(self, fault: int, at: int = 0, number: int = 0) -> None:
        """Inject a fault into the next connection.

        Args:
            fault: one of the constants above.
            at: which of its system calls that move bytes, from 1.
            number: the errno, with ERRNO.
        """
        self._plan.at, self._plan.fault, self._plan.number = at, fault, number
        self._plan.armed = 1

    def fail_accepting(self, number: int, times: int) -> None:
        """Make accepting fail that many times."""
        self._plan.accept_number = number
        self._plan.accept_times = times

    @property
    def calls(self) -> int:
        """Number of system calls that moved bytes of the connection, or tried to."""
        return int(self._plan.calls)

    @property
    def fired(self) -> int:
        """Number of injected faults."""
        return int(self._plan.fired)

    @property
    def accepting_fails(self) -> int:
        """How often accepting is still going to fail."""
        return int(self._plan.accept_times)

    @property
    def is_closed(self) -> bool:
        """Whether the server has accepted the connection and closed it."""
        return not self._plan.armed and self._plan.descriptor == -1
