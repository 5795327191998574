"""Acting on many connections, a slice in each turn."""

from __future__ import annotations

import pytest

from tests.reactor.reactor_parts import Reactor
from zwoole.reactor.core.turn_slices import SLICE, Slices


@pytest.mark.parametrize("count", [0, 1, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE, 3 * SLICE + 5])
def test_each_is_acted_on_once_in_order_and_no_turn_does_more_than_a_slice(reactor: Reactor, count: int) -> None:
    done: list[int] = []
    ends: list[int] = []
    slices = Slices(reactor.loop, list(range(count)), done.append, lambda: ends.append(len(done)))
    for turn in range(count // SLICE + 2):
        assert done == list(range(min(count, (turn + 1) * SLICE)))
        assert slices.done == (len(done) == count)
        assert ends == ([count] if slices.done else [])
        reactor.turn(1)


def test_the_loop_does_not_sleep_while_something_is_left(reactor: Reactor) -> None:
    slices = Slices(reactor.loop, list(range(2 * SLICE + 1)), lambda _: None)
    assert not reactor.sleeps()
    assert not reactor.sleeps()
    assert slices.done
    assert reactor.sleeps()
