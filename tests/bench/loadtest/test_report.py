"""The presentation of a run: table, notes, JSON, progress, and the page with its charts."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from zwoole.bench.loadtest import chart, report
from zwoole.bench.loadtest.page import latency_chart, page
from zwoole.bench.loadtest.plan import Plan, Target
from zwoole.bench.loadtest.progress import LiveProgress, PlainProgress, progress_on
from zwoole.bench.loadtest.run import LoadResult
from zwoole.bench.loadtest.timeline import Row

PLAN = Plan(Target("127.0.0.1", 8080, "/<&>"), connections=10, processes=2, depth=4, duration_s=2.0)
LATENCY = {"p50": 95.2, "p90": 240.0, "p99": 1234.5, "p99.9": 20_000.0, "max": 1.5e6}


def row(number: int) -> Row:
    return Row((number + 1) * 0.5, 500, 1000.0 + number, LATENCY, 0, 10)


CURVE = [(100 * (1 - 10 ** (-step / 5)), 90.0 + 20 * step) for step in range(15)] + [(100.0, 400.0)]
RESULT = LoadResult(
    connections=10,
    messages=2000,
    seconds=2.0,
    rate=1000.0,
    megabytes_per_second=0.064,
    latency_us=LATENCY,
    errors={},
    client_cpu_s=0.5,
    connect_rate=4321.0,
    still_open=10,
    client_cpu_share=0.25,
    client_cores=2,
    timeline=[row(number) for number in range(4)],
    curve_us=CURVE,
)
FAILED = replace(RESULT, errors={"missing": 3, "order": 1}, still_open=0, seconds=1.2, first_error="Connection refused")


def printed(plan: Plan, result: LoadResult) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(report.table(plan, result))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_the_table_has_every_number() -> None:
    assert words(printed(PLAN, RESULT)) == [
        "messages/s 1,000 2,000 right replies in 2.00 s",
        "MB/s 0.064 payload, one way",
        "p50 95.2 µs latency",
        "p90 240 µs",
        "p99 1.23 ms",
        "p99.9 20.0 ms",
        "max 1.50 s",
        "connects/s 4,321 10 opened before the run",
        "still open 10 after 2.00 s",
        "client CPU 25% of 2 cores",
        "errors none",
    ]


def test_the_table_has_a_line_for_each_kind_of_error() -> None:
    assert words(printed(PLAN, FAILED))[-3:] == [
        "errors 4",
        "missing 3 a message was never answered",
        "order 1 a reply came after the reply to a later message",
    ]


@pytest.mark.parametrize(
    ("terms", "title", "loop"),
    [
        ({}, "echo of 64 B text on 10 connections, 2 processes", "closed loop, 4 outstanding on each"),
        (
            {"rate": 5000.0, "size": ((64, 3), (4096, 1)), "binary": True, "processes": 1},
            "echo of 64 B (75%) + 4,096 B (25%) binary on 10 connections, 1 process",
            "open loop, 5,000 messages/s sent; latency from the intended send time",
        ),
        (
            {"mode": "fanout", "compress": True},
            "fan-out of 64 B text, compressed from 1 sender to 10 connections",
            "closed loop, 4 outstanding on each; latency from the send to the own copy",
        ),
        ({"mode": "idle"}, "10 connections held open", "no messages"),
        ({"mode": "connect", "connections": 1}, "opening and closing, 1 connection at a time", "from the TCP connect"),
    ],
)
def test_title_and_loop_say_what_was_measured(terms: dict[str, Any], title: str, loop: str) -> None:
    plan = replace(PLAN, **terms)
    assert report.title(plan).startswith(title)
    assert report.title(plan).endswith("ws://127.0.0.1:8080/<&>")
    assert loop in report.loop(plan)


def test_modes_show_what_they_have() -> None:
    idle = words(printed(replace(PLAN, mode="idle"), RESULT))
    assert not any(line.startswith(("messages/s", "p50")) for line in idle)
    assert "still open 10 after 2.00 s" in idle
    connect = words(printed(replace(PLAN, mode="connect"), RESULT))
    assert connect[0] == "connects/s 1,000 2,000 in 2.00 s"
    assert not any(line.startswith("still open") for line in connect)


@pytest.mark.parametrize(
    ("terms", "result", "note"),
    [
        ({}, replace(RESULT, client_cpu_share=0.9), "The client was the bottleneck"),
        ({}, FAILED, "The server closed all connections 1.20 s into the run."),
        ({}, FAILED, "The first connection that failed: Connection refused."),
        ({"rate": 2000.0}, RESULT, "The rate was not reached: 1,000 of 2,000 messages/s were answered in time."),
        ({"rate": 500.0, "mode": "fanout"}, RESULT, "The rate was not reached: 100 of 500 messages/s"),
    ],
)
def test_notes(terms: dict[str, Any], result: LoadResult, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.connection, "COMPILED", True)
    assert report.notes(PLAN, RESULT) == []
    assert [line for line in report.notes(replace(PLAN, **terms), result) if line.startswith(note)] != []


def test_a_client_that_is_not_compiled_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.connection, "COMPILED", False)
    assert report.notes(PLAN, RESULT) == ["The client is not compiled, which makes it many times slower."]


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0, "0.00 µs"), (9.994, "9.99 µs"), (99.94, "99.9 µs"), (999, "999 µs"), (999.9, "1.00 ms"), (59e6, "59.0 s")],
)
def test_durations_have_three_digits(microseconds: float, text: str) -> None:
    assert report.duration(microseconds) == text


def test_json_has_plan_and_result() -> None:
    read = json.loads(report.as_json(PLAN, FAILED))
    assert read["plan"]["target"]["host"] == "127.0.0.1"
    assert read["result"]["errors"] == {"missing": 3, "order": 1}
    assert read["result"]["timeline"][1]["rate"] == 1001.0


# Progress.


def test_plain_lines_come_once_a_second() -> None:
    console = Console(file=io.StringIO(), width=40)
    with progress_on(console, PLAN) as watcher:
        assert isinstance(watcher, PlainProgress)
        watcher.opening(3, 1)
        for quarter in range(-3, 9):
            watcher.row(replace(row(0), ends_s=quarter / 4, errors=2))
    assert isinstance(console.file, io.StringIO)
    assert words(console.file.getvalue()) == [
        f"{ends} s 10 connections 1,000 /s p50 95.2 µs p99 1.23 ms errors 2 {left} s left"
        for ends, left in (("0.0", 2), ("1.0", 1), ("2.0", 0))
    ]


def test_a_terminal_has_a_live_line_that_is_gone_in_the_end() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with progress_on(console, PLAN) as watcher:
        assert isinstance(watcher, LiveProgress)
        watcher.opening(3, 1)
        watcher._progress.refresh()
        watcher.row(row(1))
        watcher._progress.refresh()
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "3 of 10 connections, 1 failed" in shown
    assert "1,001 /s  p50 95.2 µs  p99 1.23 ms  errors 0  1 s left" in shown
    assert shown.rstrip("\n").endswith("\x1b[2K")  # the line is erased


# The page.


class Checker(HTMLParser):
    """Checks that elements are closed in the right order."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1


