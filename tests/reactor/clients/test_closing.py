"""How connections end: every cause and every order of events."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.client_frames import client_frame
from tests.reactor.closing_parts import CLOSE_TIMEOUT, close_frame, is_gone, not_told, push, told, violate
from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.clients.closing import ENDING_S
from zwoole.reactor.core.connection_stages import STAGE_ENDING, STAGE_LINGERING
from zwoole.shared.memory.connection_table import CLOSING, ESTABLISHED, FREE
from zwoole.shared.websocket.frames import build_frame
from zwoole.shared.wire.events import MESSAGE


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor(close_timeout=CLOSE_TIMEOUT, connection_window_events=2, parked_messages=2) as reactor:
        yield reactor


WAYS_IN: list[tuple[Callable[[Client], None], int, str]] = [
    (lambda client: client.send_close(1000, "bye"), 1000, "client"),
    (lambda client: client.send(client_frame(8)), 1005, "client"),
    (violate, 1002, "server"),
    (lambda client: client.send_message(b"\xff", 1), 1007, "server"),
    (lambda client: client.send(client_frame(2, length=1 << 40)), 1009, "server"),
    (Client.finish_sending, 1006, "client"),
]
NAMES = ["close", "close without a code", "violation", "invalid text", "too big", "EOF"]


def answer_to(client: Client, code: int, reason: str) -> bytes:
    return {1005: build_frame(8, b""), 1006: b""}.get(code, close_frame(code, reason))


@pytest.mark.parametrize(("way_in", "code", "initiator"), WAYS_IN, ids=NAMES)
def test_an_idle_connection_is_answered_at_once_and_gone_when_the_client_goes(
    reactor: Reactor, worker: Worker, client: Client, way_in: Callable[[Client], None], code: int, initiator: str
) -> None:
    way_in(client)
    end = told(worker)
    assert (end[0], end[2]) == (code, initiator)
    assert client.read() == answer_to(client, code, end[1])
    assert client.at_end()
    if code == 1006:
        assert is_gone(reactor, client.connection)
    else:
        assert client.connection.stage == STAGE_LINGERING
        client.finish_sending()
    assert is_gone(reactor, client.connection)
    assert reactor.closing.closed == {code: 1}
    told(worker)


@pytest.mark.parametrize(("way_in", "code", "initiator"), WAYS_IN, ids=NAMES)
def test_what_was_accepted_is_finished_and_answered_before_the_close_frame(
    reactor: Reactor, worker: Worker, client: Client, way_in: Callable[[Client], None], code: int, initiator: str
) -> None:
    client.send_message(b"a", 2)
    client.send_message(b"b", 2)
    client.send_message(b"c", 2)  # parked: the connection's window is 2
    way_in(client)
    assert client.connection.stage == STAGE_ENDING
    assert not_told(worker)
    assert client.read() == b""
    first, second = [event for event in worker.received if event.kind == MESSAGE]
    push(worker, client.connection, b"A")
    worker.finish(first)
    (third,) = worker.take()
    push(worker, client.connection, b"B")
    worker.finish(second)
    assert not_told(worker)
    push(worker, client.connection, b"C")
    worker.finish(third)
    end = told(worker)
    assert (end[0], end[2]) == (code, initiator)
    answers = b"".join(build_frame(2, letter) for letter in (b"A", b"B", b"C"))
    assert client.read() == answers + answer_to(client, code, end[1])
    assert client.at_end()


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(("way_in", "code", "initiator"), WAYS_IN, ids=NAMES)
def test_a_connection_counts_as_open_until_what_was_accepted_is_finished(
    reactor: Reactor,
    worker: Worker,
    client: Client,
    way_in: Callable[[Client], None],
    code: int,
    initiator: str,
    finished: bool,
) -> None:
    """So `push`, `exists` and `is_established` return True after the client's close, and pushes are sent."""
    client.send_message(b"a", 2)
    way_in(client)
    (message,) = worker.take()
    reactor.pass_time(ENDING_S - 0.1)
    assert reactor.table.state(client.connection.fd) == ESTABLISHED
    push(worker, client.connection, b"A")
    if finished:
        worker.finish(message)
    else:
        worker.send()
        reactor.pass_time(0.2)
    end = told(worker)
    assert client.read() == build_frame(2, b"A") + answer_to(client, code, end[1])
    assert reactor.table.state(client.connection.fd) == (FREE if code == 1006 else CLOSING)


