"""What `zwoole status` shows, made of two reports a moment apart; `status.py` and `status_table.py` print it."""

from __future__ import annotations

from typing import Any, NamedTuple

from zwoole.commands.formatting import duration, size
from zwoole.supervisor.lifecycle.missing_processes import Missing

HEAD = ["PROCESS", "PID", "STATE", "UP", "CPU", "MEMORY", "CONNECTIONS", "QUEUE", "LAG", "RESTARTS"]
COUNTERS = ("connections", "messages_in", "messages_out", "bytes_in", "bytes_out", "queued_bytes")


class Row(NamedTuple):
    """What is shown of one process; None for what such a process does not have."""

    name: str
    pid: int
    state: str
    uptime_s: float
    cpu: float
    memory_bytes: int
    connections: int | None
    queue: int | None
    lag_s: float | None
    restarts: int

    def cells(self) -> list[str]:
        """Return the cells of its line."""
        connections, queue = ("" if count is None else f"{count:,}" for count in (self.connections, self.queue))
        lag = "" if self.lag_s is None else f"{self.lag_s * 1000:.0f} ms"
        return [
            *(self.name, str(self.pid), self.state, duration(self.uptime_s), f"{self.cpu:.0%}"),
            *(size(self.memory_bytes), connections, queue, lag, str(self.restarts)),
        ]


def notes(report: dict[str, Any]) -> list[str]:
    """Return what the table does not show: lines about missing processes, except those that are just starting, about
    lost output, and about settings that need a restart.
    """
    missing = [Missing(**fields) for fields in report["missing"]]
    told = [str(one) for one in missing if one.failed_boots or not one.starting]
    lost = report["log_lines_lost"] + report["stats"]["total"].get("log_lines_lost", 0)
    if lost:
        told.append(f"{lost:,} lines of the log or of the app's output were lost, because nothing read them")
    return told + [f"needs a restart: {change}" for change in report["needs_restart"]]


def totals(report: dict[str, Any]) -> dict[str, int]:
    """Return the sums of the masters' counters."""
    return {name: sum(master[name] for master in report["masters"]) for name in COUNTERS}


def rates(first: dict[str, Any], second: dict[str, Any], seconds: float) -> dict[str, float]:
    """Return by how much the sums have grown per second; they shrink when a master is replaced, which counts as 0."""
    before, now = totals(first), totals(second)
    return {name: max(now[name] - before[name], 0) / seconds for name in COUNTERS}


def rows_of(first: dict[str, Any], second: dict[str, Any], seconds: float) -> list[Row]:
    """Return a row for each process of the second report, masters first, with its CPU use since the first report."""
    cpu_before = {process["pid"]: process["cpu_s"] for process in first["processes"]}
    ordered = sorted(second["processes"], key=lambda process: (process["role"], process["id"]))
    used = [process["cpu_s"] - cpu_before.get(process["pid"], process["cpu_s"]) for process in ordered]
    return [row_of(process, cpu / seconds, second["masters"]) for process, cpu in zip(ordered, used, strict=True)]


def row_of(process: dict[str, Any], cpu: float, masters: list[dict[str, Any]]) -> Row:
    """Return the row of a process, with what the masters know about it."""
    connections = queue = lag_s = None
    if process["role"] == "master":
        for master in masters:
            if master["id"] == process["id"]:
                connections, lag_s = master["connections"], master["loop_lag_s"]
    else:
        links = [link for master in masters for link in master["workers"] if link["pid"] == process["pid"]]
        connections = sum(link["connections"] for link in links)
        queue = sum(link["outstanding"] for link in links)
    return Row(
        name=f"{process['role']} {process['id']}",
        pid=process["pid"],
        state="retiring" if process["retiring"] else "ready" if process["ready"] else "starting",
        uptime_s=process["uptime_s"],
        cpu=cpu,
        memory_bytes=process["memory_bytes"],
        connections=connections,
        queue=queue,
        lag_s=lag_s,
        restarts=process["restarts"],
    )
