"""`zwoole reload`, `stop` and `workers`: commands to the processes of a running server."""

from __future__ import annotations

import re

import click

from zwoole.commands.options import control_of, server_options, show
from zwoole.shared.process.control_messages import LONGEST_DRAIN_S
from zwoole.shared.settings import MAX_WORKERS


@click.command()
@server_options
def reload(run_dir: str | None, port: int | None, as_json: bool) -> None:
    """Replace all workers by new ones that read the code again; connections stay. If the new code fails, the old
    workers go on.

    Example: zwoole reload
    """
    control = control_of(run_dir, port, as_json)
    count = control.reload()
    changed = control.status()["needs_restart"]
    text = f"reloaded {count} worker(s)" + (f"; needs a restart: {', '.join(changed)}" if changed else "")
    show({"workers": count, "needs_restart": changed}, as_json, text, control)


def check_number(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check that a value is a number of workers, or a change of it with a sign."""
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", value) or (value[0] in "+-" and abs(int(value)) > MAX_WORKERS):
        raise click.BadParameter(
            f"{value!r} is neither a number of workers nor a change such as +1", context, parameter
        )
    if value[0] not in "+-" and not 1 <= int(value) <= MAX_WORKERS:
        raise click.BadParameter(
            f"{int(value)} workers cannot be: give a number from 1 to {MAX_WORKERS}, or a change such as +1",
            context,
            parameter,
        )
    return value


def check_drain(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Check that a value is a time for a drain. The range of click would accept NaN."""
    if not 0 <= value <= LONGEST_DRAIN_S:
        raise click.BadParameter(f"{value} is not in the range 0<=x<={LONGEST_DRAIN_S}.", context, parameter)
    return value


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("number", metavar="N|+N|-N", callback=check_number)
@server_options
def workers(number: str, run_dir: str | None, port: int | None, as_json: bool) -> None:
    """Change the number of workers to N, or by +N or -N.

    Example: zwoole workers +1
    """
    control = control_of(run_dir, port, as_json)
    count = control.workers(**{"by" if number[0] in "+-" else "number": int(number)})
    show({"worker_num": count}, as_json, f"{count} worker(s)", control)


@click.command()
@click.option(
    "--drain",
    type=float,
    default=0.0,
    metavar="SECONDS",
    callback=check_drain,
    help="Send the clients away over this time, not all at once.",
)
@server_options
def stop(drain: float, run_dir: str | None, port: int | None, as_json: bool) -> None:
    """Stop a running server gracefully, and wait for its end.

    Example: zwoole stop --drain 30
    """
    control = control_of(run_dir, port, as_json)
    pid = control.stop(drain)
    show({"stopped": True, "pid": pid}, as_json, f"stopped (pid {pid})", control)
