"""The `zwoole` command."""

from __future__ import annotations

import sys

import click

from zwoole.commands.group import Group
from zwoole.shared.complaint import say
from zwoole.shared.errors import ZwooleError
from zwoole.version import VERSION

INTERRUPTED = 130  # as shells have it: 128 and the number of SIGINT


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="zwoole")
def zwoole() -> None:
    """A Swoole-style WebSocket server.

    \b
    Example: zwoole run app.py --port 8080 --workers 2
    """


def main() -> None:
    """Run the command; what goes wrong is said in one line."""
    try:
        zwoole.main(prog_name="zwoole", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except ZwooleError as error:
        say(str(error))
        sys.exit(1)
