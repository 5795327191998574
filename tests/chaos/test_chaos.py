from __future__ import annotations

import pytest

from tests.chaos.apps import APPS
from tests.chaos.harness import Harness

SECONDS = 5.0


@pytest.mark.parametrize("app", APPS)
def test_chaos(app: str) -> None:
    account = Harness(app, seed=20, seconds=SECONDS).run()
    print(account.table())
    assert account.broken == []
    assert account.deaths > 0


def test_masters_die_too() -> None:
    account = Harness("instant", seed=3, seconds=SECONDS, masters_too=True).run()
    print(account.table())
    assert account.broken == []
    assert account.deeds["master"] > 0
