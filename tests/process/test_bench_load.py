"""Whole runs: several processes, one window, one result."""

from __future__ import annotations

import multiprocessing
import random
import resource
from array import array

import pytest
from websockets.asyncio.server import ServerConnection

from tests.bench.bench_parts import Room, closed_port, echo, websocket_server
from zwoole.bench.loadtest import histogram, run
from zwoole.bench.loadtest.client import Window
from zwoole.bench.loadtest.connection import clock_ns
from zwoole.bench.loadtest.fleet import LoadError
from zwoole.bench.loadtest.plan import Plan, Target
from zwoole.bench.loadtest.process import Sample
from zwoole.bench.loadtest.run import Watcher, run_load, window_of
from zwoole.bench.loadtest.tally import BUCKETS, bucket
from zwoole.bench.loadtest.timeline import Row, Timeline

TARGET = Target("127.0.0.1", 8080, "/")


# Histograms.


def test_buckets_are_those_of_the_package() -> None:
    latencies = histogram.empty()
    assert latencies.counts_len == BUCKETS
    chance = random.Random(1)
    for value in [0, 1, 255, 256, 257, 2**39, 2**40 - 1, *(int(2 ** chance.uniform(0, 40)) for _ in range(2000))]:
        latencies.record_value(value)
        assert latencies.counts[bucket(value)] > 0, value
        latencies.counts[bucket(value)] = 0
    assert bucket(2**63) == BUCKETS - 1


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6, 1e9])
@pytest.mark.parametrize("count", [1, 2, 10, 999, 20_000])
def test_percentiles_against_a_sorted_list(count: int, scale: float) -> None:
    chance = random.Random(count)
    values = sorted(int(chance.expovariate(1 / scale)) for _ in range(count))
    merged = histogram.empty()
    for half in (values[::2], values[1::2]):
        counts = array("Q", bytes(8 * BUCKETS))
        for value in half:
            counts[bucket(value)] += 1
        part = histogram.empty()
        histogram.add_counts(part, counts)
        merged.add(part)
    for name, found_us in histogram.percentiles_us(merged).items():
        rank = max(int(count * histogram.PERCENTILES[name] / 100 + 0.5), 1)  # the package rounds to the nearest rank
        exact = values[rank - 1]
        assert exact <= found_us * 1e3 * (1 + 1e-9) <= exact * (1 + 1 / 128) + 1, name


def test_percentiles_of_nothing() -> None:
    assert set(histogram.percentiles_us(histogram.empty()).values()) == {0}
    assert histogram.curve_us(histogram.empty()) == []


def test_the_curve_rises_to_the_longest_latency() -> None:
    latencies = histogram.empty()
    for value in range(1, 100_001):
        latencies.record_value(value * 1000)
    curve = histogram.curve_us(latencies)
    levels, values = zip(*curve, strict=True)
    assert list(levels) == sorted(levels)
    assert list(values) == sorted(values)
    assert (levels[0], levels[-1]) == (0, 100)
    assert values[-1] == pytest.approx(100_000, rel=0.01)
    for level in (50, 90, 99, 99.9):
        nearest = min(curve, key=lambda point: abs(point[0] - level))
        assert nearest == pytest.approx((level, level * 1000), rel=0.01)


# The combined samples of several processes.


def sample(interval: int, latency_ns: int, errors: int = 0) -> Sample:
    counts = array("Q", bytes(8 * BUCKETS))
    counts[bucket(latency_ns)] = 10
    return Sample(interval, 10, 640, counts, errors, connections=3)


def timeline(count_tail: bool = False) -> Timeline:
    window = window_of(Plan(TARGET, duration_s=0.5, warmup_s=0.25), 0)  # two intervals, after one of warm-up
    assert window.intervals == 2
    return Timeline(window, 2, count_tail)


def test_an_interval_is_a_row_when_all_processes_are_past_it() -> None:
    both = timeline()
    assert both.add(0, sample(-1, 1000)) == both.add(1, sample(-1, 1000)) == []
    assert both.add(0, sample(0, 1000)) == []
    (warmup,) = both.add(1, sample(0, 2000, errors=4))
    assert (warmup.ends_s, warmup.messages, warmup.rate) == (0.0, 20, 80.0)
    assert both.add(0, sample(1, 1000, errors=1)) == []
    (first,) = both.add(1, sample(1, 1000, errors=4))
    assert (first.ends_s, first.messages, first.errors, first.connections) == (0.25, 20, 5, 6)
    assert first.latency_us["max"] == pytest.approx(2, rel=0.01)
    both.end_process(0)
    both.end_process(1)
    both.finish(10**12)
    assert [row.ends_s for row in both.rows] == [0.25, 0.5]
    assert (both.messages, both.payload_bytes, both.latencies.get_total_count()) == (40, 2560, 40)


def test_the_last_row_is_as_long_as_the_run() -> None:
    both = timeline()
    both.add(0, sample(0, 1000))
    both.add(1, sample(0, 1000))
    both.finish(both._window.opens_ns + 100_000_000)
    assert [(row.ends_s, row.rate) for row in both.rows] == [(0.1, 200.0)]


