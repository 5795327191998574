"""FIN, RST and both ends of a TCP connection in every state: the loop wakes a few times, and then it sleeps.

A descriptor that epoll reports again and again, and that nobody reads, would keep the loop busy for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.client_frames import HEAD, client_frame
from tests.reactor.closing_parts import push, told
from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.clients.opening import Routes
from zwoole.reactor.core.connection_stages import (
    STAGE_CLOSING,
    STAGE_ENDING,
    STAGE_GONE,
    STAGE_HANDSHAKE,
    STAGE_LINGERING,
)
from zwoole.shared.wire.events import CLOSE, MESSAGE
from zwoole.shared.wire.events import HANDSHAKE as ASKED

CLOSE_TIMEOUT = 7.0
MOST_WAKEUPS = 6


@contextmanager
def house(**settings: object) -> Iterator[tuple[Reactor, Worker]]:
    terms = {
        "close_timeout": CLOSE_TIMEOUT,
        "handshake_timeout": CLOSE_TIMEOUT,
        "connection_window_events": 1,
        "parked_messages": 1,
        "ping_interval": 0.0,
    }
    with Reactor(**{**terms, **settings}) as reactor:
        worker = reactor.worker()
        worker.finish(*worker.take())
        yield reactor, worker


def opened(reactor: Reactor, worker: Worker) -> Client:
    client = reactor.open_client(tcp=True)
    worker.finish(*worker.take())
    return client


# The states: each function takes a reactor and a worker, and returns a client in that state.


def silent(reactor: Reactor, worker: Worker) -> Client:
    return reactor.client(tcp=True)


def half_a_head(reactor: Reactor, worker: Worker) -> Client:
    client = reactor.client(tcp=True)
    client.send(HEAD[:50])
    return client


def asked_for(reactor: Reactor, worker: Worker) -> Client:
    reactor.opening.routes = Routes(callbacks=True, asks=True)
    client = reactor.client(tcp=True)
    client.send(HEAD)
    assert [event.kind for event in worker.take()] == [ASKED]
    return client


def in_a_frame(reactor: Reactor, worker: Worker) -> Client:
    client = opened(reactor, worker)
    client.send(client_frame(1, b"half of it")[:9])
    return client


def in_a_message(reactor: Reactor, worker: Worker) -> Client:
    client = opened(reactor, worker)
    client.send(client_frame(1, b"a fragment", fin=False))
    return client


def not_read(reactor: Reactor, worker: Worker) -> Client:
    client = opened(reactor, worker)
    client.send(client_frame(1, b"a") * 3)
    assert not client.connection.interest & 1
    return client


def behind(reactor: Reactor, worker: Worker) -> Client:
    client = opened(reactor, worker)
    push(worker, client.connection, bytes(1_000_000))
    worker.send()
    reactor.turn()
    assert client.connection.interest & 4
    return client


def throttled(reactor: Reactor, worker: Worker) -> Client:
    client = opened(reactor, worker)
    client.send(client_frame(1, b"a") * 2)
    assert client.connection.throttled
    return client


def ending(reactor: Reactor, worker: Worker) -> Client:
    client = opened(reactor, worker)
    client.send_message(b"a")
    client.send_close()
    assert client.connection.stage == STAGE_ENDING
    return client


def closing(reactor: Reactor, worker: Worker) -> Client:
    client = opened(reactor, worker)
    reactor.closing.server_close(client.connection, 1000, "")
    reactor.turn()
    assert client.connection.stage == STAGE_CLOSING
    return client


def lingering(reactor: Reactor, worker: Worker) -> Client:
    client = opened(reactor, worker)
    client.send_close()
    assert client.connection.stage == STAGE_LINGERING
    return client


STATES: list[Callable[[Reactor, Worker], Client]] = [
    *(silent, half_a_head, asked_for, opened, in_a_frame, in_a_message),
    *(not_read, behind, throttled, ending, closing, lingering),
]


# What happens to the clients.


def send_quietly(client: Client) -> None:
    """Send a message, or its substitute in this state, and let the master sleep meanwhile."""
    client.socket.send(client_frame(1, b"the last"))


def fin_behind_data(client: Client) -> None:
    send_quietly(client)
    client.finish_sending()


def reset_behind_data(client: Client) -> None:
    send_quietly(client)
    client.reset()


HAPPENINGS: list[Callable[[Client], None]] = [
    *(Client.finish_sending, Client.leave, Client.reset),
    *(fin_behind_data, reset_behind_data),
]


def wakeups(reactor: Reactor) -> int:
    """Return how many turns find something to do before one sleeps."""
    for turns in range(MOST_WAKEUPS + 1):
        if reactor.sleeps():
            return turns
    raise AssertionError(f"{MOST_WAKEUPS + 1} turns in a row found something to do")


@pytest.mark.parametrize("happen", HAPPENINGS, ids=lambda happening: str(happening.__name__))
@pytest.mark.parametrize("reach", STATES, ids=lambda state: str(state.__name__))
def test_the_loop_sleeps_again_and_nothing_is_left(
    reach: Callable[[Reactor, Worker], Client], happen: Callable[[Client], None]
) -> None:
    with house(rate_limit_messages=1 if reach is throttled else 0) as (reactor, worker):
        client = reach(reactor, worker)
        connection = client.connection
        known = connection.stage != STAGE_HANDSHAKE
        wakeups(reactor)
        happen(client)
        wakeups(reactor)
        for _ in range(20):  # the worker finishes, and what waited for that continues
            events = worker.take()
            worker.finish(*[event for event in events if event.kind != ASKED])
        reactor.pass_time(CLOSE_TIMEOUT + 1)
        wakeups(reactor)
        for _ in range(5):
            worker.finish(*worker.take())
        assert connection.stage == STAGE_GONE
        assert connection.descriptor == -1
        assert len(reactor.registry) == 0
        kinds = [event.kind for event in worker.received]
        assert kinds.count(CLOSE) == int(known)
        if known:
            assert kinds[-1] == CLOSE


@pytest.mark.parametrize("happen", [fin_behind_data, reset_behind_data], ids=["FIN", "RST"])
def test_what_arrived_before_the_end_still_counts(happen: Callable[[Client], None]) -> None:
    with house() as (reactor, worker):
        client = opened(reactor, worker)
        happen(client)
        events = worker.take()
        assert [event.body for event in events if event.kind == MESSAGE] == ["the last"]
        worker.finish(*events)
        assert told(worker)[0] == 1006
        assert client.connection.stage in (STAGE_LINGERING, STAGE_GONE)


def test_a_client_that_only_finished_sending_still_gets_its_answers() -> None:
    with house() as (reactor, worker):
        client = opened(reactor, worker)
        client.send_message(b"a")
        client.finish_sending()
        assert client.connection.stage == STAGE_ENDING
        assert wakeups(reactor) <= 1
        push(worker, client.connection, b"answer")
        worker.finish(*worker.take())
        assert client.read() == b"\x82\x06answer"
        assert client.connection.stage == STAGE_GONE
