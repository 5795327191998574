"""The result of a run for people: the final table, and texts that progress and page use too."""

import json
from dataclasses import asdict

from rich import box
from rich.table import Table
from rich.text import Text

from zwoole.bench.loadtest import connection
from zwoole.bench.loadtest.plan import CONNECT, ECHO, FANOUT, IDLE, SENDING_MODES, Plan
from zwoole.bench.loadtest.run import ERROR_KINDS, LoadResult, no_reply
from zwoole.shared.process.printable import printable

KEPT_UP_SHARE = 0.99  # of the rate that an open loop asks for


def title(plan: Plan) -> str:
    """Return one line that describes a plan."""
    connections = counted(plan.connections, "connection")
    processes = counted(min(plan.processes, plan.connections), "process", "processes")
    what = {
        ECHO: f"echo of {message(plan)} on {connections}",
        FANOUT: f"fan-out of {message(plan)} from {counted(plan.senders, 'sender')} to {connections}",
        IDLE: f"{connections} held open",
        CONNECT: f"opening and closing, {connections} at a time",
    }[plan.mode]
    return f"{what}, {processes}, {plan.target}"


def message(plan: Plan) -> str:
    """Return a description of the plan's messages."""
    total = sum(weight for _, weight in plan.sizes)
    sizes = [f"{size:,} B" + (f" ({weight / total:.0%})" if len(plan.sizes) > 1 else "") for size, weight in plan.sizes]
    kind = "binary" if plan.binary else "text"
    return f"{' + '.join(sizes)} {kind}{', compressed' if plan.compress else ''}"


def loop(plan: Plan) -> str:
    """Return one line that says how messages are timed, and so what latency means."""
    if plan.mode == IDLE:
        return "no messages"
    if plan.mode == CONNECT:
        return "closed loop; latency from the TCP connect to the response"
    if plan.rate:
        return f"open loop, {plan.rate:,g} messages/s sent; latency from the intended send time"
    own = "own copy" if plan.mode == FANOUT else "reply"
    return f"closed loop, {plan.depth} outstanding on each; latency from the send to the {own}"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(microseconds: float) -> str:
    """Return a time with three significant digits and a suitable unit."""
    for limit, unit, size in ((1e3, "µs", 1.0), (1e6, "ms", 1e3), (float("inf"), "s", 1e6)):
        if microseconds < limit * 0.9995:
            value = microseconds / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    raise AssertionError


def megabytes(rate: float) -> str:
    """Return MB/s with as many decimals as are significant."""
    return f"{rate:,.{1 if rate >= 10 else 3}f}"


def rows(plan: Plan, result: LoadResult) -> list[tuple[str, str, str]]:
    """Return the rows of the table: name, value, remark."""
    table = []
    if plan.mode in SENDING_MODES:
        noun = "frames received" if plan.mode == FANOUT else "right replies"
        table.append(("messages/s", f"{result.rate:,.0f}", f"{result.messages:,} {noun} in {result.seconds:.2f} s"))
        table.append(("MB/s", megabytes(result.megabytes_per_second), "payload, one way"))
    if plan.mode == CONNECT:
        table.append(("connects/s", f"{result.rate:,.0f}", f"{result.messages:,} in {result.seconds:.2f} s"))
    if plan.mode != IDLE:
        for name, value in result.latency_us.items():
            about = "latency from the intended send time" if plan.rate else "latency"
            table.append((name, duration(value), about if name == "p50" else ""))
    if plan.mode != CONNECT:
        table.append(("connects/s", f"{result.connect_rate:,.0f}", f"{result.connections:,} opened before the run"))
        table.append(("still open", f"{result.still_open:,}", f"after {result.seconds:.2f} s"))
    table.append(("client CPU", f"{result.client_cpu_share:.0%}", f"of {counted(result.client_cores, 'core')}"))
    return table


def error_rows(result: LoadResult) -> list[tuple[str, str, str]]:
    """Return a row for each kind of error, in the same form."""
    return [(kind, f"{count:,}", ERROR_KINDS[kind]) for kind, count in sorted(result.errors.items())]


def notes(plan: Plan, result: LoadResult) -> list[str]:
    """Return what a reader of the numbers must know, one sentence each."""
    lines = []
    if result.connections and not result.still_open and result.seconds < plan.duration_s and not plan.messages:
        lines.append(f"The server closed all connections {result.seconds:.2f} s into the run.")
    if result.silent and plan.mode in SENDING_MODES:
        lines.append(f"There was {no_reply(plan)}.")
    if result.first_error:
        lines.append(f"The first connection that failed: {printable(result.first_error)}.")
    if result.client_was_the_limit:
        lines.append("The client was the bottleneck: its CPU was busy. The server may be faster than this.")
    if not connection.COMPILED:
        lines.append("The client is not compiled, which makes it many times slower.")
    answered = result.rate / (plan.connections if plan.mode == FANOUT else 1)
    if answered < plan.rate * KEPT_UP_SHARE:
        lines.append(f"The rate was not reached: {answered:,.0f} of {plan.rate:,g} messages/s were answered in time.")
    return lines


def table(plan: Plan, result: LoadResult) -> Table:
    """Return the result as a table for a terminal."""
    grid = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(style="dim")
    for row in rows(plan, result):
        grid.add_row(*row)
    errors = error_rows(result)
    grid.add_row("errors", "none" if not errors else f"{sum(result.errors.values()):,}", "")
    for kind, count, what in errors:
        grid.add_row(Text(f"  {kind}", "red"), Text(count, "red"), Text(what, "red"))
    return grid


def as_json(plan: Plan, result: LoadResult) -> str:
    """Return plan and result as JSON."""
    return json.dumps({"plan": asdict(plan), "result": asdict(result)}, indent=2) + "\n"
