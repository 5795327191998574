"""`zwoole run`."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import click
from click.shell_completion import CompletionItem

from zwoole.commands.options import files, run_dir_option
from zwoole.shared.errors import SettingsError
from zwoole.shared.settings import LOG_FORMATS, LOG_LEVELS, Settings
from zwoole.supervisor.start.run_app import run_app
from zwoole.supervisor.system import file_watcher

BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}

DEBUG_SETTINGS = {
    "debug": True,
    "worker_num": 1,
    "worker_timeout": 0,
    "boot_timeout": 0,
    "slow_callback_s": 0,
    "handover_timeout": 3600,
    "close_timeout": 3600,
}


def complete_setting(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the settings that begin with what was typed; after "=" their values, if there are only a few."""
    name, separator, value = incomplete.partition("=")
    if not separator:
        return [CompletionItem(f"{each.name}=") for each in fields(Settings) if each.name.startswith(name)]
    for each in fields(Settings):
        if each.name == name:
            words = ("true", "false") if isinstance(each.default, bool) else each.metadata["choices"] or ()
            return [CompletionItem(f"{name}={word}") for word in words if word.startswith(value)]
    return []


def numbers_of(name: str) -> click.IntRange:
    """Return the range of a setting, so that an error names the option, not the setting."""
    (metadata,) = [each.metadata for each in fields(Settings) if each.name == name]
    return click.IntRange(metadata["low"], metadata["high"])


class WrongSetting(click.ClickException):
    """A setting that does not exist, or a value that it cannot have: the command line is wrong."""

    exit_code = 2


@click.command()
@click.argument("target", shell_complete=files)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, shell_complete=files)
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.")
@click.option("--workers", type=numbers_of("worker_num"), help="Number of worker processes.")
@click.option("--reactors", type=numbers_of("reactor_num"), help="Number of master processes.")
@click.option(
    *("--set", "settings"),
    metavar="NAME=VALUE",
    multiple=True,
    shell_complete=complete_setting,
    help="Any other setting; may be repeated.",
)
@click.option("--daemon", is_flag=True, help="Serve in the background; needs --log-file.")
@click.option(
    "--log-file", metavar="FILE", shell_complete=files, help="Write the log, and what the app prints, to a file."
)
@click.option("--log-level", type=click.Choice(LOG_LEVELS), help="Lowest level that is logged.")
@click.option("--log-format", type=click.Choice(LOG_FORMATS), help="Log lines of text, or JSON objects.")
@click.option(
    "--access-log", is_flag=True, help="Log every connection that opens or ends, and every client that is refused."
)
@click.option("--pid-file", metavar="FILE", shell_complete=files, help="Keep the process id in a file.")
@click.option("--user", help="Become this user after opening the port.")
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
    log_level: str | None,
    log_format: str | None,
    access_log: bool,
    pid_file: str | None,
    user: str | None,
    group: str | None,
    reload: bool,
    debug: bool,
    run_dir: str | None,
) -> None:
    """Run the server of TARGET: a script (app.py), or module:attribute. Options override the settings in its file.

    \b
    Example: zwoole run examples/echo.py --host 127.0.0.1 --port 9000 --workers 2
    """
    given = {
        "host": host,
        "port": port,
        "worker_num": workers,
        "reactor_num": reactors,
        "daemonize": daemon or None,
        "access_log": access_log or None,
        "log_file": log_file,
        "log_level": log_level,
        "log_format": log_format,
        "pid_file": pid_file,
        "user": user,
        "group": group,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    overrides.update(DEBUG_SETTINGS if debug else {})
    try:
        by_name = dict(parse_setting(text) for text in settings)
        if twice := [name for name in by_name if given.get(name) is not None]:
            raise click.UsageError(f"{twice[0]} is given twice: by its own option and by --set")
        overrides.update(by_name)
        Settings().update(overrides)
    except SettingsError as error:
        raise WrongSetting(f"{error} (docs/settings.md lists all settings)") from None
    if reload:
        file_watcher.require()
    run_app(target, list(arguments), overrides, run_dir, reload)


def parse_setting(text: str) -> tuple[str, Any]:
    """Return the name and value in NAME=VALUE.

    Raises:
        SettingsError: it has no "=".
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise SettingsError(f"--set takes NAME=VALUE, not {text!r}")
    return name, value_of(value, type(getattr(Settings(), name, None)))


def value_of(text: str, kind: type) -> Any:
    """Return the value of a setting of a type: it is given as JSON, as text without quotes, or as a word for a bool."""
    value: Any
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if kind is bool and not isinstance(value, bool):
        return BOOLEANS.get(text.strip().lower(), value)
    if kind is str and not isinstance(value, str):  # a token or host name may consist of digits
        return text
    return value
