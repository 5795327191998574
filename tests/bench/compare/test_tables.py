"""The arithmetic of the comparison: ratios within rounds, medians, spreads, and their tables and bars."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from zwoole.bench.compare.chart import chart
from zwoole.bench.compare.measuring import Run
from zwoole.bench.compare.scenarios import Scenario
from zwoole.bench.compare.tables import ratios, table
from zwoole.bench.loadtest.plan import IDLE
from zwoole.bench.loadtest.run import LoadResult

ECHO = Scenario("echo", "echo <64 B>", ("zwoole", "websockets"))
HELD = Scenario("held", "held", ("zwoole", "websockets"), mode=IDLE)
NAMES = ["zwoole", "websockets", "bun"]


def result(rate: float, share: float = 0.5) -> LoadResult:
    latency = {"p50": 10.0, "p99": 20.0}
    return LoadResult(2, int(rate), 1.0, rate, 1.0, latency, {}, 0.5, metered=2.0, client_cpu_share=share)


def run_at(rate: float, peer: str, round_number: int) -> Run:
    return Run(round_number, "echo", peer, result(rate))


def held(peer: str, bytes_per_connection: float) -> Run:
    return Run(1, "held", peer, result(0), bytes_per_connection=bytes_per_connection)


RUNS = [
    *(run_at(rate, "zwoole", number) for number, rate in enumerate([1000, 2000, 3000], 1)),
    *(run_at(rate, "websockets", number) for number, rate in enumerate([500, 500, 3000], 1)),
]


def test_ratios_are_taken_within_a_round() -> None:
    assert ratios(RUNS, ECHO, "websockets") == [2, 4, 1]


def test_ratios_are_of_the_server_that_the_scenario_names() -> None:
    assert ratios(RUNS, replace(ECHO, ours="websockets"), "zwoole") == [0.5, 0.25, 1]


def test_a_round_without_both_has_no_ratio() -> None:
    failed = Run(2, "echo", "zwoole", None, "it did not start")
    assert ratios([RUNS[0], failed, *RUNS[2:]], ECHO, "websockets") == [2, 1]


def test_ratios_of_idle_connections_are_of_their_bytes() -> None:
    assert ratios([held("zwoole", 1000), held("websockets", 4000)], HELD, "websockets") == [0.25]


def test_a_server_that_did_not_grow_has_no_ratio() -> None:
    assert ratios([held("zwoole", 1000), held("websockets", 0)], HELD, "websockets") == []


def test_a_table_has_medians_and_spreads() -> None:
    head, rule, ours, theirs = table(RUNS, ECHO, NAMES).split("\n")
    assert "messages/s" in head
    assert set(rule) == set("|-:")
    assert "2,000 (1,000-3,000)" in ours
    assert "2.00 (1.00-4.00)" in theirs
    assert f"{2.0 / 2000 * 1e6:.2f}" in ours  # server CPU seconds per million messages
    assert len({len(line) for line in (head, rule, ours, theirs)}) == 1


def test_a_table_of_idle_connections_has_bytes() -> None:
    lines = table([held("zwoole", 1000), held("websockets", 4000)], HELD, NAMES).split("\n")
    assert "bytes per connection" in lines[0]
    assert "4,000" in lines[3]
    assert "0.25" in lines[3]


def test_a_server_without_a_result_says_so_and_one_not_measured_has_no_row() -> None:
    lines = table([Run(1, "echo", "websockets", None, "it did not start")], ECHO, NAMES).split("\n")
    assert len(lines) == 3
    assert "no result" in lines[2]


@pytest.mark.parametrize(("share", "marked"), [(0.5, False), (0.95, True)])
def test_a_rate_that_the_client_may_have_limited_is_marked(share: float, marked: bool) -> None:
    runs = [replace(RUNS[0], result=result(1000, share))]
    assert ("1,000 ¹" in table(runs, ECHO, NAMES)) is marked


def test_bars_are_as_long_as_the_medians() -> None:
    image = ElementTree.fromstring(chart(RUNS, [ECHO, HELD], NAMES))
    space = "{http://www.w3.org/2000/svg}"
    widths = [float(bar.attrib["width"]) for bar in image.iter(f"{space}rect")]
    assert widths[1] / widths[0] == pytest.approx(500 / 2000, abs=0.01)
    assert [text.text for text in image.iter(f"{space}text")] == [
        "echo <64 B>",
        "messages/s",
        "zwoole",
        "2,000",
        "websockets",
        "500",
    ]
