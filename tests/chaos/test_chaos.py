from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.harness import Harness

SECONDS = 1.0  # the first round of faults, one of each kind, takes longer
RUNS: dict[str, dict[str, Any]] = {
    "awaiting": {"app": "awaiting"},
    "handler": {"app": "handler"},
    "1 ms, one worker": {"app": "1 ms", "workers": 1},
    "instant, two masters": {"app": "instant", "reactors": 2},
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_chaos(run: dict[str, Any]) -> None:
    account = Harness(**run, seed=20, seconds=SECONDS).run()
    print(account.table())
    assert account.broken == []
    assert account.deaths > 0


def test_masters_die_too() -> None:
    account = Harness("instant", seed=3, seconds=SECONDS, masters_too=True).run()
    print(account.table())
    assert account.broken == []
    assert account.faults["master"] > 0