@pytest.mark.parametrize(("way_in", "code", "initiator"), WAYS_IN, ids=NAMES)
def test_what_is_not_finished_in_time_is_given_up(
    reactor: Reactor, worker: Worker, client: Client, way_in: Callable[[Client], None], code: int, initiator: str
) -> None:
    for _ in range(3):
        client.send_message(b"a")
    way_in(client)
    reactor.pass_time(ENDING_S - 0.1)
    assert client.connection.stage == STAGE_ENDING
    assert not_told(worker)
    reactor.pass_time(0.2)
    assert told(worker)[0] == code
    assert reactor.router.parking.bytes == 0
    messages = [event for event in worker.received if event.kind == MESSAGE]
    assert len(messages) == 2
    worker.finish(*messages)  # too late, and harmless
    told(worker)
    client.read()
    assert client.at_end()


def test_nothing_more_is_read_while_what_was_accepted_is_finished(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    client.send_message(b"a")
    client.send(client_frame(8, b"\x03\xe8") + client_frame(1, b"behind the close"))
    client.send_message(b"later")
    client.send_close(1001)
    (message,) = worker.take()
    worker.finish(message)
    assert told(worker)[0] == 1000


def test_the_end_of_the_stream_while_answers_are_due_changes_nothing(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    client.send_message(b"a", 2)
    client.send_close(1000)
    client.finish_sending()
    assert client.connection.stage == STAGE_ENDING
    (message,) = worker.take()
    push(worker, client.connection, b"A")
    worker.finish(message)
    assert client.read() == build_frame(2, b"A") + close_frame(1000)
    assert client.at_end()
    assert told(worker)[0] == 1000
    assert is_gone(reactor, client.connection)


def test_a_client_that_vanishes_while_answers_are_due_keeps_its_close_code(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    client.send_message(b"a", 2)
    client.send_close(1000)
    client.leave()
    assert client.connection.descriptor == -1
    assert client.connection.stage == STAGE_ENDING
    (message,) = worker.take()
    push(worker, client.connection, b"A")
    worker.finish(message)
    assert told(worker)[0] == 1000
    assert reactor.outbound.dropped == 1
    assert is_gone(reactor, client.connection)


@pytest.mark.parametrize("messages", [0, 1, 3, 5])
def test_a_client_that_vanishes_is_1006_when_what_it_sent_is_finished(
    reactor: Reactor, worker: Worker, client: Client, messages: int
) -> None:
    for _ in range(messages):
        client.send_message(b"a")
    reads = client.connection.unread == b"" and messages < 4
    client.leave()
    assert client.connection.descriptor == -1 or reads
    while events := [event for event in worker.take() if event.kind == MESSAGE]:
        assert not_told(worker)
        worker.finish(*events)
    assert told(worker)[0] == 1006
    assert [event.kind for event in worker.received].count(MESSAGE) == min(messages, 4)
    assert is_gone(reactor, client.connection)


def test_a_hang_up_while_reading_is_paused_does_not_spin(worker: Worker, client: Client, reactor: Reactor) -> None:
    for _ in range(4):
        client.send_message(b"a")
    assert client.connection.interest == 0
    client.leave()
    assert client.connection.descriptor == -1
    assert reactor.sleeps()


@pytest.mark.parametrize("stage", [STAGE_ENDING, STAGE_LINGERING])
def test_the_end_of_the_stream_is_told_once_and_does_not_spin(
    reactor: Reactor, worker: Worker, client: Client, stage: int
) -> None:
    if stage == STAGE_ENDING:
        client.send_message(b"a")
        worker.take()
    else:
        client.connection.output.queue(b"x" * 4_000_000)  # more than the socket accepts
        reactor.loop.flush_later(client.connection)
    client.finish_sending()
    assert client.connection.stage == stage
    assert client.connection.eof
    assert reactor.sleeps()
