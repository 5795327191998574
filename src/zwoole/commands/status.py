"""`zwoole status`: what a server does, in lines of text; `status_table.py` prints it to terminals."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from zwoole.commands.formatting import duration, lines, size
from zwoole.commands.options import server_options, show
from zwoole.commands.status_rows import HEAD, notes, rates, rows_of, totals
from zwoole.control import Control

SAMPLE_S = 0.5  # between the two reports that rates are made from


@click.command()
@server_options
def status(run_dir: str | None, port: int | None, as_json: bool) -> None:
    """Show what a running server does. Text output watches it for half a second, for the rates.

    Example: zwoole status --json
    """
    control = Control(run_dir, port=port)
    first = control.status()
    if as_json:
        show(first, True, "")
        return
    begun = time.monotonic()
    time.sleep(SAMPLE_S)
    second = control.status()
    seconds = time.monotonic() - begun
    if sys.stdout.isatty():
        from zwoole.commands import status_table

        status_table.show(first, second, seconds)
    else:
        click.echo(describe(first, second, seconds))


def describe(first: dict[str, Any], second: dict[str, Any], seconds: float) -> str:
    """Return two reports, made `seconds` apart, as lines of text."""
    now, rate = totals(second), rates(first, second, seconds)
    head = [
        f"{second['state']} {second['target']} on {', '.join(second['listening'])}, up {duration(second['uptime_s'])} "
        f"(pid {second['pid']})",
        f"connections {now['connections']:,}, waiting to be sent {size(now['queued_bytes'])}",
        f"messages in {now['messages_in']:,} ({rate['messages_in']:,.0f}/s, {size(rate['bytes_in'])}/s), "
        f"out {now['messages_out']:,} ({rate['messages_out']:,.0f}/s, {size(rate['bytes_out'])}/s)",
        f"run directory {second['run_dir']}",
    ]
    rows = [row.cells() for row in rows_of(first, second, seconds)]
    table = lines([HEAD, *rows], right={1, 3, 4, 5, 6, 7, 8, 9})
    warnings = notes(second)
    return "\n".join([*head, "", table, *([""] if warnings else []), *warnings])
