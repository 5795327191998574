"""python -m tests.chaos: a long run of the chaos suite. Exits with 1 if an invariant did not hold, and prints the
seed.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import click

from tests.chaos.account import Account
from tests.chaos.apps import APPS
from tests.chaos.harness import Harness

RUNS: dict[str, dict[str, Any]] = {
    **{app: {"app": app} for app in APPS},
    "instant, masters die too": {"app": "instant", "masters_too": True},
    "awaiting, two masters": {"app": "awaiting", "reactors": 2},
    "1 ms, one worker": {"app": "1 ms", "workers": 1},
}


@click.command()
@click.option("--seconds", type=float, default=140.0, help="How long the load lasts, all runs together.")
@click.option("--seed", type=int, default=None, help="Repeats the faults of an earlier run.")
@click.option("--only", type=click.Choice(list(RUNS)), multiple=True, help="Which runs; all if none is named.")
def main(seconds: float, seed: int | None, only: tuple[str, ...]) -> None:
    """Serve each app in turn under load and faults, and print the account."""
    seed = random.randrange(1 << 32) if seed is None else seed
    print(f"seed {seed}")
    total = Account()
    names = only or list(RUNS)
    for name in names:
        account = Harness(**RUNS[name], seed=seed, seconds=seconds / len(names)).run()
        print(f"\n{name}:\n{account.table()}", flush=True)
        total.add(account)
    print(f"\nIn all, seed {seed}:\n{total.table()}")
    sys.exit(1 if total.broken else 0)


if __name__ == "__main__":
    main()
