"""Summaries of a comparison's runs: medians, spreads, ratios within each round, and their tables."""

from collections.abc import Callable, Sequence
from statistics import median

from zwoole.bench.compare.measuring import Run
from zwoole.bench.compare.scenarios import Scenario
from zwoole.bench.loadtest.plan import CONNECT, IDLE
from zwoole.bench.loadtest.run import LoadResult

_LIMITED = " ¹"
LIMITED_NOTE = "¹ The load client had no CPU time to spare, so the server may be faster than that."


def of(runs: Sequence[Run], scenario: Scenario, peer: str) -> list[tuple[Run, LoadResult]]:
    """Return the runs of a server in a scenario that have a result."""
    return [(run, run.result) for run in runs if (run.scenario, run.peer) == (scenario.name, peer) and run.result]


def ratios(runs: Sequence[Run], scenario: Scenario, peer: str, ours: str = "") -> list[float]:
    """Return our result divided by the other server's, for each round in which both have one.

    Args:
        runs: the runs of all scenarios.
        scenario: the scenario.
        peer: the other server.
        ours: our server, by default the one that the scenario names.
    """
    figures = {run.round: run.figure for run, _ in of(runs, scenario, ours or scenario.ours)}
    others = [run for run, _ in of(runs, scenario, peer) if run.figure > 0]
    return [figures[other.round] / other.figure for other in others if other.round in figures]


def table(runs: Sequence[Run], scenario: Scenario, peers: Sequence[str]) -> str:
    """Return the Markdown table of one scenario: medians, with minimum and maximum in brackets.

    Args:
        runs: the runs of all scenarios.
        scenario: the scenario.
        peers: the order of the rows; servers that were not measured in this scenario have none.
    """
    measured = {run.peer for run in runs if run.scenario == scenario.name}
    rows = [_head(scenario), *(_row(runs, scenario, peer) for peer in peers if peer in measured)]
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Return rows as a Markdown table.

    Args:
        rows: the cells, first those of the head.
        left: the columns that are aligned to the left.
    """
    columns = range(len(rows[0]))
    widths = [max(len(row[column]) for row in rows) for column in columns]
    lines = [
        [row[one].ljust(widths[one]) if one in left else row[one].rjust(widths[one]) for one in columns] for row in rows
    ]
    rule = "|".join("-" * (widths[one] + 1) + ("-" if one in left else ":") for one in columns)
    head, *others = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, f"|{rule}|", *others])


def spread(values: Sequence[float], style: Callable[[float], str]) -> str:
    """Return the median of the values, with minimum and maximum in brackets; "" if there are none."""
    if len(values) < 2:
        return style(values[0]) if values else ""
    return f"{style(median(values))} ({style(min(values))}-{style(max(values))})"


def _head(scenario: Scenario) -> list[str]:
    ratio = f"{scenario.ours} / it"
    if scenario.mode == IDLE:
        return ["", "bytes per connection", "connections", "connected/s", ratio]
    unit = "connections/s" if scenario.mode == CONNECT else "messages/s"
    return ["", unit, "p50 µs", "p99 µs", "server CPU s per million", ratio]


def _row(runs: Sequence[Run], scenario: Scenario, peer: str) -> list[str]:
    good = of(runs, scenario, peer)
    if not good:
        return [peer, "no result", *[""] * (len(_head(scenario)) - 2)]
    results = [result for _, result in good]
    figure = spread([run.figure for run, _ in good], "{:,.0f}".format)
    ratio = "" if peer == scenario.ours else spread(ratios(runs, scenario, peer), "{:.2f}".format)
    if scenario.mode == IDLE:
        connections = min(result.connections for result in results)
        return [peer, figure, f"{connections:,}", f"{median(result.connect_rate for result in results):,.0f}", ratio]
    if any(result.client_was_the_limit for result in results):
        figure += _LIMITED
    p50, p99 = (f"{median(result.latency_us[name] for result in results):,.0f}" for name in ("p50", "p99"))
    return [peer, figure, p50, p99, f"{median(run.cpu_s_per_million for run, _ in good):.2f}", ratio]