def checked(plan: Plan, result: LoadResult) -> tuple[str, Checker]:
    text = page(plan, result)
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        for element in ElementTree.fromstring(drawing).iter():
            for name in ("x", "y", "x1", "y1", "cx", "cy", "width", "height"):
                assert math.isfinite(float(element.get(name, 0)))
            for number in re.findall(r"-?[\d.]+", element.get("d", "")):
                assert -1 < float(number) < 1000
    return text, checker


def test_the_page_is_whole_and_stands_alone() -> None:
    text, checker = checked(PLAN, RESULT)
    assert checker.counts["svg"] == 3
    assert {tag for tag, name, _ in checker.attributes if name in ("src", "href", "xlink:href")} == set()
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    assert "/&lt;&amp;&gt;" in text
    assert "/<&>" not in text
    for number in ("1,000", "95.2 µs", "1.50 s", "4,321"):
        assert number in text


def test_what_a_server_says_commands_no_terminal() -> None:
    told = "\n".join(report.notes(PLAN, replace(FAILED, first_error="HTTP status 400: \x1b[2J\n[red]")))
    assert r"HTTP status 400: \x1b[2J\n[red]." in told


def test_the_page_shows_errors_and_notes() -> None:
    text, _ = checked(PLAN, FAILED)
    assert "a message was never answered" in text
    assert "The server closed all connections 1.20 s into the run." in text
    assert '<div class="tile bad"><b>4</b><span>errors</span></div>' in text


