"""Which stage may follow which, and that nothing else assigns one."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import (
    AFTER,
    NAMES,
    STAGE_CLOSING,
    STAGE_ENDING,
    STAGE_GONE,
    STAGE_HANDSHAKE,
    STAGE_LINGERING,
    STAGE_OPEN,
)

REACTOR = Path(__file__).parents[3] / "reactor"
STAGES = range(len(NAMES))


def ways_to(stage: int) -> list[int]:
    """Return the shortest way from the first stage to another."""
    ways = [[STAGE_HANDSHAKE]]
    while ways[0][-1] != stage:
        way = ways.pop(0)
        ways += [[*way, after] for after in AFTER[way[-1]]]
    return ways[0]


def connection_in(stage: int) -> Connection:
    connection = Connection(1, -1, "127.0.0.1", 40000)
    for _, after in pairwise(ways_to(stage)):
        connection.enter(after)
    return connection


def test_a_connection_begins_with_its_handshake() -> None:
    assert connection_in(STAGE_HANDSHAKE).stage == STAGE_HANDSHAKE


@pytest.mark.parametrize("before", STAGES, ids=lambda stage: NAMES[stage])
@pytest.mark.parametrize("after", STAGES, ids=lambda stage: NAMES[stage])
def test_only_the_table_says_which_stage_may_follow(before: int, after: int) -> None:
    connection = connection_in(before)
    if after in AFTER[before]:
        connection.enter(after)
        assert connection.stage == after
    else:
        with pytest.raises(RuntimeError, match=f"connection 1 cannot go from {NAMES[before]} to {NAMES[after]}"):
            connection.enter(after)
        assert connection.stage == before


def test_stages_only_go_forward_and_end() -> None:
    assert all(after > before for before, all_after in AFTER.items() for after in all_after)
    assert all(STAGE_GONE in after for stage, after in AFTER.items() if stage != STAGE_GONE)
    assert list(STAGES)[1:-1] == [STAGE_OPEN, STAGE_ENDING, STAGE_CLOSING, STAGE_LINGERING]


def test_nothing_but_the_connection_assigns_its_stage() -> None:
    wrong = [
        str(source.relative_to(REACTOR))
        for source in REACTOR.glob("**/*.py")
        if re.search(r"\.stage\s*=[^=]", source.read_text(encoding="utf-8"))
    ]
    assert wrong == ["core/connection.py"]
