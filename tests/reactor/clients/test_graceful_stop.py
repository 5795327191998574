"""How a master stops: who is waited for, and for how long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.clients.graceful_stop import GOODBYE_SHARE, LINGER_S, STEP_S, GracefulStop
from zwoole.reactor.core import slices
from zwoole.reactor.core.connection import CLOSING, GONE, LINGERING, OPEN
from zwoole.shared.wire.batches import CLOSE


class House:
    """A reactor that can be stopped."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.worker: Worker = reactor.worker()
        self.done = False
        self.stop = GracefulStop(
            reactor.loop,
            reactor.registry,
            reactor.router,
            reactor.opening,
            reactor.closing,
            reactor.settings,
            links=lambda: [self.worker.link],
            done=self._finish,
        )

    def _finish(self) -> None:
        assert not self.done
        self.done = True

    def client(self) -> Client:
        client = self.reactor.open_client()
        self.work()
        return client

    def work(self) -> None:
        """Let the worker finish what it has."""
        self.worker.finish(*self.worker.take())

    def pass_time(self, seconds: float, works: bool = True) -> None:
        """Let time pass, step by step, while the worker finishes at once what it is sent."""
        for _ in range(round(seconds / STEP_S)):
            self.reactor.pass_time(STEP_S)
            if works:
                self.work()


@pytest.fixture
def house() -> Iterator[House]:
    with Reactor(close_timeout=4.0, ping_interval=0.0) as reactor:
        yield House(reactor)


def test_with_nobody_there_it_is_done_at_once(house: House) -> None:
    house.stop.begin(10.0)
    house.pass_time(0.1)
    assert house.done


def test_clients_that_answer_and_go_are_all_it_waits_for(house: House) -> None:
    client = house.client()
    house.stop.begin(10.0)
    house.pass_time(0.1)
    assert client.connection.stage == CLOSING
    client.send_close(1001)
    client.leave()
    house.pass_time(0.1)
    assert house.done


def test_a_client_that_has_answered_and_stays_is_forced_soon(house: House) -> None:
    """Its worker has the rest of the time for its own end."""
    client = house.client()
    house.stop.begin(10.0)
    house.pass_time(0.1)
    client.send_close(1001)
    assert client.connection.stage == LINGERING
    house.pass_time(LINGER_S / 2)
    assert not house.done
    house.pass_time(LINGER_S / 2)
    assert house.done
    assert client.connection.stage == GONE
    assert [event.kind for event in house.worker.received].count(CLOSE) == 1


def test_a_client_that_never_answers_is_forced_after_close_timeout(house: House) -> None:
    client = house.client()
    house.stop.begin(20.0)
    house.pass_time(3.8)
    assert (client.connection.stage, house.done) == (CLOSING, False)
    house.pass_time(0.5)
    assert house.done
    assert client.connection.stage == GONE


def test_it_never_has_more_than_its_share_of_the_time(house: House) -> None:
    client = house.client()
    house.stop.begin(4.0)
    house.pass_time(4.0 * GOODBYE_SHARE - 0.3)
    assert (client.connection.stage, house.done) == (CLOSING, False)
    house.pass_time(0.5)
    assert house.done


def test_what_was_accepted_is_finished_before_goodbye(house: House) -> None:
    client = house.client()
    client.send_message(b"question")
    (event,) = house.worker.take()
    house.stop.begin(10.0)
    house.pass_time(2.0, works=False)
    assert client.connection.stage == OPEN
    client.send_message(b"too late")
    assert house.worker.take() == []
    house.worker.finish(event)
    house.pass_time(0.1)
    assert client.connection.stage == CLOSING


def test_a_callback_that_takes_too_long_is_not_waited_for(house: House) -> None:
    client = house.client()
    client.send_message(b"question")
    house.worker.take()
    house.stop.begin(10.0)
    house.pass_time(6.5, works=False)
    assert client.connection.stage == OPEN
    house.pass_time(1.0, works=False)
    assert client.connection.stage == CLOSING
    house.pass_time(2.0, works=False)
    assert not house.done, "its callback runs still"
    house.pass_time(1.0, works=False)
    assert house.done, "the time is up"


def test_a_handshake_is_refused(house: House) -> None:
    client = house.reactor.client()
    house.stop.begin(10.0)
    house.pass_time(0.1)
    assert client.read().startswith(b"HTTP/1.1 503 ")


def test_a_second_word_shortens_the_time_and_never_lengthens_it(house: House) -> None:
    house.client()
    house.stop.begin(10.0)
    house.stop.begin(100.0)
    house.stop.begin(1.0)
    house.pass_time(1.0)
    assert house.done


@pytest.mark.parametrize("slice_size", [1, 3])
def test_many_clients_are_told_slice_by_slice(house: House, monkeypatch: pytest.MonkeyPatch, slice_size: int) -> None:
    monkeypatch.setattr(slices, "SLICE", slice_size)
    clients = [house.client() for _ in range(10)]
    house.stop.begin(30.0)
    house.pass_time(1.0)
    assert {client.connection.stage for client in clients} == {CLOSING}
    for client in clients[:5]:
        client.send_close(1001)
        client.leave()
    house.pass_time(0.1)
    assert not house.done
    house.pass_time(4.0)
    assert house.done
    assert house.reactor.closing.closed == {1001: 10}
    assert [event.kind for event in house.worker.received].count(CLOSE) == 10


def test_a_spread_says_goodbye_to_some_at_a_time(house: House) -> None:
    clients = [house.client() for _ in range(8)]
    house.stop.begin(20.0, spread=3.2)
    gone = []
    for _ in range(8):
        house.pass_time(0.4)
        gone.append(sum(client.connection.stage != OPEN for client in clients))
    assert [abs(number - due) <= 1 for number, due in zip(gone, range(1, 9), strict=True)] == [True] * 8
    house.pass_time(1.0)
    assert all(client.connection.stage != OPEN for client in clients)
