"""Fan-out: every connection receives every message in order, and missing copies are counted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.bench_parts import Room, Run, websocket_server, window
from zwoole.bench.loadtest.plan import Plan, Target

CONNECTIONS = 5
MESSAGES = 20
SENDER = 6  # digits at the start of a message that identify the sending connection


def load(target: Target, right: int = 0, **terms: Any) -> Run:
    """Send MESSAGES to CONNECTIONS connections; stop waiting after ``right`` correct copies."""
    given = {"connections": CONNECTIONS, "messages": MESSAGES, "depth": 4, "patience_s": 60, **terms}
    plan = Plan(target, mode="fanout", **given)
    return Run(plan, until=lambda client: bool(right) and client.tally.messages >= right)


@pytest.mark.parametrize("senders", [1, 2, CONNECTIONS])
@pytest.mark.parametrize("size", [16, 64, 300, 70_000, ((64, 1), (70_000, 1))])
@pytest.mark.parametrize("depth", [1, 4])
def test_all_copies_are_counted(senders: int, size: Any, depth: int) -> None:
    with websocket_server(Room()) as target:
        run = load(target, senders=senders, size=size, depth=depth)
    assert run.errors == {}
    assert run.messages == senders * MESSAGES * CONNECTIONS
    assert sum(run.latencies) == senders * MESSAGES  # of the senders' own copies


@pytest.mark.parametrize("rate", [0.0, 200.0])
def test_a_duration_waits_for_the_last_copies(rate: float) -> None:
    with websocket_server(Room()) as target:
        plan = Plan(target, mode="fanout", connections=CONNECTIONS, senders=2, rate=rate, patience_s=60)
        run = Run(plan, window(duration_s=0.3))
    assert run.errors == {}
    if rate:
        assert run.messages + run.later == 60 * CONNECTIONS
    else:
        assert run.messages + run.later > 0


def test_a_dropped_message_is_missing_everywhere() -> None:
    with websocket_server(Room(lambda number, message: [] if number == 5 else [message])) as target:
        run = load(target, right=(MESSAGES - 1) * CONNECTIONS)
    assert run.errors == {"missing": CONNECTIONS}
    assert run.messages == (MESSAGES - 1) * CONNECTIONS


def test_a_message_sent_twice_is_unexpected_everywhere() -> None:
    with websocket_server(Room(lambda number, message: [message] * (2 if number == 5 else 1))) as target:
        run = load(target)
    assert run.errors == {"unexpected": CONNECTIONS}
    assert run.messages == MESSAGES * CONNECTIONS


@pytest.mark.parametrize("senders", [1, 2])
def test_two_messages_in_the_wrong_order(senders: int) -> None:
    held: list[str | bytes] = []

    def swap(number: int, message: str | bytes) -> list[str | bytes]:
        if number == 5 and not held:
            held.append(message)
            return []
        behind = number == 6 and message[:SENDER] == held[0][:SENDER]
        return [message, held[0]] if behind else [message]

    with websocket_server(Room(swap)) as target:
        run = load(target, senders=senders)
    assert run.errors == {"order": CONNECTIONS}
    assert run.messages == (senders * MESSAGES - 1) * CONNECTIONS


@pytest.mark.parametrize(("senders", "place"), [(1, 0), (1, 63), (2, 63)])
def test_wrong_content(senders: int, place: int) -> None:
    def change(number: int, message: str | bytes) -> list[str | bytes]:
        assert isinstance(message, str)
        return [message[:place] + "!" + message[place + 1 :]] if number == 5 and message[:6] == "000000" else [message]

    with websocket_server(Room(change)) as target:
        run = load(target, senders=senders)
    assert run.errors == {"content": CONNECTIONS}
    assert run.messages == (senders * MESSAGES - 1) * CONNECTIONS


def test_a_server_that_echoes_only_leaves_the_others_without() -> None:
    from tests.bench.bench_parts import echo

    with websocket_server(echo) as target:
        run = load(target, right=MESSAGES)
    assert run.errors == {"missing": MESSAGES * (CONNECTIONS - 1)}
