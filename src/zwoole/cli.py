"""The `zwoole` command."""

from __future__ import annotations

import errno
import os
import sys

import click

from zwoole.commands.group import Group
from zwoole.shared.errors import ZwooleError
from zwoole.shared.process.stderr import print_line
from zwoole.version import VERSION

OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a full disk, or a terminal that is gone
INTERRUPTED = 130  # as in shells: 128 plus the number of SIGINT
NO_ARGUMENTS: tuple[type[click.UsageError], ...] = (
    (click.exceptions.NoArgsIsHelpError,) if hasattr(click.exceptions, "NoArgsIsHelpError") else ()
)  # click 8.1 prints the help by itself


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="zwoole")
def zwoole() -> None:
    """A Swoole-style WebSocket server.

    \b
    Example: zwoole run app.py --port 8080 --workers 2
    """


def main() -> None:
    """Run the command. An error is one line on stderr."""
    try:
        zwoole.main(prog_name="zwoole", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.UsageError as error:
        complain(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        print_line(error.format_message())
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except ZwooleError as error:
        print_line(str(error))
        sys.exit(getattr(error, "exit_code", 1))
    except OSError as error:
        if error.errno not in OUTPUT_ERRORS:
            raise
        print_line(f"cannot write the output: {error.strerror}")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # flushing the rest at the exit would fail again
        os.close(nowhere)
        sys.exit(1)


def complain(error: click.UsageError) -> None:
    """Say in one line what is wrong with a command line; if a command is missing, show the help instead."""
    if isinstance(error, NO_ARGUMENTS):
        error.show()
        return
    command = "zwoole" if error.ctx is None else error.ctx.command_path
    print_line(f"{' '.join(error.format_message().split())} (`{command} --help` shows what it takes)")