@pytest.mark.parametrize("mode", ["idle", "connect", "fanout", "echo"])
def test_every_mode_has_a_page(mode: str) -> None:
    result = replace(RESULT, curve_us=[], latency_us=dict.fromkeys(LATENCY, 0.0)) if mode == "idle" else RESULT
    _, checker = checked(replace(PLAN, mode=mode), result)
    assert checker.counts.get("svg", 0) == (0 if mode == "idle" else 3)


def test_a_run_with_hardly_anything_has_a_page() -> None:
    nothing = replace(row(0), messages=0, rate=0.0, latency_us=dict.fromkeys(LATENCY, 0.0))
    checked(PLAN, replace(RESULT, messages=0, rate=0.0, timeline=[nothing], curve_us=[]))
    checked(PLAN, replace(RESULT, timeline=[row(0)], curve_us=[(0.0, 5.0), (50.0, 5.0), (100.0, 5.0)]))


def test_latencies_have_a_gap_where_nothing_was_answered() -> None:
    silent = replace(row(2), messages=0, rate=0.0, latency_us=dict.fromkeys(LATENCY, 0.0))
    drawing = latency_chart([row(0), row(1), silent, row(3)]).svg()
    for kind in ("first", "second", "third"):
        paths = re.findall(rf'<path class="line {kind}" d="([^"]*)"', drawing)
        assert [path.count("M") + path.count("L") for path in paths] == [2, 1]


@pytest.mark.parametrize(("low", "high"), [(5, 5), (1, 1000), (30, 70), (0.5, 1e8)])
def test_logarithmic_axes_hold_their_values(low: float, high: float) -> None:
    axis = chart.logarithmic(low, high, str)
    assert axis.low <= low <= high <= axis.high
    assert 2 <= len(axis.ticks) <= 12
    assert axis.place(axis.low) == 0
    assert axis.place(axis.high) == pytest.approx(1)
    assert axis.place(math.sqrt(axis.low * axis.high)) == pytest.approx(0.5)


@pytest.mark.parametrize("high", [0, 0.3, 1, 7, 999, 1_061_083])
def test_axes_from_zero_end_at_a_round_number_above(high: float) -> None:
    axis = chart.from_zero(high, "{:g}".format)
    assert axis.ticks[0][0] == 0
    assert axis.ticks[-1][0] == pytest.approx(axis.high)
    assert high <= axis.high <= max(high * 1.8, 1)
    assert 3 <= len(axis.ticks) <= 8


@pytest.mark.parametrize(
    ("mode", "errors", "said"),
    [
        ("echo", {"missing": 10}, "every message back to its connection"),
        ("fanout", {}, "every message back to all connections"),
        ("echo", {"closed": 10}, ""),
        ("idle", {}, ""),
    ],
)
def test_that_nobody_replied_is_said_with_what_is_needed(mode: str, errors: dict[str, int], said: str) -> None:
    notes = " ".join(report.notes(replace(PLAN, mode=mode), replace(RESULT, messages=0, errors=errors)))
    assert (said in notes, "There was no reply from ws://127.0.0.1:8080" in notes) == (True, bool(said))
    assert "no reply" not in " ".join(report.notes(PLAN, RESULT))
