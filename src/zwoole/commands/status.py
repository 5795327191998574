"""`zwoole status`: a server at a glance."""

from __future__ import annotations

import time
from typing import Any

import click

from zwoole.commands.options import json_option, run_dir_option, show
from zwoole.commands.table import duration, lines, size
from zwoole.control import Control

SAMPLE_S = 0.5  # between the two looks that rates are made from
HEAD = ["PROCESS", "PID", "STATE", "UP", "CPU", "MEMORY", "CONNECTIONS", "QUEUE", "LAG", "RESTARTS"]
COUNTERS = ("connections", "messages_in", "messages_out", "bytes_in", "bytes_out", "queued_bytes")


@click.command()
@run_dir_option
@json_option
def status(run_dir: str | None, as_json: bool) -> None:
    """Show what a running server does. In words it takes half a second, for the rates.

    Example: zwoole status --json
    """
    control = Control(run_dir)
    first = control.status()
    if as_json:
        show(first, True, "")
        return
    begun = time.monotonic()
    time.sleep(SAMPLE_S)
    second = control.status()
    click.echo(describe(first, second, time.monotonic() - begun))


def describe(first: dict[str, Any], second: dict[str, Any], seconds: float) -> str:
    """Return two reports, so many seconds apart, as a page for a person."""
    before, now = totals(first), totals(second)
    rate = {name: max(now[name] - before[name], 0) / seconds for name in COUNTERS}
    head = [
        f"{second['state']} on {', '.join(second['listening'])}, up {duration(second['uptime_s'])} "
        f"(pid {second['pid']})",
        f"connections {now['connections']}, waiting to be sent {size(now['queued_bytes'])}",
        f"messages in {now['messages_in']} ({rate['messages_in']:.0f}/s, {size(rate['bytes_in'])}/s), "
        f"out {now['messages_out']} ({rate['messages_out']:.0f}/s, {size(rate['bytes_out'])}/s)",
        f"run directory {second['run_dir']}",
    ]
    cpu_before = {process["pid"]: process["cpu_s"] for process in first["processes"]}
    rows = []
    for process in sorted(second["processes"], key=lambda process: (process["role"], process["index"])):
        used = (process["cpu_s"] - cpu_before.get(process["pid"], process["cpu_s"])) / seconds
        rows.append(row(process, used, second["masters"]))
    return "\n".join([*head, "", lines([HEAD, *rows], right={1, 3, 4, 5, 6, 7, 8, 9})])


def totals(report: dict[str, Any]) -> dict[str, int]:
    """Return the counters of all masters together."""
    return {name: sum(master[name] for master in report["masters"]) for name in COUNTERS}


def row(process: dict[str, Any], cpu: float, masters: list[dict[str, Any]]) -> list[str]:
    """Return a process's line of the table."""
    state = "retiring" if process["retiring"] else "ready" if process["ready"] else "starting"
    connections = queue = lag = ""
    if process["role"] == "master":
        for master in masters:
            if master["index"] == process["index"]:
                connections, lag = str(master["connections"]), f"{master['loop_lag_s'] * 1000:.0f} ms"
    else:
        links = [link for master in masters for link in master["workers"] if link["pid"] == process["pid"]]
        connections = str(sum(link["connections"] for link in links))
        queue = str(sum(link["outstanding"] for link in links))
    return [
        *(f"{process['role']} {process['index']}", str(process["pid"]), state, duration(process["uptime_s"])),
        *(f"{cpu:.0%}", size(process["memory_bytes"]), connections, queue, lag, str(process["restarts"])),
    ]
