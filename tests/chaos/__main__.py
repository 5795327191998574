"""python -m tests.chaos: the chaos suite at length. Ends with 1 where an invariant did not hold, and says the seed."""

from __future__ import annotations

import random
import sys

import click

from tests.chaos.apps import APPS
from tests.chaos.harness import Account, Harness


@click.command()
@click.option("--seconds", type=float, default=150.0, help="How long the load lasts, all apps together.")
@click.option("--seed", type=int, default=None, help="Repeats the mischief of an earlier run.")
def main(seconds: float, seed: int | None) -> None:
    """Serve each app in turn under load and mischief, and print the account."""
    seed = random.randrange(1 << 32) if seed is None else seed
    print(f"seed {seed}")
    total = Account()
    share = seconds / (len(APPS) + 1)
    for app in APPS:
        total.add(run(app, Harness(app, seed, share)))
    total.add(run("instant, masters too", Harness("instant", seed, share, masters_too=True)))
    print(f"\nIn all, seed {seed}:\n{total.table()}")
    sys.exit(1 if total.broken else 0)


def run(name: str, harness: Harness) -> Account:
    """Run one harness and print its account."""
    account = harness.run()
    print(f"\n{name}:\n{account.table()}", flush=True)
    return account


if __name__ == "__main__":
    main()
