"""`zwoole status` for people, and its tables."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from rich.console import Console

from zwoole.commands.formatting import duration, lines, size
from zwoole.commands.status import describe
from zwoole.commands.status_rows import HEAD, rows_of
from zwoole.commands.status_table import FAILS, WARNS, page, show, styles

COUNTERS = {"messages_in": 100, "messages_out": 200, "bytes_in": 1000, "bytes_out": 2000, "queued_bytes": 0}
PROCESS = {"ready": True, "retiring": False, "uptime_s": 7500.0, "memory_bytes": 30 << 20, "restarts": 0}
REPORT: dict[str, Any] = {
    "pid": 100,
    "uptime_s": 7503.0,
    "state": "serving",
    "target": "app.py",
    "listening": ["127.0.0.1:8080"],
    "run_dir": "/run/zwoole",
    "missing": [],
    "needs_restart": [],
    "log_lines_lost": 0,
    "stats": {"total": {"log_lines_lost": 0}},
    "processes": [
        {**PROCESS, "role": "worker", "id": 1, "pid": 103, "cpu_s": 1.0, "ready": False},
        {**PROCESS, "role": "worker", "id": 0, "pid": 102, "cpu_s": 1.0, "restarts": 2},
        {**PROCESS, "role": "master", "id": 0, "pid": 101, "cpu_s": 5.0},
    ],
    "masters": [
        {
            **COUNTERS,
            "id": 0,
            "connections": 3,
            "loop_lag_s": 0.0021,
            "workers": [{"pid": 102, "connections": 3, "outstanding": 5}],
        }
    ],
}


def printed(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Return what a terminal shows."""
    file = io.StringIO()
    Console(file=file, width=100).print(page(first, second, 0.5))
    return file.getvalue()


def test_a_page_has_totals_rates_and_a_line_for_each_process() -> None:
    later = copy.deepcopy(REPORT)
    later["masters"][0].update(messages_in=150, messages_out=300, bytes_in=2024, bytes_out=4048, queued_bytes=2048)
    later["processes"][2]["cpu_s"] = 5.25
    assert describe(REPORT, later, 0.5).splitlines() == [
        "serving app.py on 127.0.0.1:8080, up 2h05m (pid 100)",
        "connections 3, waiting to be sent 2.0 KiB",
        "messages in 150 (100/s, 2.0 KiB/s), out 300 (200/s, 4.0 KiB/s)",
        "run directory /run/zwoole",
        "",
        "PROCESS   PID  STATE        UP  CPU    MEMORY  CONNECTIONS  QUEUE   LAG  RESTARTS",
        "master 0  101  ready     2h05m  50%  30.0 MiB            3         2 ms         0",
        "worker 0  102  ready     2h05m   0%  30.0 MiB            3      5               2",
        "worker 1  103  starting  2h05m   0%  30.0 MiB            0      0               0",
    ]


def test_lines_that_were_lost_are_told_of() -> None:
    told = "1,234 lines of the log or of the app's output were lost, because nothing read them"
    later = {**REPORT, "log_lines_lost": 1000, "stats": {"total": {"log_lines_lost": 234}}}
    assert told in describe(REPORT, later, 0.5)
    assert told not in describe(REPORT, REPORT, 0.5)
    assert told in printed(REPORT, later)
    assert told not in printed(REPORT, REPORT)


def test_a_process_and_a_master_that_are_new_have_no_rates_yet() -> None:
    earlier = copy.deepcopy(REPORT)
    earlier["processes"] = earlier["masters"] = []
    page = describe(earlier, {**REPORT, "masters": []}, 0.5)
    assert "messages in 0 (0/s, 0 B/s)" in page
    assert "master 0  101  ready     2h05m   0%" in page


def test_a_terminal_is_shown_the_same_numbers() -> None:
    later = copy.deepcopy(REPORT)
    later["masters"][0].update(messages_in=150_000, messages_out=300, bytes_in=2024, bytes_out=4048, queued_bytes=2048)
    later["processes"][2]["cpu_s"] = 5.25
    console = Console(file=io.StringIO(), width=80)
    console.print(page(REPORT, later, 0.5))
    assert [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()] == [  # type: ignore[attr-defined]
        "● serving app.py on 127.0.0.1:8080 for 2h05m (pid 100)",
        "  /run/zwoole",
        "  clients               3",
        "  messages in   299,800/s  2.0 KiB/s  150,000 in all",
        "  messages out      200/s  4.0 KiB/s  300 in all",
        "  unsent          2.0 KiB",
        " PROCESS   PID  STATE        UP  CPU    MEMORY  CLIENTS  QUEUE   LAG  RESTARTS",
        " " + "─" * 77,
        " master 0  101  ready     2h05m  50%  30.0 MiB        3         2 ms         0",
        " worker 0  102  ready     2h05m   0%  30.0 MiB        3      5               2",
        " worker 1  103  starting  2h05m   0%  30.0 MiB        0      0               0",
    ]


MISSING: dict[str, Any] = {
    "role": "worker",
    "id": 2,
    "starting": False,
    "failed_boots": 4,
    "next_try_s": 1.6,
    "last": "exit 3",
}


def test_a_worker_that_is_missing_has_a_line() -> None:
    starting = {**MISSING, "id": 3, "starting": True, "failed_boots": 0, "next_try_s": None, "last": ""}
    report = {**REPORT, "missing": [MISSING, starting]}
    line = "worker 2: not running, 4 failed boots, next try in 1.6 s, last: exit 3"
    assert describe(report, report, 0.5).splitlines()[-2:] == ["", line]
    console = Console(file=io.StringIO(), width=80)
    console.print(page(report, report, 0.5))
    assert console.file.getvalue().splitlines()[-1] == line  # type: ignore[attr-defined]


def test_a_terminal_that_knows_ascii_only_is_shown_no_other_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    show(REPORT, REPORT, 0.5)
    out.flush()
    assert out.buffer.getvalue().startswith(b"* serving app.py on ")  # type: ignore[attr-defined]


def test_a_setting_that_needs_a_restart_has_a_line() -> None:
    report = {**REPORT, "needs_restart": ["worker_num 2 -> 4", "admin_token has another value"]}
    lines = describe(report, report, 0.5).splitlines()
    assert lines[-2:] == ["needs a restart: worker_num 2 -> 4", "needs a restart: admin_token has another value"]


def test_what_is_not_as_it_should_be_has_a_colour() -> None:
    later = copy.deepcopy(REPORT)
    later["masters"][0]["loop_lag_s"] = 0.2
    later["processes"][2]["cpu_s"] = 5.5
    master, died, starting = rows_of(REPORT, later, 0.5)
    marked = [dict(zip(HEAD, styles(process), strict=True)) for process in (master, died, starting)]
    assert [one["CPU"] for one in marked] == [FAILS, "", ""]
    assert [one["LAG"] for one in marked] == [FAILS, "", ""]
    assert [one["RESTARTS"] for one in marked] == ["", WARNS, ""]
    assert [one["STATE"] for one in marked] == ["green", "green", WARNS]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.9, "59s"), (303, "5m03s"), (7620, "2h07m"), (86400 * 3 + 3600 * 4, "3d04h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (150 * 1024, "150 KiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 60, "1048576 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_columns_are_aligned_and_lines_have_no_blanks_behind() -> None:
    assert lines([["A", "BB"], ["aaa", "b"]]) == "A    BB\naaa  b"
    assert lines([["A", "BB"], ["aaa", "b"]], right={0, 1}) == "  A  BB\naaa   b"
