"""The statistics of the whole server: the snapshots of its processes combined, without asking any of them.

Counters only ever grow, even if the process that counted has ended: the supervisor keeps the counters of ended
processes. Gauges are current values.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zwoole.shared.memory import snapshot
from zwoole.shared.process.run_files import snapshot_path

SUPERVISOR = "supervisor"
MASTER = "master"
WORKER = "worker"
LARGEST = ("lag_s", "longest_lag_s")  # gauges whose total is the maximum, not the sum
TRIES = 10

# Upper bounds of the histogram of callback times, in seconds. One more bucket counts longer times.
TIME_BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)

Counters = dict[str, Any]  # values are numbers, lists of numbers, or dicts of those

# The counters and gauges of masters and workers. A total contains each of them, even before a process has written any.
EMPTY: dict[str, tuple[Counters, Counters]] = {  # by role: counters, gauges
    MASTER: (
        {
            **dict.fromkeys(("accepted", "opened", "opened_compressed"), 0),
            **{name: {} for name in ("refused", "closed", "closed_for_limits")},
            **dict.fromkeys(("rate_pauses", "accept_rests", "pings", "messages_in", "bytes_in"), 0),
            **dict.fromkeys(("messages_out", "bytes_out", "pushes_dropped", "messages_dropped"), 0),
            **dict.fromkeys(("slow_readers_closed", "pipe_messages", "pipe_messages_dropped"), 0),
            **dict.fromkeys(("worker_deaths", "replays", "handovers", "log_lines_lost"), 0),
        },
        dict.fromkeys(("connections", "queued_bytes", "parked_bytes", "partial_bytes", *LARGEST), 0),
    ),
    WORKER: (
        {
            "events": {},
            "callback_times": [0] * (len(TIME_BOUNDS) + 1),
            "callback_seconds": 0,
            "failures": {},
            "log_lines_lost": 0,
        },
        dict.fromkeys(("unfinished", "in_flight_bytes"), 0),
    ),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """All snapshots at one moment. Times are monotonic seconds, which all processes of a machine share.

    Attributes:
        supervisor: the supervisor's snapshot: `pid`, `started`, `restarts`, `workers`, `failed_boots` by worker,
            `processes`, and `past`, the counters of ended processes by role and id.
        processes: the snapshots of running masters and workers: `role`, `id`, `pid`, `incarnation`, `started`,
            `written`, `counters`, `gauges`.
    """

    supervisor: dict[str, Any]
    processes: list[dict[str, Any]]


def read_all(run_dir: Path) -> Reading:
    """Read every snapshot of a server. A process that ends meanwhile is counted exactly once."""
    supervisor = _read_supervisor(run_dir)
    for _ in range(TRIES):
        found = [snapshot.read(snapshot_path(run_dir, *process)) for process in supervisor["processes"]]
        before, supervisor = supervisor, _read_supervisor(run_dir)
        if supervisor["processes"] == before["processes"]:
            break
    return Reading(supervisor, [fields for fields in found if fields is not None])


def _read_supervisor(run_dir: Path) -> dict[str, Any]:
    return snapshot.read(snapshot_path(run_dir, SUPERVISOR, 0)) or {
        "started": time.monotonic(),
        "restarts": {},
        "workers": {"wanted": 0, "ready": 0},
        "failed_boots": {},
        "processes": [],
        "past": {MASTER: {}, WORKER: {}},
    }


def gather(run_dir: Path) -> dict[str, Any]:
    """Return the result of `Server.stats`."""
    reading = read_all(run_dir)
    now = time.monotonic()
    return {
        "uptime_s": round(now - reading.supervisor["started"], 1),
        "total": _total(reading),
        "masters": [_flat(fields, now) for fields in reading.processes if fields["role"] == MASTER],
        "workers": [_flat(fields, now) for fields in reading.processes if fields["role"] == WORKER],
    }


def counters_by_index(reading: Reading, role: str) -> dict[int, Counters]:
    """Return the counters of a role by reactor number or worker id, including those of processes that have ended."""
    sums = {int(id): add({}, counters) for id, counters in reading.supervisor["past"][role].items()}
    for fields in reading.processes:
        if fields["role"] == role:
            add(sums.setdefault(fields["id"], {}), fields["counters"])
    return sums


def add(sums: Counters, counters: Counters) -> Counters:
    """Add `counters` to `sums`, in place, and return `sums`."""
    for name, value in counters.items():
        if isinstance(value, dict):
            add(sums.setdefault(name, {}), value)
        elif isinstance(value, list):
            before = sums.get(name) or [0] * len(value)
            sums[name] = [one + other for one, other in zip(before, value, strict=True)]
        else:
            sums[name] = sums.get(name, 0) + value
    return sums


def _total(reading: Reading) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for counters, gauges in EMPTY.values():
        add(total, counters)
        add(total, gauges)
    for role in (MASTER, WORKER):
        for counters in counters_by_index(reading, role).values():
            add(total, counters)
    for fields in reading.processes:
        for name, value in fields["gauges"].items():
            total[name] = max(total.get(name, 0), value) if name in LARGEST else total.get(name, 0) + value
    return {
        **total,
        "restarts": reading.supervisor["restarts"],
        "workers_wanted": reading.supervisor["workers"]["wanted"],
        "workers_ready": reading.supervisor["workers"]["ready"],
        "failed_boots": sum(reading.supervisor["failed_boots"].values()),
    }


def _flat(fields: dict[str, Any], now: float) -> dict[str, Any]:
    """Return one process's snapshot as a flat dict."""
    named = {name: fields[name] for name in ("id", "pid", "incarnation")}
    ages = {"uptime_s": round(now - fields["started"], 1), "written_s_ago": round(now - fields["written"], 1)}
    return {**named, **ages, **fields["gauges"], **fields["counters"]}
