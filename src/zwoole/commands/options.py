"""Options of several commands, and how commands print."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from zwoole.control import Control
from zwoole.shared.process.stderr import print_line

Command = TypeVar("Command", bound=Callable[..., Any])


def files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete paths of files."""
    return [CompletionItem(incomplete, type="file")]


def folders(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete paths of folders."""
    return [CompletionItem(incomplete, type="dir")]


def check_folder(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the name of a folder.

    Raises:
        click.BadParameter: it is empty, as an unset variable of a shell is.
    """
    if value == "":
        raise click.BadParameter("the name of the folder is empty", context, parameter)
    return value


run_dir_option = click.option(
    "--run-dir",
    metavar="DIR",
    shell_complete=folders,
    callback=check_folder,
    help="The server's run directory, if several run.",
)
port_option = click.option("--port", type=click.IntRange(1, 65535), help="A port of the server, if several run.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def server_options(command: Command) -> Command:
    """Give a command the options that say which server it acts on, and how it prints."""
    return run_dir_option(port_option(json_option(command)))


def control_of(run_dir: str | None, port: int | None, as_json: bool) -> Control:
    """Return the server that a command acts on. Name it on stderr, before anything is done to it.

    Raises:
        ControlFailed: there is none, or there are several.
    """
    control = Control(run_dir, port=port)
    if not as_json:
        print_line(str(control.server))
    return control


def show(result: Mapping[str, Any], as_json: bool, text: str, control: Control | None = None) -> None:
    """Print a result: as JSON, with the server that it is about, or as text."""
    if as_json and control is not None:
        server = control.server
        named = {"target": server.target, "listening": server.listening, "run_dir": str(server.run_dir)}
        result = {**result, "server": named}
    click.echo(json.dumps(result) if as_json else text)
