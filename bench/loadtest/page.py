"""The result of a run as one self-contained HTML page: numbers, and charts as inline SVG, for light and dark mode."""

import itertools
import math
import os
import platform
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from string import Template

from zwoole.bench.loadtest import chart, report
from zwoole.bench.loadtest.chart import Axis, Chart
from zwoole.bench.loadtest.plan import CONNECT, IDLE, Plan
from zwoole.bench.loadtest.report import duration
from zwoole.bench.loadtest.run import LoadResult
from zwoole.bench.loadtest.timeline import Row
from zwoole.version import VERSION

TEMPLATE = Path(__file__).with_name("page.html")

_MARKED = (50.0, 90.0, 99.0, 99.9, 99.99)  # percentiles marked with a dot and their latency
_OVER_TIME = ("p50", "p99", "max")


def page(plan: Plan, result: LoadResult) -> str:
    """Return the page."""
    rows = [_row(*row) for row in report.rows(plan, result)]
    rows += [_row(*row, kind="bad") for row in report.error_rows(result)]
    charts = []
    if result.curve_us:
        charts.append(_figure("Latency by percentile", percentile_chart(result.curve_us)))
    if result.timeline and plan.mode != IDLE:
        what = "Connects" if plan.mode == CONNECT else "Messages"
        charts.append(_figure(f"{what} per second over time", rate_chart(result.timeline)))
        charts.append(_figure("Latency over time", latency_chart(result.timeline)))
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(report.title(plan)),
        loop=escape(report.loop(plan)),
        tiles="".join(_tile(*tile) for tile in tiles(plan, result)),
        notes="".join(f'<p class="warning">{escape(note)}</p>' for note in report.notes(plan, result)),
        charts="".join(charts),
        rows="".join(rows),
        made=escape(made()),
    )


def made() -> str:
    """Return which program made the page, when and where."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    machine = (
        f"{os.cpu_count()} CPUs, {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    )
    return f"zwoole bench {VERSION}, {now}, {machine}"


def tiles(plan: Plan, result: LoadResult) -> list[tuple[str, str, str]]:
    """Return the most important numbers: name, value, and CSS class."""
    errors = sum(result.errors.values())
    found = []
    if plan.mode == IDLE:
        found.append(("still open", f"{result.still_open:,}", ""))
        found.append(("connects/s", f"{result.connect_rate:,.0f}", ""))
    else:
        found.append(("connects/s" if plan.mode == CONNECT else "messages/s", f"{result.rate:,.0f}", ""))
        found += [(name, duration(value), "") for name, value in result.latency_us.items() if name != "p90"]
    found.append(("errors", f"{errors:,}", "bad" if errors else "good"))
    return found


def percentile_chart(curve_us: list[tuple[float, float]]) -> Chart:
    """Return the chart of latencies by percentile; each further nine is as wide as the one before."""
    last = max((_nines(level) for level, _ in curve_us if level < 100), default=0.0)
    end = max(math.ceil(last * 1.02 * 4) / 4, 0.5)  # where 100 % is drawn
    points = [(end if level >= 100 else _nines(level), value) for level, value in curve_us]
    levels = [0.0, 50.0, *(100 - 10.0**-power for power in range(-1, 12))]
    ticks = [(_nines(level), f"{level:.10g} %") for level in levels if _nines(level) < end - 0.4] + [(end, "max")]
    low, high = (max(pick(value for _, value in points), 1e-3) for pick in (min, max))
    drawn = Chart("latency by percentile", Axis(0, end, ticks), chart.logarithmic(low, high, _round))
    drawn.columns(
        [
            (left[0], right[0], f"{level:.6g} % within {duration(value)}")
            for left, right, (level, value) in zip(points, points[1:], curve_us[1:], strict=False)
        ]
    )
    drawn.line(points, "first")
    for level in _MARKED:
        at = next((value for reached, value in curve_us if reached >= level - 1e-9), None)
        if at and _nines(level) < end - 0.12:
            drawn.dot(_nines(level), at, "first")
            drawn.note(_nines(level), at, duration(at))
    drawn.dot(*points[-1], "first")
    drawn.labels([(points[-1][1], duration(points[-1][1]), "first")])
    drawn.caption("percentile")
    return drawn


def _nines(level: float) -> float:
    """Return how many nines a percentile below 100 has: 90 has one, 99 two."""
    return -math.log10(1 - level / 100)


def rate_chart(rows: list[Row]) -> Chart:
    """Return the chart of the rate over time."""
    drawn = Chart("rate over time", _time_axis(rows), chart.from_zero(max(row.rate for row in rows), _short))
    drawn.line([(_middle(rows, index), row.rate) for index, row in enumerate(rows)], "first", area=True)
    drawn.labels([(rows[-1].rate, f"{_short(rows[-1].rate)} /s", "first")])
    drawn.columns(_columns(rows))
    drawn.caption("seconds")
    return drawn


def latency_chart(rows: list[Row]) -> Chart:
    """Return the chart of some latency percentiles over time."""
    values = [row.latency_us[name] for row in rows if row.messages for name in _OVER_TIME] or [1.0]
    y = chart.logarithmic(max(min(values), 1e-3), max(values), _round)
    drawn = Chart("latency over time", _time_axis(rows), y)
    kinds = dict(zip(_OVER_TIME, ("first", "second", "third"), strict=True))
    ends = []
    for name, kind in kinds.items():
        for answered, run in itertools.groupby(range(len(rows)), lambda index: rows[index].messages > 0):
            if answered:  # the line has a gap where nothing was answered
                points = [(_middle(rows, index), rows[index].latency_us[name]) for index in run]
                drawn.line(points, kind)
        if any(row.messages for row in rows):
            ends.append((points[-1][1], name, kind))
    drawn.labels(ends)
    drawn.columns(_columns(rows))
    drawn.caption("seconds")
    return drawn


def _time_axis(rows: list[Row]) -> Axis:
    return chart.linear(0, rows[-1].ends_s, "{:g}".format, count=10)


def _began(rows: list[Row], index: int) -> float:
    return rows[index - 1].ends_s if index else 0.0


def _middle(rows: list[Row], index: int) -> float:
    return (_began(rows, index) + rows[index].ends_s) / 2


def _columns(rows: list[Row]) -> list[tuple[float, float, str]]:
    columns = []
    for index, row in enumerate(rows):
        latencies = "\n".join(f"{name} {duration(value)}" for name, value in row.latency_us.items())
        text = (
            f"{_began(rows, index):.2f} to {row.ends_s:.2f} s\n{row.rate:,.0f} /s\n{latencies}\nerrors {row.errors:,}"
        )
        columns.append((_began(rows, index), row.ends_s, text))
    return columns


def _round(microseconds: float) -> str:
    """Return a time that is 1, 2 or 5 times a power of ten."""
    number, unit = duration(microseconds).split()
    return f"{float(number):g} {unit}"


def _short(value: float) -> str:
    """Return a number with at most three digits and a unit."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _tile(what: str, value: str, kind: str) -> str:
    return f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(what)}</span></div>'


def _row(what: str, value: str, more: str, kind: str = "") -> str:
    return f'<tr class="{kind}"><th>{escape(what)}</th><td>{escape(value)}</td><td>{escape(more)}</td></tr>'


def _figure(title: str, drawn: Chart) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawn.svg()}</figure>"
