"""How a master stops: which clients it waits for, and for how long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.clients.graceful_stop import GOODBYE_SHARE, LINGER_S, STEP_S, GracefulStop
from zwoole.reactor.core import turn_slices
from zwoole.reactor.core.connection_stages import STAGE_CLOSING, STAGE_GONE, STAGE_LINGERING, STAGE_OPEN
from zwoole.shared.wire.events import CLOSE


class Rig:
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
            reactor.settings.close_timeout,
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
        """Make the worker finish what it has."""
        self.worker.finish(*self.worker.take())

    def pass_time(self, seconds: float, works: bool = True) -> None:
        """Advance time in steps, while the worker finishes at once whatever it is sent."""
        for _ in range(round(seconds / STEP_S)):
            self.reactor.pass_time(STEP_S)
            if works:
                self.work()


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Reactor(close_timeout=4.0, ping_interval=0.0) as reactor:
        yield Rig(reactor)


def test_with_nobody_there_it_is_done_at_once(rig: Rig) -> None:
    rig.stop.begin(10.0)
    rig.pass_time(0.1)
    assert rig.done


def test_clients_that_answer_and_go_are_all_it_waits_for(rig: Rig) -> None:
    client = rig.client()
    rig.stop.begin(10.0)
    rig.pass_time(0.1)
    assert client.connection.stage == STAGE_CLOSING
    client.send_close(1001)
    client.leave()
    rig.pass_time(0.1)
    assert rig.done


def test_a_client_that_has_answered_and_stays_is_forced_soon(rig: Rig) -> None:
    """Its worker gets the rest of the time for its own end."""
    client = rig.client()
    rig.stop.begin(10.0)
    rig.pass_time(0.1)
    client.send_close(1001)
    assert client.connection.stage == STAGE_LINGERING
    rig.pass_time(LINGER_S / 2)
    assert not rig.done
    rig.pass_time(LINGER_S / 2)
    assert rig.done
    assert client.connection.stage == STAGE_GONE
    assert [event.kind for event in rig.worker.received].count(CLOSE) == 1


def test_a_client_that_never_answers_is_forced_after_close_timeout(rig: Rig) -> None:
    client = rig.client()
    rig.stop.begin(20.0)
    rig.pass_time(3.8)
    assert (client.connection.stage, rig.done) == (STAGE_CLOSING, False)
    rig.pass_time(0.5)
    assert rig.done
    assert client.connection.stage == STAGE_GONE


def test_it_never_has_more_than_its_share_of_the_time(rig: Rig) -> None:
    client = rig.client()
    rig.stop.begin(4.0)
    rig.pass_time(4.0 * GOODBYE_SHARE - 0.3)
    assert (client.connection.stage, rig.done) == (STAGE_CLOSING, False)
    rig.pass_time(0.5)
    assert rig.done


def test_what_was_accepted_is_finished_before_goodbye(rig: Rig) -> None:
    client = rig.client()
    client.send_message(b"question")
    (event,) = rig.worker.take()
    rig.stop.begin(10.0)
    rig.pass_time(2.0, works=False)
    assert client.connection.stage == STAGE_OPEN
    client.send_message(b"too late")
    assert rig.worker.take() == []
    rig.worker.finish(event)
    rig.pass_time(0.1)
    assert client.connection.stage == STAGE_CLOSING


def test_a_callback_that_takes_too_long_is_not_waited_for(rig: Rig) -> None:
    client = rig.client()
    client.send_message(b"question")
    rig.worker.take()
    rig.stop.begin(10.0)
    rig.pass_time(6.5, works=False)
    assert client.connection.stage == STAGE_OPEN
    rig.pass_time(1.0, works=False)
    assert client.connection.stage == STAGE_CLOSING
    rig.pass_time(2.0, works=False)
    assert not rig.done, "its callback runs still"
    rig.pass_time(1.0, works=False)
    assert rig.done, "the time is up"


def test_a_handshake_is_refused(rig: Rig) -> None:
    client = rig.reactor.client()
    rig.stop.begin(10.0)
    rig.pass_time(0.1)
    assert client.read().startswith(b"HTTP/1.1 503 ")


def test_a_second_word_shortens_the_time_and_never_lengthens_it(rig: Rig) -> None:
    rig.client()
    rig.stop.begin(10.0)
    rig.stop.begin(100.0)
    rig.stop.begin(1.0)
    rig.pass_time(1.0)
    assert rig.done


@pytest.mark.parametrize("slice_size", [1, 3])
def test_many_clients_are_told_slice_by_slice(rig: Rig, monkeypatch: pytest.MonkeyPatch, slice_size: int) -> None:
    monkeypatch.setattr(turn_slices, "SLICE", slice_size)
    clients = [rig.client() for _ in range(10)]
    rig.stop.begin(30.0)
    rig.pass_time(1.0)
    assert {client.connection.stage for client in clients} == {STAGE_CLOSING}
    for client in clients[:5]:
        client.send_close(1001)
        client.leave()
    rig.pass_time(0.1)
    assert not rig.done
    rig.pass_time(4.0)
    assert rig.done
    assert rig.reactor.closing.closed == {1001: 10}
    assert [event.kind for event in rig.worker.received].count(CLOSE) == 10


def test_a_second_stop_shortens_the_spread_too(rig: Rig) -> None:
    client = rig.client()
    rig.stop.begin(100.0, spread=90.0)
    rig.pass_time(0.1)
    rig.stop.begin(2.5)
    rig.pass_time(2.6)
    assert client.connection.stage != STAGE_OPEN
    assert rig.done


@pytest.mark.parametrize("spread", [0.0, 90.0])
def test_after_a_second_stop_clients_still_have_time_to_answer(rig: Rig, spread: float) -> None:
    client = rig.client()
    client.send_message(b"question")
    rig.worker.take()
    rig.stop.begin(100.0, spread=spread)
    rig.pass_time(0.1, works=False)
    rig.stop.begin(10.0)
    rig.pass_time(7.5, works=False)
    assert client.connection.stage == STAGE_CLOSING
    client.send_close(1001)
    assert rig.reactor.closing.closed == {1001: 1}
    assert client.read() == b"\x88\x18\x03\xe9the server is stopping"


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_a_client_in_its_handshake_is_told_that_the_server_is_stopping(rig: Rig, spread: float) -> None:
    client = rig.reactor.client()
    rig.stop.begin(10.0, spread=spread)
    rig.pass_time(1.1)
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"the server is stopping" in answer
    assert rig.reactor.closing.closed == {}


def test_a_refused_client_that_stays_is_not_counted_as_closed(rig: Rig) -> None:
    client = rig.reactor.client()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert client.connection.stage == STAGE_LINGERING
    rig.reactor.closing.force(client.connection)
    assert client.connection.stage == STAGE_GONE
    assert rig.reactor.closing.closed == {}


def test_a_spread_says_goodbye_to_some_at_a_time(rig: Rig) -> None:
    clients = [rig.client() for _ in range(8)]
    rig.stop.begin(20.0, spread=3.2)
    gone = []
    for _ in range(8):
        rig.pass_time(0.4)
        gone.append(sum(client.connection.stage != STAGE_OPEN for client in clients))
    assert [abs(number - due) <= 1 for number, due in zip(gone, range(1, 9), strict=True)] == [True] * 8
    rig.pass_time(1.0)
    assert all(client.connection.stage != STAGE_OPEN for client in clients)
