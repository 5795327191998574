"""The table of events agrees with its constants, and says all that is asked of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zwoole.shared.wire import events
from zwoole.shared.wire.events import ADOPTED, DOWN, EVENTS, LOST, SENT_AGAIN, TOLD_AGAIN, UP, Event
from zwoole.workers.callbacks import EVENTS as CALLBACKS

SOURCE = Path(events.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_a_row_has_the_number_of_its_constant(event: Event) -> None:
    assert getattr(events, event.name) == event.kind
    assert event.direction in (DOWN, UP)
    assert event.about
    assert event.after_death in (LOST, SENT_AGAIN, TOLD_AGAIN, ADOPTED)


def test_every_constant_has_one_row() -> None:
    numbers = re.findall(r"^([A-Z_]+) = \d+$", SOURCE, re.MULTILINE)
    assert sorted(event.name for event in EVENTS) == sorted(set(numbers) - {"PROTOCOL_VERSION"})
    assert len({event.kind for event in EVENTS}) == len(EVENTS)


def test_what_comes_up_costs_no_credit_and_calls_no_callback() -> None:
    assert all(
        (event.credit, event.after_death, event.callback) == (False, LOST, "")
        for event in EVENTS
        if event.direction == UP
    )


def test_the_callbacks_are_those_that_users_register() -> None:
    assert {event.callback for event in EVENTS if event.callback} <= set(CALLBACKS)


def test_a_message_is_kept_with_its_opcode() -> None:
    rows = events.BY_KIND
    assert rows[events.BINARY_MESSAGE] is rows[events.MESSAGE]
    assert set(rows) == {event.kind for event in EVENTS if event.direction == DOWN} | {events.BINARY_MESSAGE}
