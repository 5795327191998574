"""The metrics page, read by the parser of prometheus-client."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.shared.memory.test_stats import process_of, record
from zwoole.shared.memory.stats import TIME_BOUNDS
from zwoole.supervisor.admin.metrics import MASTER_COUNTERS, MASTER_GAUGES, WORKER_COUNTERS, WORKER_GAUGES, render
from zwoole.supervisor.core.process_stats import ProcessStats
from zwoole.supervisor.core.roles import MASTER, WORKER
from zwoole.workers.core.counts import Counts


def parse(page: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(page)}


def samples(family: Metric) -> dict[tuple[str, ...], float]:
    """Return values by the sample's name and its labels, the process first."""
    found = {}
    for sample in family.samples:
        labels = sorted(sample.labels.items(), key=lambda label: label[0] not in ("reactor", "worker"))
        found[(sample.name, *(value for _, value in labels))] = sample.value
    return found


def test_every_counter_and_gauge_is_on_the_page(tmp_path: Path) -> None:
    process_stats = ProcessStats(tmp_path)
    master, worker = process_of(MASTER, 0, 1), process_of(WORKER, 3, 2)
    process_stats.began(master)
    process_stats.began(worker)
    counters = {key: {"x": 7} if label else 5 for key, _, _, label in MASTER_COUNTERS}
    record(tmp_path, master, counters, {key: 2 for key, *_ in MASTER_GAUGES})
    counts = Counts()
    counts.ran(0.00005)
    counts.ran(0.2)
    counts.ran(60.0)
    counts.taken(2)
    counts.failures["close"] += 1
    record(tmp_path, worker, {**counts.as_dict(), "log_lines_lost": 4}, {key: 1 for key, *_ in WORKER_GAUGES})
    process_stats.restarted("reload", 2)
    process_stats.workers(4, 3)
    process_stats.boot_failed(worker)
    page = render(tmp_path)
    assert page.endswith("# EOF\n")
    families = parse(page)
    for _, name, _, label in MASTER_COUNTERS:
        labels = ("0", "x") if label else ("0",)
        assert samples(families[f"zwoole_{name}"]) == {(f"zwoole_{name}_total", *labels): 7 if label else 5}
    for _, name, _ in MASTER_GAUGES:
        assert samples(families[f"zwoole_{name}"]) == {(f"zwoole_{name}", "0"): 2}
    for _, name, _ in WORKER_GAUGES:
        assert samples(families[f"zwoole_{name}"]) == {(f"zwoole_{name}", "3"): 1}
    assert samples(families["zwoole_events"])["zwoole_events_total", "3", "message"] == 1
    assert samples(families["zwoole_callback_failures"]) == {("zwoole_callback_failures_total", "3", "close"): 1}
    assert samples(families["zwoole_worker_log_lines_lost"]) == {("zwoole_worker_log_lines_lost_total", "3"): 4}
    assert samples(families["zwoole_restarts"]) == {("zwoole_restarts_total", "reload"): 2}
    assert samples(families["zwoole_workers_wanted"]) == {("zwoole_workers_wanted",): 4}
    assert samples(families["zwoole_workers_ready"]) == {("zwoole_workers_ready",): 3}
    assert samples(families["zwoole_failed_boots"]) == {("zwoole_failed_boots_total", "3"): 1}
    times = samples(families["zwoole_callback_seconds"])
    assert [times["zwoole_callback_seconds_bucket", "3", bound] for bound in ("0.0001", "0.1", "0.25", "10.0")] == [
        *(1, 1, 2, 2)
    ]
    assert times["zwoole_callback_seconds_count", "3"] == times["zwoole_callback_seconds_bucket", "3", "+Inf"] == 3
    assert times["zwoole_callback_seconds_sum", "3"] == 60.20005
    assert len(times) == len(TIME_BOUNDS) + 3


def test_the_page_of_a_server_that_has_only_begun_can_be_parsed(tmp_path: Path) -> None:
    ProcessStats(tmp_path)
    assert samples(parse(render(tmp_path))["zwoole_uptime_seconds"])["zwoole_uptime_seconds",] >= 0


def test_a_number_goes_on_counting_where_its_process_was_replaced(tmp_path: Path) -> None:
    process_stats = ProcessStats(tmp_path)
    for incarnation in (1, 2):
        worker = process_of(WORKER, 0, incarnation)
        process_stats.began(worker)
        counts = Counts()
        counts.taken(2)
        record(tmp_path, worker, {**counts.as_dict(), "log_lines_lost": 4}, {key: 1 for key, *_ in WORKER_GAUGES})
        if incarnation == 1:
            process_stats.ended(worker)
    families = parse(render(tmp_path))
    assert samples(families["zwoole_events"])["zwoole_events_total", "0", "message"] == 2
    assert samples(families["zwoole_unfinished_events"]) == {("zwoole_unfinished_events", "0"): 1}


def test_the_page_of_numbers_has_every_name_with_its_metric() -> None:
    text = (Path(__file__).parents[3] / "docs" / "stats.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| `zwoole_(\w+)` \|", text, re.MULTILINE)
    counters = [(key, f"{name}_total") for key, name, *_ in (*MASTER_COUNTERS, *WORKER_COUNTERS)]
    gauges = [(key, name) for key, name, *_ in (*MASTER_GAUGES, *WORKER_GAUGES)]
    times = [("callback_times", "callback_seconds_bucket"), ("callback_seconds", "callback_seconds_sum")]
    assert sorted(listed) == sorted(counters + gauges + times)
