"""The queue of events and of messages."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from zwoole.workers.core.fifo import Fifo


@given(st.lists(st.integers(-300, 300), max_size=60))
def test_it_does_what_a_deque_does(steps: list[int]) -> None:
    """Each step adds as many things as it says, or takes as many, also from an empty queue."""
    fifo, expected, number = Fifo(), deque[int](), 0
    for step in steps:
        for _ in range(step):
            number += 1
            fifo.add(number)
            expected.append(number)
        for _ in range(-step):
            assert fifo.take() == (expected.popleft() if expected else None)
        assert fifo.is_empty() is (not expected)
        assert len(fifo) == len(expected)


def test_a_long_queue_is_taken_in_order_while_it_grows() -> None:
    fifo = Fifo()
    for number in range(10_000):
        fifo.add(2 * number)
        fifo.add(2 * number + 1)
        assert fifo.take() == number
    assert [fifo.take() for _ in range(10_000)] == list(range(10_000, 20_000))
    assert fifo.is_empty()
