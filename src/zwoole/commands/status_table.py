"""`zwoole status` on a terminal. Colours mark what is not as it should be."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from zwoole.commands.formatting import duration, size
from zwoole.commands.status_rows import HEAD, Row, notes, rates, rows_of, totals

BUSY_CPU = 0.9  # of a core
LATE_S = 0.1
DOT = "●"
WIDTH = 84  # at least, so that nothing is cut off: on a narrower terminal lines wrap
WARNS, FAILS = "yellow", "bold red"
STATES = {"serving": "bold green", "ready": "green"}  # all others lead to one of these, or away from it
LEFT = {"PROCESS", "STATE"}


def show(first: dict[str, Any], second: dict[str, Any], seconds: float) -> None:
    """Print two reports, made `seconds` apart."""
    console = Console(highlight=False)
    console.print(
        page(first, second, seconds, "*" if console.options.ascii_only else DOT),
        width=max(console.width, WIDTH),
        soft_wrap=True,
    )


def page(first: dict[str, Any], second: dict[str, Any], seconds: float, dot: str = DOT) -> Group:
    """Return what is printed: a few lines about the server, behind a dot, then a table of its processes."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name in HEAD:
        table.add_column(
            name.replace("CONNECTIONS", "CLIENTS"), justify="left" if name in LEFT else "right", no_wrap=True
        )
    for row in rows_of(first, second, seconds):
        table.add_row(*(Text(cell, style) for cell, style in zip(row.cells(), styles(row), strict=True)))
    warnings = [Text(note, FAILS) for note in notes(second)]
    return Group(title(second, dot), summary(second, rates(first, second, seconds)), table, *warnings)


def title(report: dict[str, Any], dot: str) -> Text:
    """Return the lines with the state of the server, its addresses and its run directory."""
    return Text.assemble(
        (f"{dot} {report['state']}", STATES.get(report["state"], WARNS)),
        f" {report['target']} on {', '.join(report['listening'])} for ",
        (duration(report["uptime_s"]), "bold"),
        (f" (pid {report['pid']})", "dim"),
        (f"\n  {report['run_dir']}\n", "dim"),
    )


def summary(report: dict[str, Any], rate: dict[str, float]) -> Table:
    """Return the lines about connections and traffic, with rates first."""
    now = totals(report)
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right")
    grid.add_column(justify="right")
    grid.add_row("  clients", Text(f"{now['connections']:,}", "bold"))
    for way in ("in", "out"):
        each, volume, total = rate[f"messages_{way}"], rate[f"bytes_{way}"], now[f"messages_{way}"]
        grid.add_row(
            f"  messages {way}", Text(f"{each:,.0f}/s", "bold"), f"{size(volume)}/s", Text(f"{total:,} in all", "dim")
        )
    grid.add_row("  unsent", Text(size(now["queued_bytes"]), "bold"))
    return grid


def styles(row: Row) -> list[str]:
    """Return the style of each cell of a process's line."""
    late = row.lag_s is not None and row.lag_s >= LATE_S
    marked = {
        "STATE": STATES.get(row.state, WARNS),
        "CPU": FAILS if row.cpu >= BUSY_CPU else "",
        "LAG": FAILS if late else "",
        "RESTARTS": WARNS if row.restarts else "",
    }
    return [marked.get(name, "") for name in HEAD]
