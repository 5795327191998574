"""`zwoole connections`, `kick`, `push` and `broadcast`: the clients of a running server."""

from __future__ import annotations

import re

import click

from zwoole.commands.formatting import duration, lines, size
from zwoole.commands.options import control_of, server_options, show
from zwoole.control import KICK_CODE, LISTED, ConnectionList
from zwoole.control_client import ControlFailed
from zwoole.shared.ids import MAX_FD
from zwoole.shared.process.control_messages import MAX_LISTED
from zwoole.shared.websocket.close_codes import CLOSE_NORMAL, check_close


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, MAX_LISTED), default=LISTED, help="List at most so many of each master."
)
@server_options
def connections(limit: int, run_dir: str | None, port: int | None, as_json: bool) -> None:
    """List the connections, the oldest first.

    Example: zwoole connections --limit 20
    """
    control = control_of(run_dir, port, as_json)
    found = control.connections(limit)
    show(found, as_json, describe(found), control)


def describe(found: ConnectionList) -> str:
    """Return a list of connections as text."""
    rows = [
        [
            *(str(one["fd"]), one["address"], one["path"], duration(one["age_s"]), one["state"]),
            *(size(one["queued_bytes"]), "" if one["worker"] is None else str(one["worker"])),
        ]
        for one in found["connections"]
    ]
    text = lines([["FD", "ADDRESS", "PATH", "AGE", "STATE", "QUEUED", "WORKER"], *rows], right={0, 3, 5, 6})
    missing = found["total"] - len(rows)
    return text + (f"\nand {missing} more" if missing else "")


def check_fd(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """Return the number of a connection."""
    if not (re.fullmatch("[0-9]{1,20}", value) and 0 < int(value) <= MAX_FD):
        raise click.BadParameter(
            f"{value!r} is not the number of a connection; `zwoole connections` lists them", context, parameter
        )
    return int(value)


def check_fd_or_all(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """Return the number of a connection; None for "all"."""
    return None if value == "all" else check_fd(context, parameter, value)


def check_code(context: click.Context, parameter: click.Parameter, value: int) -> int:
    """Check that a value is a close code that a server may send."""
    try:
        check_close(value, "")
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    return value


def check_reason(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check that a value can be the reason in a close frame."""
    try:
        check_close(CLOSE_NORMAL, check_text(context, parameter, value))
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    return value


def check_text(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check that a value can be sent as text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("the text is not valid UTF-8", context, parameter) from None
    return value


@click.command()
@click.argument("fd", metavar="FD|all", callback=check_fd_or_all)
@click.option("--code", type=int, default=KICK_CODE, callback=check_code, show_default=True, help="Close code.")
@click.option("--reason", default="", callback=check_reason, help="Reason for the client.")
@server_options
def kick(fd: int | None, code: int, reason: str, run_dir: str | None, port: int | None, as_json: bool) -> None:
    """Close the connection FD, or all.

    Example: zwoole kick 17 --code 4001 --reason "signed out"
    """
    control = control_of(run_dir, port, as_json)
    count = control.kick(fd, code, reason)
    if fd is not None and not count:
        raise ControlFailed(f"connection {fd} is not open")
    show({"clients": count}, as_json, f"closed {count} connection(s)", control)


@click.command()
@click.argument("fd", callback=check_fd)
@click.argument("text", callback=check_text)
@server_options
def push(fd: int, text: str, run_dir: str | None, port: int | None, as_json: bool) -> None:
    """Send the client FD a text message.

    Example: zwoole push 17 "hello"
    """
    control = control_of(run_dir, port, as_json)
    if not control.push(fd, text):
        raise ControlFailed(f"connection {fd} is not open")
    show({"clients": 1}, as_json, "sent to 1 client(s)", control)


@click.command()
@click.argument("text", callback=check_text)
@server_options
def broadcast(text: str, run_dir: str | None, port: int | None, as_json: bool) -> None:
    """Send all clients a text message.

    Example: zwoole broadcast "maintenance at noon"
    """
    control = control_of(run_dir, port, as_json)
    count = control.broadcast(text)
    show({"clients": count}, as_json, f"sent to {count} client(s)", control)
