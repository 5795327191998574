"""Messages between workers: in order, at most once, and no more queued than allowed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reactor.reactor_parts import Reactor
from zwoole.reactor.routing.pipes import OVERRUN
from zwoole.shared.wire.events import PIPE_MESSAGE

LIMIT = 2048


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor(worker_num=2, window_events=4, pipe_queue_bytes=LIMIT) as reactor:
        yield reactor


def test_a_message_reaches_its_worker_and_says_whose_it_is(reactor: Reactor) -> None:
    reactor.worker(0)
    target = reactor.worker(1)
    reactor.pipes.send(0, 1, b"hello")
    reactor.turn()
    assert [(event.kind, event.fd, event.body) for event in target.take()] == [(PIPE_MESSAGE, 0, b"hello")]
    assert reactor.pipes.messages == 1


def test_what_the_window_has_no_room_for_waits_in_order(reactor: Reactor) -> None:
    target = reactor.worker(1)
    for number in range(10):
        reactor.pipes.send(0, 1, b"%d" % number)
    reactor.turn()
    first = target.take()
    assert [event.body for event in first] == [b"0", b"1", b"2", b"3"], "the window of 4 events"
    assert reactor.table.waiting(1) == 6
    target.finish(*first)
    reactor.turn()
    assert [event.body for event in target.take()] == [b"4", b"5", b"6", b"7"]
    assert reactor.table.waiting(1) == 2


def test_a_place_without_a_worker_keeps_them_for_the_next(reactor: Reactor) -> None:
    reactor.pipes.send(0, 1, b"early")
    assert reactor.table.waiting(1) == len(b"early")
    target = reactor.worker(1)
    reactor.pipes.serve(target.link)
    reactor.turn()
    assert [event.body for event in target.take()] == [b"early"]
    assert reactor.table.waiting(1) == 0


def test_no_more_waits_than_the_queue_holds(reactor: Reactor) -> None:
    for _ in range(2 * OVERRUN):
        reactor.pipes.send(0, 1, bytes(LIMIT))
    assert reactor.router.workers[1].pipe_bytes == OVERRUN * LIMIT == reactor.table.waiting(1)
    assert reactor.pipes.dropped == OVERRUN


def test_a_place_that_is_none_takes_nothing(reactor: Reactor) -> None:
    reactor.pipes.send(0, 2, b"to nobody")
    assert reactor.pipes.dropped == 1
    assert reactor.table.waiting(2) == -1


def test_a_place_that_is_given_up_is_none(reactor: Reactor) -> None:
    reactor.pipes.send(0, 1, b"late")
    reactor.pipes.close_queue(reactor.router.workers.pop())
    assert reactor.table.waiting(1) == -1
    assert reactor.pipes.dropped == 1
