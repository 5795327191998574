"""Options that several commands have, and how they print."""

from __future__ import annotations

import json
from typing import Any

import click

run_dir_option = click.option("--run-dir", metavar="DIR", help="The server's run directory, where several run.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show(result: Any, as_json: bool, text: str) -> None:
    """Print a result as JSON, or what says it in words."""
    click.echo(json.dumps(result) if as_json else text)
