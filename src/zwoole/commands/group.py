"""The command group. A command is imported when it is called; a mistyped name is answered with a suggestion."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any

import click

from zwoole.shared.suggest import did_you_mean

# The name of each command, its module, and its function there.
COMMANDS = {
    "run": ("zwoole.commands.run", "run"),
    "status": ("zwoole.commands.status", "status"),
    "reload": ("zwoole.commands.processes", "reload"),
    "stop": ("zwoole.commands.processes", "stop"),
    "workers": ("zwoole.commands.processes", "workers"),
    "connections": ("zwoole.commands.clients", "connections"),
    "kick": ("zwoole.commands.clients", "kick"),
    "push": ("zwoole.commands.clients", "push"),
    "broadcast": ("zwoole.commands.clients", "broadcast"),
    "bench": ("zwoole.bench.loadtest.cli", "bench"),
    "completion": ("zwoole.commands.about", "completion"),
    "version": ("zwoole.commands.about", "version"),
}


class Group(click.Group):
    """The group of the commands in the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command that is called. If there is none of that name, suggest the most similar."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            ctx.fail(f"no such command {args[0]!r}" + did_you_mean(args[0], COMMANDS))
        if args and args[0] != "run" and isinstance(sys.stdout, io.TextIOWrapper):  # except for what an app prints
            sys.stdout.reconfigure(errors="backslashreplace")  # a path may have characters that the encoding lacks
        return super().resolve_command(ctx, args)
