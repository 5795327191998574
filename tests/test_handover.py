"""What a worker's end does to its connections, in the cases that are easily got wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.delivery_parts import Actor, Story
from tests.reactor_parts import Client, Reactor
from zwoole.shared.wire import ADOPT, CLOSE, OPEN


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor(worker_num=2, ping_interval=0.0, adopt_timeout=1.0) as reactor:
        yield reactor


@pytest.fixture
def stories() -> dict[int, Story]:
    return {}


def actor_at(reactor: Reactor, place: int, stories: dict[int, Story]) -> Actor:
    actor = Actor(reactor, reactor.router.slots[place], stories)
    actor.hello()
    reactor.handover.activate(actor.link)
    return actor


def client_of(reactor: Reactor, stories: dict[int, Story], *actors: Actor) -> Client:
    client = reactor.open_client()
    stories[client.connection.fd] = Story(client.connection.handler)
    for actor in actors:
        actor.take()
    return client


def kinds_told(actor: Actor) -> list[int]:
    return [event.kind for event in actor.worker.take()]


def test_an_end_is_told_to_nobody_where_nobody_had_heard_of_the_open(
    reactor: Reactor, stories: dict[int, Story]
) -> None:
    """The client goes while its open waits in a worker that dies before it begins anything."""
    first = actor_at(reactor, 0, stories)
    client = client_of(reactor, stories, first)
    client.send_close()
    reactor.pass_time(4.0)
    assert [event.kind for event in first.worker.take()] == [CLOSE], "after three seconds it is told of the end"
    first.die()
    assert kinds_told(actor_at(reactor, 0, stories)) == []


def test_a_connection_that_is_closing_is_not_handed_over_unopened(reactor: Reactor, stories: dict[int, Story]) -> None:
    first = actor_at(reactor, 0, stories)
    client = client_of(reactor, stories, first)
    reactor.closing.server_close(client.connection, 4000, "")
    first.die()
    second = actor_at(reactor, 0, stories)
    assert kinds_told(second) == []
    client.send_close()
    assert kinds_told(second) == []
    assert reactor.router.slots[0].connections == 0


def test_an_end_that_a_given_up_place_was_to_hear_is_told_to_another(
    reactor: Reactor, stories: dict[int, Story]
) -> None:
    stays, goes = actor_at(reactor, 0, stories), actor_at(reactor, 1, stories)
    clients = [client_of(reactor, stories, stays, goes) for _ in range(2)]
    (fd,) = goes.idle_lanes()
    client = next(client for client in clients if client.connection.fd == fd)
    goes.begin(fd)
    goes.finish(fd)
    goes.flush()
    client.send_message(b"unfinished")
    goes.take()
    client.send_close()
    reactor.pass_time(4.0)
    reactor.handover.give_up(reactor.router.slots.pop())
    goes.die()
    assert (CLOSE, fd) in [(event.kind, event.fd) for event in stays.worker.take()]


def test_adopt_comes_before_what_had_not_begun(reactor: Reactor, stories: dict[int, Story]) -> None:
    first = actor_at(reactor, 0, stories)
    client = client_of(reactor, stories, first)
    fd = client.connection.fd
    first.begin(fd)
    first.finish(fd)
    first.flush()
    client.send_message(b"waits")
    first.take()
    first.die()
    assert kinds_told(actor_at(reactor, 0, stories))[0] == ADOPT
    assert OPEN not in [event.kind for event in reactor.workers[-1].received]
