"""`zwoole reload`, `stop` and `workers`: what the processes of a running server are to do."""

from __future__ import annotations

import click

from zwoole.commands.options import json_option, run_dir_option, show
from zwoole.control import Control


@click.command()
@run_dir_option
@json_option
def reload(run_dir: str | None, as_json: bool) -> None:
    """Replace all workers by new ones that read the code again; connections stay. Fails where the new code does.

    Example: zwoole reload
    """
    count = Control(run_dir).reload()
    show({"workers": count}, as_json, f"reloaded {count} worker(s)")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("change", type=click.Choice(["+1", "-1"]))
@run_dir_option
@json_option
def workers(change: str, run_dir: str | None, as_json: bool) -> None:
    """Start one worker more (+1), or give one up (-1).

    Example: zwoole workers +1
    """
    count = Control(run_dir).workers(int(change))
    show({"worker_num": count}, as_json, f"{count} worker(s)")


@click.command()
@click.option("--drain", type=float, default=0.0, metavar="SECONDS", help="Spread the clients' goodbye over this time.")
@run_dir_option
@json_option
def stop(drain: float, run_dir: str | None, as_json: bool) -> None:
    """Stop a running server in good order, and wait for its end.

    Example: zwoole stop --drain 30
    """
    pid = Control(run_dir).stop(drain)
    show({"stopped": True, "pid": pid}, as_json, f"stopped (pid {pid})")
