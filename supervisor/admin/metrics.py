"""The metrics page, in the OpenMetrics format: made of the snapshots when it is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from zwoole.shared.memory import stats

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Counters: the name in a snapshot; the metric's name after "zwoole_"; its help text; a second label, if it has one.
MASTER_COUNTERS = (
    ("accepted", "accepted_connections", "TCP connections accepted", ""),
    ("opened", "opened_connections", "WebSocket connections opened", ""),
    ("opened_compressed", "opened_compressed_connections", "WebSocket connections opened with compression", ""),
    ("refused", "refused_handshakes", "Handshakes refused, by HTTP status", "status"),
    ("closed", "closed_connections", "Connections closed, by close code", "code"),
    ("closed_for_limits", "closed_for_limits", "Connections closed for a limit, by setting", "limit"),
    ("rate_pauses", "rate_pauses", "Times that a master paused reading from a client because of its rate", ""),
    ("accept_rests", "accept_rests", "Times that a master paused accepting because of accept_rate", ""),
    ("pings", "pings", "Pings sent", ""),
    ("messages_in", "received_messages", "Messages from clients", ""),
    ("bytes_in", "received_bytes", "Bytes of messages from clients", ""),
    ("messages_out", "sent_messages", "Messages to clients", ""),
    ("bytes_out", "sent_bytes", "Bytes of messages to clients", ""),
    ("pushes_dropped", "dropped_pushes", "Pushes to connections that were gone", ""),
    ("messages_dropped", "dropped_messages", "Messages dropped because their client reads too slowly", ""),
    ("slow_readers_closed", "closed_slow_readers", "Clients closed because they read too slowly", ""),
    ("pipe_messages", "pipe_messages", "Messages from worker to worker", ""),
    ("pipe_messages_dropped", "dropped_pipe_messages", "Messages from worker to worker that were dropped", ""),
    ("worker_deaths", "worker_deaths", "Workers that died in service", ""),
    ("replays", "replays", "Messages sent again after a worker's death", ""),
    ("handovers", "handovers", "Connections handed to another worker", ""),
    ("log_lines_lost", "master_log_lines_lost", "Lines of a master's log that could not be written", ""),
)
MASTER_GAUGES = (
    ("connections", "connections", "Open connections"),
    ("queued_bytes", "queued_bytes", "Output bytes queued for clients"),
    ("parked_bytes", "parked_bytes", "Bytes of parked messages, which wait for a worker"),
    ("partial_bytes", "partial_bytes", "Bytes of incomplete messages"),
    ("lag_s", "loop_lag_seconds", "Time that a turn of the loop takes in addition to its wait, smoothed"),
    ("longest_lag_s", "loop_longest_lag_seconds", "The longest lag of the loop since the process began"),
)
WORKER_COUNTERS = (
    ("events", "events", "Events that workers took, by event", "event"),
    ("failures", "callback_failures", "Callbacks that raised, by event", "event"),
    ("log_lines_lost", "worker_log_lines_lost", "Lines that a worker logged or printed and could not write", ""),
)
WORKER_GAUGES = (
    ("unfinished", "unfinished_events", "Events that workers took and have not finished"),
    ("in_flight_bytes", "in_flight_bytes", "Pushed bytes that no master has acknowledged"),
)

# Each role's processes: the label that tells them apart, their counters and gauges.
METRICS = {
    stats.MASTER: ("reactor", MASTER_COUNTERS, MASTER_GAUGES),
    stats.WORKER: ("worker", WORKER_COUNTERS, WORKER_GAUGES),
}


def render(run_dir: Path) -> str:
    """Return the page of the server with that run directory."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(run_dir))
    page: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return page.decode()


class SnapshotCollector(Collector):
    """Reads all snapshots of a server.

    A process is labelled by its worker id or the number of its reactor. Its replacement has the same, so counters go on
    growing over a restart.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def describe(self) -> Iterable[Metric]:
        """Return no metric: nothing is read before the page is asked for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the snapshots, and yield every metric."""
        reading = stats.read_all(self._run_dir)
        yield _gauge(
            "uptime_seconds", "Seconds since the server began", time.monotonic() - reading.supervisor["started"]
        )
        restarts = CounterMetricFamily("zwoole_restarts", "Processes replaced, by reason", labels=["reason"])
        for reason, count in reading.supervisor["restarts"].items():
            restarts.add_metric([reason], count)
        yield restarts
        yield _gauge("workers_wanted", "Workers that are wanted", reading.supervisor["workers"]["wanted"])
        yield _gauge("workers_ready", "Workers that are ready", reading.supervisor["workers"]["ready"])
        failed = CounterMetricFamily("zwoole_failed_boots", "Workers that ended before they served", labels=["worker"])
        for id, count in reading.supervisor["failed_boots"].items():
            failed.add_metric([id], count)
        yield failed
        for role, (process, counters, gauges) in METRICS.items():
            counted = stats.counters_by_index(reading, role)
            yield from (_counter(*counter, process, counted) for counter in counters)
            yield from (_gauges(reading, *gauge, process, role) for gauge in gauges)
        yield _callback_times(stats.counters_by_index(reading, stats.WORKER))


def _counter(
    key: str, name: str, what: str, label: str, process: str, counters: dict[int, stats.Counters]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"zwoole_{name}", what, labels=[process, label] if label else [process])
    for id, counted in sorted(counters.items()):
        if label:
            for value, count in counted[key].items():
                family.add_metric([str(id), value], count)
        else:
            family.add_metric([str(id)], counted[key])
    return family


def _gauges(reading: stats.Reading, key: str, name: str, what: str, process: str, role: str) -> GaugeMetricFamily:
    """Return a gauge of each process; the sum, if two share a number during a reload."""
    sums: dict[int, Any] = {}
    for fields in reading.processes:
        if fields["role"] == role:
            sums[fields["id"]] = sums.get(fields["id"], 0) + fields["gauges"][key]
    family = GaugeMetricFamily(f"zwoole_{name}", what, labels=[process])
    for id, value in sorted(sums.items()):
        family.add_metric([str(id)], value)
    return family


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"zwoole_{name}", what, value=value)


def _callback_times(workers: dict[int, stats.Counters]) -> HistogramMetricFamily:
    family = HistogramMetricFamily("zwoole_callback_seconds", "Time that callbacks took", labels=["worker"])
    bounds = [*(str(bound) for bound in stats.TIME_BOUNDS), "+Inf"]
    for id, counted in sorted(workers.items()):
        running = 0
        buckets = []
        for bound, count in zip(bounds, counted["callback_times"], strict=True):
            running += count
            buckets.append((bound, running))
        family.add_metric([str(id)], buckets, counted["callback_seconds"])
    return family
