"""How a connection ends if the server closes it: politely, because of a slow reader, or by force."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.client_frames import client_frame
from tests.reactor.closing_parts import CLOSE_TIMEOUT, close_frame, is_gone, not_told, push, told, violate
from tests.reactor.reactor_parts import Client, Event, Reactor, Worker
from zwoole.reactor.clients.closing import ENDING_S
from zwoole.reactor.core.connection_stages import STAGE_CLOSING, STAGE_ENDING, STAGE_LINGERING, STAGE_OPEN
from zwoole.shared.websocket.frames import build_frame
from zwoole.shared.wire.events import CLOSE, MESSAGE


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor(close_timeout=CLOSE_TIMEOUT, connection_window_events=2, parked_messages=2) as reactor:
        yield reactor


def server_close(reactor: Reactor, client: Client, code: int = 1001, reason: str = "going") -> None:
    reactor.closing.server_close(client.connection, code, reason)
    reactor.turn()


def test_the_server_closes_and_the_client_answers(reactor: Reactor, worker: Worker, client: Client) -> None:
    server_close(reactor, client)
    assert client.connection.stage == STAGE_CLOSING
    assert reactor.table.state(client.connection.fd) == 3
    assert client.read() == close_frame(1001, "going")
    assert not client.at_end()
    assert not_told(worker)
    client.send_close(1001)
    assert told(worker) == [1001, "going", "server"]
    assert client.connection.stage == STAGE_LINGERING
    assert client.at_end()
    client.finish_sending()
    assert is_gone(reactor, client.connection)
    assert reactor.closing.closed == {1001: 1}


@pytest.mark.parametrize("leave", [Client.finish_sending, Client.leave, violate], ids=["EOF", "gone", "violation"])
def test_the_server_closes_and_the_client_does_not_answer_as_it_should(
    reactor: Reactor, worker: Worker, client: Client, leave: Callable[[Client], None]
) -> None:
    server_close(reactor, client)
    leave(client)
    assert told(worker) == [1001, "going", "server"]
    if leave is violate:
        assert client.connection.stage == STAGE_LINGERING
        client.leave()
    reactor.turn()
    assert is_gone(reactor, client.connection)


def test_a_client_that_never_answers_our_close_is_let_go_in_time(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    server_close(reactor, client)
    reactor.pass_time(CLOSE_TIMEOUT - 0.1)
    assert not_told(worker)
    reactor.pass_time(0.2)
    assert told(worker) == [1001, "going", "server"]
    assert is_gone(reactor, client.connection)


def test_a_client_that_never_goes_is_let_go_in_time(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.send_close(1000)
    for _ in range(13):
        reactor.pass_time(CLOSE_TIMEOUT / 14)
        client.send(b"whatever it sends")
    assert client.connection.stage == STAGE_LINGERING
    reactor.pass_time(CLOSE_TIMEOUT / 7)
    assert is_gone(reactor, client.connection)
    told(worker)


def test_messages_that_have_not_gone_down_are_dropped_when_the_server_closes(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    for _ in range(3):
        client.send_message(b"a")
    server_close(reactor, client)
    assert reactor.router.parking.bytes == 0
    client.send_message(b"after our close frame")
    worker.finish(*worker.take())
    client.send_close(1001)
    told(worker)
    assert [event.kind for event in worker.received].count(MESSAGE) == 2
    assert reactor.inbound.messages == 3


def test_a_paused_connection_is_read_on_for_the_answer_to_our_close(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    frames = [client_frame(2, b"a") for _ in range(10)]
    client.send(b"".join(frames) + client_frame(8, b"\x03\xe8"))
    assert client.connection.unread
    server_close(reactor, client)
    assert told(worker)[:1] == [1001]
    assert client.connection.stage == STAGE_LINGERING


def test_what_was_pushed_before_our_close_arrives_before_it_though_the_client_sent_fin(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    payload = b"x" * 1_900_000  # more than the socket accepts at once
    push(worker, client.connection, payload)
    worker.send()
    reactor.turn()
    server_close(reactor, client, 1000, "")
    client.finish_sending()
    assert told(worker)[0] == 1000
    assert client.read() == build_frame(2, payload) + close_frame(1000)
    assert client.at_end()
    assert is_gone(reactor, client.connection)


def test_a_second_close_changes_nothing(reactor: Reactor, worker: Worker, client: Client) -> None:
    server_close(reactor, client, 1011, "first")
    server_close(reactor, client, 1001, "second")
    assert client.read() == close_frame(1011, "first")
    client.send_close(1011)
    server_close(reactor, client, 1001, "third")
    assert client.read() == b""
    assert told(worker) == [1011, "first", "server"]


def test_our_close_of_a_connection_that_is_ending_changes_nothing(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    client.send_message(b"a")
    client.send_close(1000)
    server_close(reactor, client)
    assert client.connection.stage == STAGE_ENDING
    worker.finish(*worker.take())
    assert told(worker)[0] == 1000


def test_a_handshake_that_the_server_gives_up_is_answered_with_503(reactor: Reactor, worker: Worker) -> None:
    client = reactor.client()
    client.send(b"GET / HTTP/1.1\r\n")
    server_close(reactor, client)
    assert client.read().startswith(b"HTTP/1.1 503 ")
    assert client.at_end()
    client.leave()
    assert is_gone(reactor, client.connection)
    assert worker.take() == []


# A client that does not read.


def test_a_slow_reader_in_its_ending_gets_no_answer_behind_a_gap(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    client.send_message(b"a")
    client.send_close(1000)
    (message,) = worker.take()
    push(worker, client.connection, b"x" * 1_500_000)
    push(worker, client.connection, b"y" * 1_500_000)  # exceeds the limit of 2 MiB
    push(worker, client.connection, b"z")
    worker.finish(message)
    assert client.read() == build_frame(2, b"x" * 1_500_000) + close_frame(1000)
    told(worker)


def test_a_slow_reader_is_closed_with_1013(reactor: Reactor, worker: Worker, client: Client) -> None:
    push(worker, client.connection, b"x" * 2_000_000)
    push(worker, client.connection, b"y" * 2_000_000)
    worker.send()
    reactor.turn()
    assert client.connection.close_code == 1013
    received = client.read()
    assert received.startswith(build_frame(2, b"x" * 2_000_000) + b"\x88")
    client.leave()
    assert told(worker)[0] == 1013


# By force.


@pytest.mark.parametrize("stage", [STAGE_OPEN, STAGE_ENDING, STAGE_CLOSING, STAGE_LINGERING])
def test_force_ends_a_connection_in_any_stage_at_once(
    reactor: Reactor, worker: Worker, client: Client, stage: int
) -> None:
    if stage == STAGE_ENDING:
        client.send_message(b"a")
    if stage in (STAGE_ENDING, STAGE_LINGERING):
        client.send_close(1000)
    if stage == STAGE_CLOSING:
        server_close(reactor, client)
    assert client.connection.stage == stage
    reactor.closing.force(client.connection)
    assert is_gone(reactor, client.connection)
    assert told(worker)[0] == {STAGE_OPEN: 1006, STAGE_CLOSING: 1001}.get(stage, 1000)
    reactor.closing.force(client.connection)
    reactor.pass_time(CLOSE_TIMEOUT + ENDING_S)
    told(worker)


def test_an_event_of_a_connection_that_is_gone_may_still_finish(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    client.send_message(b"a")
    reactor.closing.force(client.connection)
    events: list[Event] = worker.take()
    assert [event.kind for event in events] == [MESSAGE, CLOSE]
    push(worker, client.connection, b"too late")
    worker.finish(*events)
    assert reactor.outbound.dropped == 1
    assert worker.link.window.oldest == worker.link.window.next_sequence


def test_a_reset_connection_is_1006(reactor: Reactor, worker: Worker, client: Client) -> None:
    push(worker, client.connection, b"never read")
    worker.send()
    reactor.turn()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.leave()
    assert told(worker)[0] == 1006
    assert is_gone(reactor, client.connection)
