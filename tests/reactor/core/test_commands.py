"""Who carries out what comes up from workers."""

from __future__ import annotations

import pytest

from tests.reactor.reactor_parts import Reactor
from zwoole.reactor.core.commands import Commands
from zwoole.shared.wire.events import ACK, BROADCAST, EVENTS, PUSH, UP

KNOWN_TO_OUTBOUND = {ACK, BROADCAST, PUSH}  # the most frequent ones


def test_every_kind_that_comes_up_is_carried_out_by_one_part() -> None:
    with Reactor() as reactor:
        kinds = {event.kind for event in EVENTS if event.direction == UP}
        assert set(reactor.commands.by_kind) == kinds - KNOWN_TO_OUTBOUND


def test_a_kind_is_registered_once() -> None:
    commands = Commands()
    commands.register(99, lambda link, event: None)
    with pytest.raises(ValueError, match="kind 99 are carried out already"):
        commands.register(99, lambda link, event: None)
