"""The parts that most tests of the reactor begin with. A file that needs other settings has a `reactor` of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reactor.reactor_parts import Client, Reactor, Worker


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor() as reactor:
        yield reactor


@pytest.fixture
def worker(reactor: Reactor) -> Worker:
    return reactor.worker()


@pytest.fixture
def client(reactor: Reactor, worker: Worker) -> Client:
    """Return a client whose connection is open; the worker has finished its `open`."""
    client = reactor.open_client()
    worker.finish(*worker.take())
    return client
