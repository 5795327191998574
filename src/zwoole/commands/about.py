"""`zwoole version` and `zwoole completion`."""

from __future__ import annotations

import platform

import click
from click.shell_completion import get_completion_class

from zwoole.commands.options import json_option, show
from zwoole.shared import build
from zwoole.version import VERSION

SHELLS = ("bash", "zsh", "fish")
VALUE_FOLLOWS = """    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace  # the value of a setting follows
    fi

"""


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show the version, and whether zwoole runs compiled.

    Example: zwoole version --json
    """
    python = platform.python_version()
    compiled, of = build.count()
    found = {
        "version": VERSION,
        "compiled": compiled == of,
        "modules": {"compiled": compiled, "of": of},
        "python": python,
    }
    show(found, as_json, f"zwoole {VERSION}, {build.describe(compiled, of)}, {python}")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a script that has a shell complete zwoole's commands and options.

    Example: zwoole completion bash > ~/.local/share/bash-completion/completions/zwoole
    """
    from zwoole.cli import zwoole

    kind = get_completion_class(shell)
    assert kind is not None, "click knows all shells of the choice"
    source = kind(zwoole, {}, "zwoole", "_ZWOOLE_COMPLETE").source()
    if shell == "bash":
        source = source.replace("    return 0\n", f"{VALUE_FOLLOWS}    return 0\n", 1)
    click.echo(source)
