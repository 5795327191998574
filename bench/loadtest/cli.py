"""The command `zwoole bench`: its options, what it prints and writes. Slow imports are deferred until it runs."""

import os
from pathlib import Path
from typing import Any

import click

from zwoole.bench.loadtest.plan import ECHO, MODES, MOST_SOURCES, SENDING_MODES, Plan, Target, parse_sizes

EXIT_ERRORS = 1  # a reply was wrong or missing, or a connection failed

_WIDTH = 120  # of the table if it does not go to a terminal

_file = click.Path(dir_okay=False, writable=True, path_type=Path)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _header(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Parse "Name: value"."""
    fields = []
    for value in values:
        name, separator, content = value.partition(":")
        if not separator or not name.strip() or not value.isprintable():
            raise click.BadParameter(f"{value!r} is not of the form 'Name: value'")
        fields.append((name.strip(), content.strip()))
    return tuple(fields)


def _size(context: click.Context, parameter: click.Parameter, value: str) -> Any:
    try:
        return parse_sizes(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _in_a_folder(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a file whose folder does not exist, before the run."""
    if value and not value.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {value.parent}")
    return value


@click.command("bench", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("url")
@click.option("-c", "--connections", type=click.IntRange(1), default=100, show_default=True)
@click.option("--processes", type=click.IntRange(1), default=_cores, show_default="one a core", help="Share them.")
@click.option("--mode", type=click.Choice(MODES), default=ECHO, show_default=True, help="See above.")
@click.option("--size", default="64", callback=_size, show_default=True, help="Payload bytes, or a mix: 64:80,4096:20.")
@click.option("--depth", type=click.IntRange(1), help="Messages outstanding on each connection (closed loop).  [1]")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Messages/s in total, whatever the replies do.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True, help="Seconds.")
@click.option("--warmup", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds before it.")
@click.option("--messages", type=click.IntRange(1), help="On each connection, instead of warm-up and duration.")
@click.option("--text/--binary", default=True, help="The kind of messages.  [text]")
@click.option("--senders", type=click.IntRange(1), default=1, show_default=True, help="Of the connections, in fanout.")
@click.option("--header", "headers", multiple=True, callback=_header, help="'Name: value' for the upgrade request.")
@click.option("--subprotocol", "subprotocols", multiple=True, help="To offer; may be repeated.")
@click.option("--compress", is_flag=True, help="Use permessage-deflate.")
@click.option("--insecure", is_flag=True, help="Do not verify the certificate of a wss server.")
@click.option("--sources", type=click.IntRange(0, MOST_SOURCES), default=0, help="Come from 127.0.0.1 to 127.0.0.N.")
@click.option("--json", "json_file", type=_file, callback=_in_a_folder, help="Write the result there.")
@click.option("--html", "html_file", type=_file, callback=_in_a_folder, help="Write a page with charts there.")
def bench(
    url: str,
    text: bool,
    depth: int | None,
    rate: float | None,
    json_file: Path | None,
    html_file: Path | None,
    **terms: Any,
) -> None:
    """Load the WebSocket server at URL (ws:// or wss://) and check every reply.

    \b
    --mode echo     the server sends every message back to its connection
    --mode fanout   the server sends every message to all connections
    --mode idle     connections are held open without messages
    --mode connect  connections are opened and closed, again and again

    Without --rate, each reply triggers the next message (closed loop). With --rate, messages are sent on schedule, and
    latency is measured from the scheduled time (open loop).

    The exit code is 1 if a reply was wrong or missing, if there were no replies, or if a connection failed.

    \b
    Example: zwoole bench ws://127.0.0.1:8080/ -c 1000 --depth 16 --duration 10
    """
    if depth and rate:
        raise click.UsageError("--depth is for the closed loop, --rate for the open loop: give one of them")
    terms["duration_s"], terms["warmup_s"] = terms.pop("duration"), terms.pop("warmup")
    terms["messages"] = terms["messages"] or 0
    try:
        plan = Plan(Target.from_url(url), binary=not text, depth=depth or 1, rate=rate or 0.0, **terms)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    raise SystemExit(_run(plan, json_file, html_file))


def _run(plan: Plan, json_file: Path | None, html_file: Path | None) -> int:
    """Run the plan, print and write the result, and return the exit code."""
    from rich.console import Console

    from zwoole.bench.loadtest import page, report
    from zwoole.bench.loadtest.progress import progress_on
    from zwoole.bench.loadtest.run import run_load

    with progress_on(Console(stderr=True), plan) as watcher:
        result = run_load(plan, watcher=watcher)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(report.title(plan), report.loop(plan), sep="\n", markup=False, highlight=False)
    console.print(report.table(plan, result))
    for note in report.notes(plan, result):
        console.print(note, style="yellow", markup=False)
    if json_file:
        json_file.write_text(report.as_json(plan, result), encoding="utf-8")
    if html_file:
        html_file.write_text(page.page(plan, result), encoding="utf-8")
    return EXIT_ERRORS if result.errors or (result.silent and plan.mode in SENDING_MODES) else 0
