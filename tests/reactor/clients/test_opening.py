"""From an accepted socket to an open WebSocket, or to an HTTP error."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterator

import msgpack
import pytest

from tests import client_frames
from tests.client_frames import client_frame
from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.clients.opening import Routes
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import STAGE_GONE, STAGE_HANDSHAKE, STAGE_LINGERING, STAGE_OPEN
from zwoole.reactor.core.loop import IN
from zwoole.shared.answers import Accept, Answer, Refuse
from zwoole.shared.memory.connection_table import ESTABLISHED
from zwoole.shared.request import unpack_request
from zwoole.shared.wire.events import ACCEPT, CLOSE, HANDSHAKE, MESSAGE, REFUSE
from zwoole.shared.wire.events import OPEN as EVENT_OPEN

HEAD = client_frames.HEAD.replace(b" / ", b" /chat?room=1 ")


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor(handshake_timeout=5.0, http_head_max_length=1024, close_timeout=3.0) as reactor:
        yield reactor


@pytest.fixture
def client(reactor: Reactor, worker: Worker) -> Client:
    return reactor.client()


def refused_with(reactor: Reactor, worker: Worker, client: Client, status: int) -> bool:
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert client.at_end()
    assert client.connection.stage == STAGE_LINGERING
    assert worker.take() == []
    assert reactor.opening.refused == {status: 1}
    assert reactor.opening.opened == 0
    client.leave()
    return len(reactor.registry) == 0


def test_a_request_becomes_a_connection_and_its_worker_is_told(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    client.send(HEAD)
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer  # the sample of RFC 6455 section 1.3
    assert client.connection.stage == STAGE_OPEN
    assert reactor.table.state(client.connection.fd) == ESTABLISHED
    (event,) = worker.take()
    assert (event.kind, event.fd) == (EVENT_OPEN, client.connection.fd)
    record, state = msgpack.unpackb(event.body)
    assert state == b""
    request = unpack_request(event.fd, record)
    assert (request.path, request.query, request.headers["host"]) == ("/chat", {"room": "1"}, "example.com")
    assert (request.remote_addr, request.remote_port) == ("192.0.2.1", 40000)
    assert reactor.opening.opened == 1


def test_a_head_may_come_in_any_pieces(reactor: Reactor, worker: Worker, client: Client) -> None:
    for i in range(len(HEAD)):
        assert client.connection.stage == STAGE_HANDSHAKE
        client.send(HEAD[i : i + 1])
    assert client.connection.stage == STAGE_OPEN
    assert client.connection.head is None


def test_frames_behind_the_head_are_read_behind_the_open(reactor: Reactor, worker: Worker, client: Client) -> None:
    frames = client_frame(1, b"first") + client_frame(2, b"x" * 40_000) + client_frame(9, b"ping")
    client.send(HEAD + frames[:-3])
    client.send(frames[-3:])
    assert [(event.kind, event.body) for event in worker.take()][1:] == [(MESSAGE, "first"), (MESSAGE, b"x" * 40_000)]
    assert client.read().endswith(b"\r\n\r\n\x8a\x04ping")


def test_a_handler_connection_is_known_by_its_path(reactor: Reactor, worker: Worker) -> None:
    plain, handled = reactor.client(), reactor.client()
    plain.send(HEAD)
    handled.send(HEAD.replace(b"/chat?room=1", b"/handler?a"))
    assert (plain.connection.handler, handled.connection.handler) == (False, True)


@pytest.mark.parametrize(
    ("routes", "served", "not_served"),
    [
        (Routes(), [], ["/", "/a"]),
        (Routes(True), ["/", "/a"], []),
        (Routes(False, ["/a"]), ["/a"], ["/", "/a/", "/A"]),
        (Routes(True, ["/a"]), ["/a", "/b"], []),
    ],
)
def test_callbacks_serve_every_path_and_handlers_their_own(
    routes: Routes, served: list[str], not_served: list[str]
) -> None:
    assert all(routes.serves(path) for path in served)
    assert not any(routes.serves(path) for path in not_served)


def test_a_path_that_nothing_serves_is_404(reactor: Reactor, worker: Worker, client: Client) -> None:
    reactor.opening.routes = Routes(handlers=["/other"])
    client.send(HEAD)
    assert refused_with(reactor, worker, client, 404)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (HEAD.replace(b"Upgrade: websocket\r\n", b""), 426),
        (HEAD.replace(b"GET", b"POST"), 405),
        (HEAD.replace(b"Version: 13", b"Version: 8"), 426),
        (HEAD.replace(b"Host: example.com\r\n", b""), 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 1100, 431),
        (HEAD[:-2] + b"A: " + b"a" * 1100 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01", 400),
    ],
)
def test_what_is_no_upgrade_is_answered_with_the_reason(
    reactor: Reactor, worker: Worker, client: Client, sent: bytes, status: int
) -> None:
    client.send(sent)
    assert refused_with(reactor, worker, client, status)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 426),
        (b"\r\nHEAD / HTTP/1.0\r\n\r\n", 426),
        (HEAD.replace(b"GET", b"HEAD"), 405),
        (b"HEAD / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"HEAD /" + b"a" * 1100, 431),
        (b"HEAD / HTTP/1.1\r\n", 408),
    ],
)
def test_an_answer_to_head_says_how_long_its_body_would_be_and_has_none(
    reactor: Reactor, worker: Worker, client: Client, sent: bytes, status: int
) -> None:
    client.send(sent)
    reactor.pass_time(6.0 if status == 408 else 0.0)
    answer = client.socket.recv(4096)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(b"\r\n\r\n")
    assert int(answer.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]) > 0


def test_a_head_that_does_not_arrive_in_time_is_408(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.send(HEAD[:50])
    reactor.pass_time(4.9)
    assert client.connection.stage == STAGE_HANDSHAKE
    client.send(HEAD[50:55])
    reactor.pass_time(0.2)
    assert refused_with(reactor, worker, client, 408)


def test_the_timeout_ends_with_the_handshake(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.send(HEAD)
    reactor.pass_time(6.0)
    assert client.connection.stage == STAGE_OPEN


def test_a_client_that_goes_during_its_handshake_is_forgotten(reactor: Reactor, worker: Worker) -> None:
    first, second = reactor.client(), reactor.client()
    first.send(HEAD[:30])
    first.leave()
    second.finish_sending()
    assert len(reactor.registry) == 0
    assert worker.take() == []
    reactor.pass_time(6.0)
    assert reactor.opening.refused == {}


def test_a_refused_client_that_stays_is_let_go_in_time(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.send(b"\x16\x03\x01\x02\x00\x01")
    for _ in range(5):
        client.send(HEAD)  # read and dropped
        reactor.pass_time(0.5)
    assert len(reactor.registry) == 1
    reactor.pass_time(1.0)
    assert len(reactor.registry) == 0
    assert reactor.opening.refused == {400: 1}


# Observers of a handshake.


class Told:
    """Records what the access log would be told."""

    def __init__(self, reactor: Reactor) -> None:
        self.opened: list[str] = []
        self.refused: list[tuple[str, str, int]] = []
        reactor.life.opened.append(lambda _, target: self.opened.append(target))
        reactor.life.refused.append(self._refused)

    def _refused(self, address: str, port: int, target: str, status: int, reason: str) -> None:
        self.refused.append((address, target, status))


@pytest.fixture
def told(reactor: Reactor) -> Told:
    return Told(reactor)


@pytest.mark.parametrize(
    ("sent", "target", "status"),
    [
        (HEAD.replace(b"Version: 13", b"Version: 8"), "/chat?room=1", 426),
        (HEAD.replace(b"\r\n\r\n", b"\r\nOrigin: https://other.example\r\n\r\n"), "/chat?room=1", 403),
        (b"GET /\x1b[2J HTTP/1.1\r\nHost: a\r\n\r\n", "/\x1b[2J", 400),
        (b"\x16\x03\x01\x02\x00\x01", "\x16\x03\x01\x02\x00\x01", 400),
        (b"GET /late", "/late", 408),
        (b"", "", 408),
    ],
)
def test_a_refusal_is_logged_once_with_who_what_and_why(
    reactor: Reactor, client: Client, told: Told, log: pytest.LogCaptureFixture, sent: bytes, target: str, status: int
) -> None:
    client.send(sent)
    reactor.pass_time(6.0 if status == 408 else 0.0)
    assert (told.opened, told.refused) == ([], [("192.0.2.1", target, status)])
    (record,) = [record for record in log.records if record.levelname == "INFO"]
    line = record.getMessage()
    assert line.startswith(f"refused 192.0.2.1:40000: {status}, ")
    assert ascii(target.partition("?")[0]) in line
    assert "room=1" not in line, "what stands in a query may be a secret"
    assert line.isprintable()


def test_a_client_that_an_app_is_asked_about_opens_once(
    asking: Reactor, worker: Worker, client: Client, told: Told
) -> None:
    client.send(HEAD)
    assert told.opened == []
    answer(worker, Accept())
    assert (told.opened, told.refused) == (["/chat?room=1"], [])


def test_a_client_that_an_app_refuses_never_opens(
    asking: Reactor, worker: Worker, client: Client, told: Told, log: pytest.LogCaptureFixture
) -> None:
    client.send(HEAD)
    answer(worker, Refuse(401, "no\n[forged] line"))
    assert (told.opened, told.refused) == ([], [("192.0.2.1", "/chat?room=1", 401)])
    assert [r"no\n[forged] line" in record.getMessage() for record in log.records] == [True]


def test_an_answer_that_cannot_be_sent_is_one_refusal(
    asking: Reactor, worker: Worker, client: Client, told: Told
) -> None:
    client.send(HEAD)
    answer(worker, Refuse(403, "", {"a": "b\n"}))
    assert [status for *_, status in told.refused] == [500]
    assert asking.opening.refused == {500: 1}


# Apps with a handshake callback.


def answer(worker: Worker, answer: Answer) -> None:
    """Answer the handshake that the worker was asked about, and finish the event."""
    (event,) = worker.take()
    assert event.kind == HANDSHAKE
    worker.writer.add_bytes(ACCEPT if isinstance(answer, Accept) else REFUSE, event.fd, answer.pack())
    worker.finish(event)


@pytest.fixture
def asking(reactor: Reactor, worker: Worker) -> Reactor:
    reactor.opening.routes = Routes(callbacks=True, asks=True)
    return reactor


def test_the_worker_is_asked_before_the_101(asking: Reactor, worker: Worker, client: Client) -> None:
    offers = HEAD.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: token, chat\r\n\r\n")
    client.send(offers + client_frame(1, b"eager"))
    assert client.read() == b""
    answer(worker, Accept({"Set-Cookie": "a=1"}, "chat"))
    head = client.read()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nSet-Cookie: a=1\r\n" in head
    assert b"\r\nSec-WebSocket-Protocol: chat\r\n" in head
    opened, message = worker.take()
    assert (opened.kind, message.kind, message.body) == (EVENT_OPEN, MESSAGE, "eager")
    assert unpack_request(opened.fd, msgpack.unpackb(opened.body)[0]).subprotocol == "chat"
    assert worker.link.connections == asking.router.workers[0].connections == 1
    worker.finish(opened, message)
    assert asking.router.is_idle(client.connection)


@pytest.mark.parametrize(("offered", "noted"), [(b"a, SECRET", True), (b"", False), (None, False)])
def test_subprotocols_that_get_no_answer_are_noted_for_whoever_looks(
    reactor: Reactor, worker: Worker, client: Client, log: pytest.LogCaptureFixture, offered: bytes | None, noted: bool
) -> None:
    log.set_level(logging.DEBUG, "zwoole")
    more = b"" if offered is None else b"Sec-WebSocket-Protocol: " + offered + b"\r\n"
    client.send(HEAD.replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n"))
    assert client.read().startswith(b"HTTP/1.1 101 ")
    message = "offers 2 subprotocols, but none is agreed on (the server knows ()): browsers give up then"
    assert [message in line for line in log.messages if "subprotocol" in line] == [True] * noted
    assert "SECRET" not in log.text


@pytest.mark.parametrize("line", [b"GET /a?SECRET#b", b"GET /a#SECRET", b"GET ws://b:SECRET@c/a", b"GET /a?SECRET\xe9"])
def test_a_refusal_is_logged_without_what_may_be_secret(
    reactor: Reactor, client: Client, log: pytest.LogCaptureFixture, line: bytes
) -> None:
    reactor.opening.routes = Routes()
    client.send(HEAD.replace(b"GET /chat?room=1", line).replace(b"\r\n\r\n", b"\r\nCookie: SECRET\r\n\r\n"))
    client.read()
    (logged,) = [text for text in log.messages if text.startswith("refused 192.0.2.1:")]
    assert "/a')" in logged
    assert "SECRET" not in logged


@pytest.mark.parametrize("asks", [False, True])
def test_who_looks_after_open_connections_is_told_of_a_new_one_that_is_read(
    reactor: Reactor, worker: Worker, client: Client, asks: bool
) -> None:
    opened: list[tuple[Connection, int, bool]] = []
    reactor.life.opened.append(lambda it, _: opened.append((it, it.stage, bool(it.interest & IN))))
    reactor.opening.routes = Routes(callbacks=True, asks=asks)
    client.send(HEAD)
    if asks:
        assert opened == []
        answer(worker, Accept())
    assert opened == [(client.connection, STAGE_OPEN, True)]


@pytest.mark.parametrize("asks", [False, True])
def test_malformed_extensions_are_refused_before_anybody_is_asked(asks: bool) -> None:
    with Reactor(websocket_compression=True) as reactor:
        worker = reactor.worker()
        reactor.opening.routes = Routes(callbacks=True, asks=asks)
        client = reactor.client()
        client.send(HEAD.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: ;;;=\r\n\r\n"))
        assert refused_with(reactor, worker, client, 400)


def test_the_worker_may_refuse(asking: Reactor, worker: Worker, client: Client) -> None:
    client.send(HEAD)
    answer(worker, Refuse(401, "who are you?", {"WWW-Authenticate": "Bearer"}))
    response = client.read()
    assert response.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nWWW-Authenticate: Bearer\r\n" in response
    assert response.endswith(b"\r\n\r\nwho are you?\n")
    assert worker.take() == []
    assert worker.link.connections == asking.router.workers[0].connections == 0
    client.leave()
    assert client.connection.stage == STAGE_GONE


@pytest.mark.parametrize("wrong", [Accept({"Bad Name": "x"}), Accept((), "not offered"), Refuse(403, "", {"a": "b\n"})])
def test_an_answer_that_cannot_be_sent_is_a_500(asking: Reactor, worker: Worker, client: Client, wrong: Answer) -> None:
    client.send(HEAD)
    answer(worker, wrong)
    assert client.read().startswith(b"HTTP/1.1 500 ")


def test_no_answer_in_time_is_a_503(asking: Reactor, worker: Worker, client: Client) -> None:
    client.send(HEAD)
    (event,) = worker.take()
    asking.pass_time(6.0)
    assert client.read().startswith(b"HTTP/1.1 503 ")
    worker.writer.add_bytes(ACCEPT, event.fd, Accept().pack())
    worker.finish(event)
    assert worker.take() == [], "too late: nothing was opened, so nothing is closed"
    assert worker.link.connections == asking.router.workers[0].connections == 0


def test_a_client_that_leaves_meanwhile_is_forgotten(asking: Reactor, worker: Worker, client: Client) -> None:
    client.send(HEAD)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.leave()
    assert client.connection.stage == STAGE_GONE
    answer(worker, Accept())
    assert worker.take() == []
    assert worker.link.connections == asking.router.workers[0].connections == 0
    assert asking.router.parking.bytes == 0


def test_a_client_is_asked_about_again_where_its_worker_was_not_there(asking: Reactor, client: Client) -> None:
    for worker in asking.workers:
        worker.die()
    client.send(HEAD)
    assert client.read() == b""
    successor = asking.worker()
    answer(successor, Accept())
    assert client.read().startswith(b"HTTP/1.1 101 ")
    assert [event.kind for event in successor.take()] == [EVENT_OPEN]
    client.send_close()
    assert CLOSE not in [event.kind for event in successor.take()], "the open is still unfinished"
