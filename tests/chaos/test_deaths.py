"""The check of deaths must find connections that were closed without a reason, and no others."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.chaos.account import Account
from tests.chaos.apps import JOURNAL_CLIENTS, JOURNAL_MESSAGES
from tests.chaos.deaths import Deaths, Entry
from tests.chaos.ledger import Closing

DEAD, OTHER = 10, 11
NOTHING = Entry(0.0, 0.0, 0, 0)
RUNS = Entry(5.0, 0.0, DEAD, 1)
ENDED = Entry(5.0, 6.0, DEAD, 1)


def judged(closed: dict[int, int], entries: dict[int, Entry], reactors: int) -> Account:
    """Return the account of a death.

    Args:
        closed: the clients whose connections it closed, and how many messages had been answered on each.
        entries: the one message that each client has sent.
        reactors: number of masters.
    """
    account = Account()
    deaths = Deaths(cast(Any, SimpleNamespace(reactors=reactors)), [], account, random.Random(0))
    journal = [[NOTHING] * JOURNAL_MESSAGES for _ in range(JOURNAL_CLIENTS)]
    for client, entry in entries.items():
        journal[client][0] = entry
    deaths._judge(DEAD, [Closing(client, 1011, count) for client, count in closed.items()], journal, 9.0)
    assert [death.closed for death in account.measured] == [len(closed)]
    return account


# Further entries of the journal, besides two connections that were closed.
WITHOUT_CAUSE = {
    "a later one lives": (ENDED, {3: Entry(7.0, 8.0, DEAD, 1)}, {}),
    "a later one was closed and answered": (ENDED, {3: Entry(7.0, 0.5, DEAD, 1), 4: Entry(7.0, 8.0, DEAD, 1)}, {4: 1}),
    "another worker's": (ENDED._replace(pid=OTHER), {}, {}),
}
WITH_CAUSE = {
    "they ran": (RUNS, {3: Entry(7.0, 8.0, DEAD, 1)}, {}),
    "nothing came later": (ENDED, {3: Entry(4.0, 4.5, DEAD, 1)}, {}),
    "a later one had not ended": (ENDED, {3: Entry(7.0, 0.5, DEAD, 1)}, {}),
    "a later one was not answered": (ENDED, {3: Entry(7.0, 8.0, DEAD, 1)}, {3: 0}),
    "a later one was another worker's": (ENDED, {3: Entry(7.0, 8.0, OTHER, 1)}, {}),
    "a later one was another master's": (ENDED, {3: Entry(7.0, 8.0, DEAD, 2)}, {}),
}


@pytest.mark.parametrize(("entry", "others", "closed"), WITHOUT_CAUSE.values(), ids=WITHOUT_CAUSE)
def test_what_was_closed_without_a_cause_is_found(
    entry: Entry, others: dict[int, Entry], closed: dict[int, int]
) -> None:
    account = judged({1: 1, 2: 1, **closed}, {1: entry, 2: entry, **others}, 2)
    assert account.broken == ["closed without a cause by one death: clients [1, 2]"]


@pytest.mark.parametrize(("entry", "others", "closed"), WITH_CAUSE.values(), ids=WITH_CAUSE)
def test_what_had_a_cause_is_not(entry: Entry, others: dict[int, Entry], closed: dict[int, int]) -> None:
    assert judged({1: 1, 2: 1, **closed}, {1: entry, 2: entry, **others}, 2).broken == []


def test_one_may_have_been_marked_as_begun_only() -> None:
    assert judged({1: 1}, {1: ENDED, 3: Entry(7.0, 8.0, DEAD, 1)}, 1).broken == []
