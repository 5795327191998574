"""The way down inside the master: from a complete message into a worker's batch, and its acknowledgement."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.reactor.reactor_parts import Reactor

MESSAGES = 100
TEXT = 1


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """Return a reactor whose windows have room for all messages of a round."""
    with Reactor(connection_window_events=MESSAGES, window_events=2 * MESSAGES) as reactor:
        yield reactor


def test_accept_and_finish(benchmark: BenchmarkFixture, reactor: Reactor) -> None:
    """A hundred messages of one connection; the batch is written and dropped."""
    worker = reactor.worker()
    connection = reactor.bare_connection()
    for event in worker.take():
        reactor.router.finished(worker.link, event.sequence)
    router, link, payload = reactor.router, worker.link, b"x" * 64
    sequence = 1  # the open event has number 0

    def route() -> int:
        nonlocal sequence
        for _ in range(MESSAGES):
            router.accept(connection, TEXT, payload)
        events = link.writer.events
        link.writer.take(sequence, 0)
        for number in range(sequence, sequence + MESSAGES):
            router.finished(link, number)
        sequence += MESSAGES
        return events

    assert benchmark(route) == MESSAGES
