"""Watches how much memory the processes of a server take while something is done to them."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psutil

from tests.process.server_process import ServerProcess

MIB = 1 << 20
LIMITS: dict[str, int] = {
    "window_bytes": MIB,
    "connection_window_bytes": MIB // 2,
    "parked_total_bytes": 2 * MIB,
    "socket_buffer_size": MIB,
    "output_total_bytes": 8 * MIB,
    "up_window_bytes": MIB,
    "payload_ring_bytes": MIB // 4,
    "package_max_length": MIB // 2,
}
# What each process may hold at once. The window counts twice: an event is kept for the case that its worker dies, and
# lies in ZeroMQ until that takes it. A message that is one too many is there before it is refused: +1 package each.
RINGS = 2 * LIMITS["payload_ring_bytes"]
MASTER = 2 * LIMITS["window_bytes"] + LIMITS["parked_total_bytes"] + LIMITS["output_total_bytes"] + RINGS
WORKER = LIMITS["window_bytes"] + 2 * LIMITS["up_window_bytes"] + RINGS
ALLOWED = {
    "supervisor": 0,
    "master": MASTER + 2 * LIMITS["package_max_length"] + LIMITS["up_window_bytes"],
    "worker": WORKER + 2 * LIMITS["package_max_length"],
}
TOLERANCE = 1.2
SAMPLE_S = 0.01


class MemoryWatch:
    """Samples the resident memory of every process of a server, as a context manager."""

    def __init__(self, server: ServerProcess) -> None:
        self._processes = {"supervisor": [psutil.Process(server.process.pid)]}
        for role in ("master", "worker"):
            self._processes[role] = [psutil.Process(pid) for pid in server.pids(role)]
        self._baseline = {process.pid: resident(process) for process in self._all()}
        self._highest = dict(self._baseline)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()

    def assert_bounded(self) -> None:
        """Assert that no process ever took more than its baseline and its limits, and a fifth."""
        for role, processes in self._processes.items():
            for process in processes:
                allowed = (self._baseline[process.pid] + ALLOWED[role]) * TOLERANCE
                highest = self._highest[process.pid]
                base = self._baseline[process.pid]
                print(f"{role}: {base / MIB:.1f} MiB, at most {highest / MIB:.1f}, allowed {allowed / MIB:.1f}")
                assert highest <= allowed, f"the {role} grew from {base} to {highest} bytes, more than {allowed:.0f}"

    def _sample(self) -> None:
        while not self._stopped.is_set():
            for process in self._all():
                self._highest[process.pid] = max(self._highest[process.pid], resident(process))
            time.sleep(SAMPLE_S)

    def _all(self) -> list[psutil.Process]:
        return [process for processes in self._processes.values() for process in processes]


def resident(process: psutil.Process) -> int:
    """Return a process's resident memory in bytes."""
    return int(process.memory_info().rss)
