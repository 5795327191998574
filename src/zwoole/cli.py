"""The `zwoole` command."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from zwoole import control_client, watching
from zwoole.launch import run_app
from zwoole.run_directory import is_running
from zwoole.shared.errors import SettingsError, ZwooleError
from zwoole.shared.settings import LOG_FORMATS
from zwoole.version import VERSION

STOP_WAIT_S = 60.0
RELOAD_WAIT_S = 120.0
DEBUG_SETTINGS = {
    **{"debug": True, "worker_num": 1, "worker_timeout": 0, "boot_timeout": 0, "slow_callback_s": 0},
    **{"handover_timeout": 3600, "close_timeout": 3600},
}

run_dir_option = click.option("--run-dir", metavar="DIR", help="The server's run directory, where several run.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="zwoole")
def zwoole() -> None:
    """A Swoole-style WebSocket server."""


@zwoole.command(context_settings={"ignore_unknown_options": False})
@click.argument("target")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.")
@click.option("--workers", type=int, help="Number of worker processes.")
@click.option("--reactors", type=int, help="Number of master processes.")
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="Any other setting; may be repeated.")
@click.option("--daemon", is_flag=True, help="Serve in the background; needs --log-file.")
@click.option("--log-file", metavar="FILE", help="Write the log, and what the app prints, to a file.")
@click.option("--log-format", type=click.Choice(LOG_FORMATS), help="Log lines of text, or JSON objects.")
@click.option("--access-log", is_flag=True, help="Log every connection that opens and that ends.")
@click.option("--pid-file", metavar="FILE", help="Keep the process id in a file.")
@click.option("--user", help="Become this user after the port was opened.")
@click.option("--group", help="Become this group.")
@click.option("--reload", is_flag=True, help="For development: replace the workers when a Python file changes.")
@click.option("--debug", is_flag=True, help="For development: one worker, breakpoint() works, no timeouts.")
@run_dir_option
def run(
    target: str,
    arguments: tuple[str, ...],
    host: str | None,
    port: int | None,
    workers: int | None,
    reactors: int | None,
    settings: tuple[str, ...],
    daemon: bool,
    log_file: str | None,
    log_format: str | None,
    access_log: bool,
    pid_file: str | None,
    user: str | None,
    group: str | None,
    reload: bool,
    debug: bool,
    run_dir: str | None,
) -> None:
    """Run the server of TARGET: a script (app.py), or module:attribute. Options win over the file's settings.

    \b
    Example: zwoole run examples/echo.py --host 127.0.0.1 --port 9000 --workers 2
    """
    given = {
        **{"host": host, "port": port, "worker_num": workers, "reactor_num": reactors},
        **{"daemonize": daemon or None, "access_log": access_log or None},
        **{"log_file": log_file, "log_format": log_format, "pid_file": pid_file, "user": user, "group": group},
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    overrides.update(DEBUG_SETTINGS if debug else {})
    overrides.update(parse_setting(text) for text in settings)
    if reload:
        watching.require()
    run_app(target, list(arguments), overrides, run_dir, reload)


def parse_setting(text: str) -> tuple[str, Any]:
    """Return name and value of NAME=VALUE.

    Raises:
        SettingsError: it has no "=".
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise SettingsError(f"--set takes NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@zwoole.command()
@run_dir_option
@json_option
def status(run_dir: str | None, as_json: bool) -> None:
    """Show what a running server does.

    Example: zwoole status --json
    """
    result = control_client.request(control_client.find(run_dir), "status")
    click.echo(json.dumps(result) if as_json else describe(result))


def describe(result: dict[str, Any]) -> str:
    """Return a status as lines for a person."""
    masters = result["masters"]
    total = {name: sum(master[name] for master in masters) for name in ("connections", "messages_in", "messages_out")}
    lines = [
        f"{result['state']} on {', '.join(result['listening'])} for {result['uptime_s']:.0f} s (pid {result['pid']})",
        f"connections {total['connections']}, messages in {total['messages_in']}, out {total['messages_out']}",
        f"run directory {result['run_dir']}",
    ]
    for process in result["processes"]:
        state = "ready" if process["ready"] else "starting"
        lines.append(f"  {process['role']} {process['index']}: pid {process['pid']}, {state}")
    return "\n".join(lines)


@zwoole.command()
@run_dir_option
@json_option
def reload(run_dir: str | None, as_json: bool) -> None:
    """Replace all workers by new ones that read the code again; connections stay. Fails where the new code does.

    Example: zwoole reload
    """
    result = control_client.request(control_client.find(run_dir), "reload", timeout_s=RELOAD_WAIT_S)
    click.echo(json.dumps(result) if as_json else f"reloaded {result.get('workers', 'all')} worker(s)")


@zwoole.command(context_settings={"ignore_unknown_options": True})
@click.argument("change", type=click.Choice(["+1", "-1"]))
@run_dir_option
@json_option
def workers(change: str, run_dir: str | None, as_json: bool) -> None:
    """Start one worker more (+1), or give one up (-1).

    Example: zwoole workers +1
    """
    result = control_client.request(control_client.find(run_dir), "workers", by=int(change))
    click.echo(json.dumps(result) if as_json else f"{result['worker_num']} worker(s)")


@zwoole.command()
@click.option("--drain", type=float, default=0.0, metavar="SECONDS", help="Spread the clients' goodbye over this time.")
@run_dir_option
@json_option
def stop(drain: float, run_dir: str | None, as_json: bool) -> None:
    """Stop a running server in good order, and wait for its end.

    Example: zwoole stop --drain 30
    """
    path = control_client.find(run_dir)
    result = control_client.request(path, "stop", drain=drain)
    deadline = time.monotonic() + STOP_WAIT_S + drain
    while is_running(path):
        if time.monotonic() > deadline:
            raise control_client.ControlFailed(f"the server in {path} has not ended after {STOP_WAIT_S:.0f} s")
        time.sleep(0.02)
    click.echo(json.dumps({"stopped": True, **result}) if as_json else f"stopped (pid {result['pid']})")


def main() -> None:
    """Run the command; what goes wrong is said in one line."""
    try:
        zwoole.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except ZwooleError as error:
        print(f"zwoole: {error}", file=sys.stderr)
        sys.exit(1)
