"""What must return to its former state after the load: processes, files, descriptors, memory, and queues."""

from __future__ import annotations

import psutil

from tests.process.server_process import ServerProcess
from tests.process.waiting import wait_for

ROLES = ("supervisor", "master", "worker")
ALLOWED_GROWTH_BYTES = 64 * 1024 * 1024


class Baseline:
    """The state of a server without load."""

    def __init__(self, server: ServerProcess) -> None:
        """Measure a server that serves and is idle."""
        self._server = server
        self._before = self._measure()

    def settle(self) -> list[str]:
        """Wait until everything is as it was; return the differences that remain, in words."""
        try:
            wait_for(lambda: not self._differences(), "everything to be as before")
        except AssertionError:
            return self._differences()
        return []

    def _measure(self) -> dict[str, int]:
        """Return what is compared: for each role, the largest values of its processes."""
        server = self._server
        server.wait_ready()
        pids = {"supervisor": [server.process.pid], "master": server.pids("master"), "worker": server.pids("worker")}
        measured = {
            "processes": len(psutil.Process(server.process.pid).children(recursive=True)),
            "files": len(list(server.run_dir.iterdir())),
        }
        for role in ROLES:
            processes = [psutil.Process(pid) for pid in pids[role]]
            measured[f"descriptors of a {role}"] = max(process.num_fds() for process in processes)
            measured[f"memory of a {role}"] = max(process.memory_info().rss for process in processes)
        return measured

    def _differences(self) -> list[str]:
        try:
            now = self._measure()
        except psutil.NoSuchProcess:  # a replaced process has ended meanwhile
            return ["processes are still being replaced"]
        found = []
        for name, value in now.items():
            allowed = ALLOWED_GROWTH_BYTES if name.startswith("memory") else 0
            if value > self._before[name] + allowed:
                found.append(f"{name}: {value}, before {self._before[name]}")
        for status in self._server.status()["masters"]:
            for name in ("connections", "parked_bytes", "queued_bytes"):
                if status[name]:
                    found.append(f"{name}: {status[name]}")
            if any(worker["outstanding"] for worker in status["workers"]):
                found.append("events are outstanding")
        return found
