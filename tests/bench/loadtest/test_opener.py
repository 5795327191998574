"""Opening connections: correct and wrong answers of servers, and how they are reported."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from tests.bench.bench_parts import (
    CERTIFICATE,
    DEADLINE_S,
    RawHandler,
    answering,
    closed_port,
    echo,
    open_to,
    raw_server,
    upgrading_only,
    websocket_server,
)
from zwoole.bench.loadtest.handshake import HandshakeError
from zwoole.bench.loadtest.opener import AT_ONCE, find_address
from zwoole.bench.loadtest.plan import Plan, Target


def failure(target: Target, **terms: Any) -> HandshakeError:
    """Return the reason why a server cannot be loaded."""
    with pytest.raises(HandshakeError) as raised:
        find_address(Plan(target, **terms))
    return raised.value


def test_connections_are_opened_and_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zwoole.bench.loadtest.opener.REPORT_S", 0.0)
    count = 3 * AT_ONCE
    reports: list[int] = []
    with websocket_server(echo) as target:
        opened = open_to(Plan(target, connections=count), report=lambda open, errors: reports.append(open))
        assert opened.errors == {}
        assert [attempt.number for attempt in opened.attempts] == list(range(count))
        assert opened.began_ns < opened.ended_ns
        assert all(not attempt.sock.getblocking() for attempt in opened.attempts)
        for attempt in opened.attempts:
            attempt.sock.close()
    assert reports == sorted(reports)
    assert reports[-1] == count


def test_headers_and_subprotocols_are_sent() -> None:
    seen: list[tuple[str | None, str | None]] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request
        seen.append((connection.request.headers["X-Token"], connection.subprotocol))

    with websocket_server(handler, subprotocols=["chat"]) as target:
        find_address(Plan(target, headers=(("X-Token", "secret"),), subprotocols=("news", "chat")))  # type: ignore[arg-type]
    assert seen == [("secret", "chat")]


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "status"),
        (b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: bm90IHRoZSBrZXk=\r\n\r\n", "accept"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "accept"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "accept"),
        (b"HTTP/1.1 200 OK\r\n" + b"X-Filler: 1\r\n" * 2000, "accept"),
        (b"", "timeout"),
        (b"HTTP/1.1 101", "timeout"),
    ],
)
def test_a_bad_answer_to_the_upgrade(response: bytes, kind: str) -> None:
    with raw_server(answering(response)) as target:
        opened = open_to(Plan(target, connections=2), timeout_s=0.2 if kind == "timeout" else DEADLINE_S)
    assert opened.attempts == []
    assert opened.errors == {kind: 2}


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nno\n\nentry", "HTTP status 403 Forbidden: no entry"),
        (b"HTTP/1.1 403 No\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n" + b"x" * 16384, "x" * 200 + "..."),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\nwho are you?", "HTTP status 401 Unauthorized: who are you?"),
        (
            b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno \r\n4;x=y\r\nluck\r\n0\r\n\r\n",
            "500 Oh: no luck",
        ),
        (b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", "HTTP status 426 Upgrade Required"),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 500\r\n\r\n" + b"x" * 500, "HTTP status 400 Bad: " + "x" * 200 + "..."),
    ],
)
@pytest.mark.parametrize("then_close", [False, True])
def test_a_refusal_is_shown_with_its_body(
    response: bytes, words: str, then_close: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zwoole.bench.loadtest.opener.BODY_TIMEOUT_S", 0.1)  # for bodies of unknown length
    with raw_server(answering(response, then_close)) as target:
        error = failure(target)
    assert error.kind == "status"
    assert str(error).endswith(words)


@pytest.mark.parametrize(
    ("fields", "terms", "words"),
    [
        (b"Sec-WebSocket-Protocol: chat\r\n", {"subprotocols": ("news",)}, "chose the subprotocol 'chat'"),
        (b"Sec-WebSocket-Extensions: permessage-deflate\r\n", {}, "chose the extension 'permessage-deflate'"),
        (b"Sec-WebSocket-Extensions: x-other\r\n", {"compress": True}, "chose the extension 'x-other'"),
        (
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=9\r\n",
            {"compress": True},
            "client_max_window_bits=9', which was not offered",
        ),
        (b"", {"compress": True}, "the server does not agree to permessage-deflate"),
    ],
)
def test_what_was_not_asked_for_is_refused(fields: bytes, terms: dict[str, Any], words: str) -> None:
    with raw_server(upgrading_only(fields=fields)) as target:
        error = failure(target, **terms)
    assert error.kind == "negotiation"
    assert words in str(error)


def test_nobody_listens() -> None:
    error = failure(closed_port())
    assert (error.kind, str(error)) == ("refused", "Connection refused")
    assert open_to(Plan(closed_port(), connections=2)).errors == {"refused": 2}


def test_a_host_without_an_address() -> None:
    error = failure(Target("no.such.host.invalid", 80, "/"))
    assert error.kind == "refused"
    assert str(error) in (
        "Name or service not known",
        "Temporary failure in name resolution",
        "No address associated with hostname",
    )


def test_the_server_ends_the_connection_in_the_handshake() -> None:
    with raw_server(answering(b"", then_close=True)) as target:
        error = failure(target)
    assert (error.kind, str(error)) == ("refused", "connection closed in the opening handshake")


def test_a_certificate_that_nobody_vouches_for() -> None:
    with websocket_server(echo, secure=True) as target:
        error = failure(target)
        assert find_address(Plan(target, insecure=True)).sockaddr[1] == target.port
    assert error.kind == "tls"
    assert str(error).startswith("TLS: certificate not accepted: self-signed certificate")
    assert "--insecure" in str(error)


def test_a_certificate_that_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with websocket_server(echo, secure=True) as target:
        find_address(Plan(target))
        find_address(Plan(Target("localhost", target.port, "/", secure=True)))


def test_tls_to_a_server_that_speaks_none() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    handlers: list[tuple[RawHandler, str]] = [(talk, "TLS: wrong version number")]
    for handler, words in handlers:
        with raw_server(handler) as plain:
            error = failure(Target(plain.host, plain.port, "/", secure=True))
        assert (error.kind, str(error)) == ("tls", words)


def test_localhost_is_found_where_it_listens() -> None:
    with websocket_server(echo) as target:
        address = find_address(Plan(Target("localhost", target.port, "/")))
    assert address.family == socket.AF_INET
    assert address.sockaddr[:2] == ("127.0.0.1", target.port)


def test_sources_share_the_connections() -> None:
    sources: list[str] = []

    async def handler(connection: ServerConnection) -> None:
        sources.append(connection.remote_address[0])
        await connection.wait_closed()

    with websocket_server(handler) as target:
        opened = open_to(Plan(target, connections=6, sources=3))
        assert opened.errors == {}
        for attempt in opened.attempts:
            attempt.sock.close()
    assert sorted(sources) == ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]


def test_sources_are_for_this_machine_only() -> None:
    assert "--sources" in str(failure(Target("::1", 80, "/"), sources=2))
