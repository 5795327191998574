"""python -m tests.fuzz: arbitrary bytes for every target. Exits with 1 if a contract broke or was not tried."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
FOUND = Path(__file__).parents[2] / "build" / "fuzz"  # inputs that reached new lines, and inputs that broke a contract
MAX_INPUT_BYTES = 8192
ONE_INPUT_S = 60


@click.command()
@click.option("--seconds", type=click.IntRange(min=1), default=60, help="How long, all targets together.")
@click.option("--target", "chosen", multiple=True, type=click.Choice(list(TARGETS)), help="These only.")
def main(seconds: int, chosen: Sequence[str]) -> None:
    """Fuzz the targets one after the other."""
    names = chosen or list(TARGETS)
    passed = [fuzz(name, max(1, seconds // len(names))) for name in names]
    sys.exit(0 if all(passed) else 1)


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target, print the outcome, and return whether it was tried and kept its contract."""
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-timeout={ONE_INPUT_S}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]
    command = [sys.executable, "-m", "tests.fuzz.fuzzer", name, *options, str(found), str(CORPUS / name)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    tried = re.search(r"stat::number_of_executed_units: *(\d+)", ended.stdout)
    if ended.returncode == 0 and tried is not None and int(tried[1]) > 0:
        click.echo(f"{name}: {int(tried[1]):,} inputs in {seconds} s, no broken contract")
        return True
    click.echo(f"{ended.stdout}\n{name}: BROKEN (exit code {ended.returncode}); the input is in {found}")
    return False


if __name__ == "__main__":
    main()
