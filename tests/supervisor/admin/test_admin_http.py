"""The admin listener's HTTP, without a server."""

from __future__ import annotations

import http.client
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.server_process import free_ports
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.shared.errors import StartError
from zwoole.supervisor.admin.admin_http import MAX_CONNECTIONS, AdminListener
from zwoole.supervisor.core.process_stats import ProcessStats


@pytest.fixture
def readiness() -> list[tuple[bool, str]]:
    return [(True, "ready")]


@pytest.fixture
def port(tmp_path: Path, readiness: list[tuple[bool, str]]) -> Iterator[int]:
    ProcessStats(tmp_path)
    port = free_ports(1)[0]
    listener = AdminListener(("127.0.0.1", port), "sesame", tmp_path, lambda: readiness[0])
    listener.start()
    yield port
    listener.close()


def ask(port: int, method: str, path: str, token: str = "sesame") -> tuple[http.client.HTTPResponse, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    client.request(method, path, headers={"Authorization": f"Bearer {token}"})
    answer = client.getresponse()
    body = answer.read()
    client.close()
    return answer, body


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/other"])
def test_head_is_get_without_a_body(port: int, path: str) -> None:
    get, body = ask(port, "GET", path)
    head, nothing = ask(port, "HEAD", path)
    assert (head.status, nothing) == (get.status, b"")
    assert head.getheader("Content-Type") == get.getheader("Content-Type")
    assert int(str(get.getheader("Content-Length"))) == len(body)
    assert head.getheader("Content-Length") is not None


def test_the_kernel_queues_a_burst_of_connections(tmp_path: Path) -> None:
    """While the thread that accepts is busy, or does not run yet, as here."""
    port = free_ports(1)[0]
    listener = AdminListener(("127.0.0.1", port), "", tmp_path, lambda: (True, "ready"))
    clients = []
    try:
        for _ in range(100):
            clients.append(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
    finally:
        for client in clients:
            client.close()
        listener.close()


def test_head_sends_nothing_behind_its_head(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        client.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 200 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"])
def test_other_methods_are_told_which_there_are(port: int, method: str) -> None:
    answer, body = ask(port, method, "/healthz")
    assert (answer.status, answer.getheader("Allow"), body) == (405, "GET, HEAD", b"there are GET and HEAD\n")


def test_it_does_not_say_what_it_runs_on(port: int) -> None:
    for method, path in (("GET", "/healthz"), ("POST", "/"), ("GET", "/" + "x" * 70_000)):
        answer, _ = ask(port, method, path)
        assert answer.getheader("Server") == "zwoole"


@pytest.mark.parametrize(
    ("line", "logged"),
    [
        (b"GET /healthz?token=SECRET HTTP/1.1", "GET /healthz: 404"),
        (b"GET /healthz#SECRET HTTP/1.1", "GET /healthz: 404"),
        (b"POST /healthz?token=SECRET HTTP/1.1", "POST /healthz: 405"),
        (b"GET /healthz?token=SECRET b HTTP/1.1", "- (malformed): 400"),
        (b"GET /healthz ?token=SECRET", "- (malformed): 400"),
    ],
)
def test_requests_are_logged_without_their_query(
    port: int, log: pytest.LogCaptureFixture, line: bytes, logged: str
) -> None:
    log.set_level(logging.DEBUG, "zwoole")
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        client.sendall(line + b"\r\nAuthorization: Bearer sesame\r\n\r\n")
        assert b"".join(iter(lambda: client.recv(4096), b""))
    assert logged in log.messages
    assert "SECRET" not in log.text
    assert "sesame" not in log.text


def test_head_needs_the_token_too(port: int) -> None:
    answer, body = ask(port, "HEAD", "/metrics", "sesam")
    assert (answer.status, body) == (401, b"")


def test_readiness_is_said_in_words(port: int, readiness: list[tuple[bool, str]]) -> None:
    answer, body = ask(port, "GET", "/readyz")
    assert (answer.status, body) == (200, b"ready\n")
    readiness[0] = (False, "not ready: worker 0: starting")
    answer, body = ask(port, "GET", "/readyz")
    assert (answer.status, body) == (503, b"not ready: worker 0: starting\n")


@pytest.mark.parametrize("sent", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nX: "], ids=["silent", "slow", "slower"])
def test_clients_that_send_nothing_keep_nobody_out(port: int, sent: bytes) -> None:
    idle = [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for _ in range(2 * MAX_CONNECTIONS)]
    for client in idle:
        try:
            client.sendall(sent)
        except OSError:  # it was the oldest, and is closed already
            pass
    for _ in range(3):
        assert ask(port, "GET", "/healthz")[0].status == 200
    open_ones = [client for client in idle if not is_closed(client)]
    assert len(open_ones) <= MAX_CONNECTIONS
    for client in idle:
        client.close()


def is_closed(client: socket.socket) -> bool:
    """Return whether the other side has closed."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_an_oldest_client_is_closed_when_there_are_too_many(port: int) -> None:
    first = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    others = [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for _ in range(MAX_CONNECTIONS)]
    wait_for(lambda: is_closed(first), "the oldest to be closed")
    assert not any(is_closed(client) for client in others)
    for client in (first, *others):
        client.close()


@pytest.mark.parametrize("host", ["\u00e9" * 70, "a\0b"])
def test_a_host_that_can_be_no_name_is_said(tmp_path: Path, host: str) -> None:
    with pytest.raises(StartError) as caught:
        AdminListener((host, 1), "secret", tmp_path, lambda: (True, ""))
    assert str(caught.value) == f"cannot listen on {host!r} (admin_port): no host has such a name"