@pytest.mark.parametrize("count_tail", [False, True])
def test_what_comes_after_the_window(count_tail: bool) -> None:
    both = timeline(count_tail)
    for interval in (0, 1, 2):
        both.add(0, sample(interval, 1000))
    both.end_process(1)
    both.finish(10**12)
    assert both.messages == 20
    assert both.latencies.get_total_count() == (30 if count_tail else 20)
    assert len(both.rows) == 2


# Runs.


class Recorder(Watcher):
    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.open = 0

    def opening(self, connections: int, failures: int) -> None:
        self.open = connections

    def row(self, row: Row) -> None:
        self.rows.append(row)


def test_processes_share_the_connections() -> None:
    watcher = Recorder()
    with websocket_server(echo) as target:
        result = run_load(Plan(target, connections=5, processes=2, depth=3, messages=10), watcher=watcher)
    assert result.errors == {}
    assert result.connections == watcher.open == 5
    assert result.messages == 50
    assert result.rate == pytest.approx(50 / result.seconds)
    assert result.megabytes_per_second == pytest.approx(result.rate * 64 / 1e6)
    assert 0 < result.latency_us["p50"] <= result.latency_us["max"]
    assert result.connect_rate > 0
    assert 0 < result.client_cpu_share <= 1.05


def test_processes_fan_out_to_each_other() -> None:
    with websocket_server(Room()) as target:
        plan = Plan(target, mode="fanout", connections=5, processes=2, senders=4, duration_s=3, warmup_s=0.1)
        result = run_load(plan)
    assert result.errors == {}
    assert result.messages > 0
    assert result.still_open == 5


def test_processes_tell_each_other_what_they_have_sent() -> None:
    with websocket_server(Room(lambda number, message: [])) as target:
        plan = Plan(target, mode="fanout", connections=5, processes=2, duration_s=0.3, warmup_s=0.0, patience_s=0.5)
        result = run_load(plan)
    assert result.errors == {"missing": 5}


def test_the_meter_is_read_when_the_window_opens_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[Window] = []
    moments: list[int] = []
    watcher = Recorder()

    def meter() -> float:
        moments.append(clock_ns())
        return float(len(moments))

    def noted_window(plan: Plan, start_ns: int) -> Window:
        windows.append(window_of(plan, start_ns))
        return windows[0]

    monkeypatch.setattr(run, "window_of", noted_window)
    with websocket_server(echo) as target:
        result = run_load(Plan(target, connections=1, duration_s=3, warmup_s=0.3), meter, watcher)
    assert result.errors == {}
    assert result.messages > 0
    assert result.metered == 1
    assert [moments[0] >= windows[0].opens_ns, moments[1] >= windows[0].closes_ns] == [True, True]
    assert result.seconds == 3
    assert [row.ends_s for row in result.timeline] == [0.25 * number for number in range(1, 13)]
    assert sum(row.messages for row in result.timeline) == result.messages
    assert [row.ends_s for row in watcher.rows][:3] == [-0.25, 0.0, 0.25]


def test_connect_and_idle_runs() -> None:
    with websocket_server(echo) as target:
        result = run_load(Plan(target, mode="connect", connections=4, processes=2, duration_s=3, warmup_s=0.1))
        assert (result.errors, result.connections) == ({}, 0)
        assert result.messages > 4
        assert result.latency_us["p50"] > 0
        result = run_load(Plan(target, mode="idle", connections=4, duration_s=0.3))
        assert (result.errors, result.connections, result.still_open, result.messages) == ({}, 4, 4, 0)


def test_a_server_that_dies_in_the_middle_ends_the_run() -> None:
    seen = 0

    async def mortal(connection: ServerConnection) -> None:
        nonlocal seen
        async for message in connection:
            seen += 1
            if seen > 200:
                connection.transport.abort()
            await connection.send(message)

    with websocket_server(mortal) as target:
        result = run_load(Plan(target, connections=4, processes=2, depth=2, duration_s=60, warmup_s=0))
    assert result.errors["closed"] == 4
    assert result.errors["missing"] == 8
    assert result.still_open == 0
    assert result.messages == pytest.approx(200, abs=8)
    assert result.seconds < 60
    assert result.rate == pytest.approx(result.messages / result.seconds)


def test_no_connection_is_no_result() -> None:
    with pytest.raises(LoadError, match=r"cannot open a connection to ws://127.0.0.1:\d+/: Connection refused"):
        run_load(Plan(closed_port(), connections=1))


def test_a_load_process_that_dies_is_told() -> None:
    class Killer(Watcher):
        def row(self, row: Row) -> None:
            multiprocessing.active_children()[0].kill()

    with websocket_server(echo) as target, pytest.raises(LoadError, match="a load process died"):
        run_load(Plan(target, connections=2, processes=2, duration_s=30, warmup_s=0), watcher=Killer())
    assert multiprocessing.active_children() == []


def test_more_connections_than_descriptors_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 1000))
    with pytest.raises(LoadError, match=r"5,000 connections in 2 processes need 2,564 descriptors in each.* 1,000"):
        run_load(Plan(TARGET, connections=5000, processes=2))
