"""Connections without messages, and connections that are opened and closed again."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import astuple

import pytest
from websockets.asyncio.server import ServerConnection

from tests.bench.bench_parts import (
    DEADLINE_S,
    Run,
    answering,
    closed_port,
    echo,
    raw_server,
    upgrading_only,
    websocket_server,
    window,
)
from zwoole.bench.loadtest import connect_mode
from zwoole.bench.loadtest.client import LoadClient, Window
from zwoole.bench.loadtest.connect_mode import ConnectClient, has_close_frame
from zwoole.bench.loadtest.connection import clock_ns
from zwoole.bench.loadtest.opener import Address, Dialer
from zwoole.bench.loadtest.plan import Plan, Target
from zwoole.bench.loadtest.tally import FOREVER_NS

CONNECTIONS = 5


def hold(target: Target, until: Callable[[LoadClient], bool]) -> Run:
    plan = Plan(target, mode="idle", connections=CONNECTIONS, insecure=True)
    return Run(plan, window(duration_s=3600), until)


def test_idle_connections_stay_open_and_are_counted() -> None:
    with websocket_server(echo) as target:
        begun_ns = clock_ns()
        run = hold(target, lambda _: clock_ns() - begun_ns > 200_000_000)
    assert run.errors == {}
    assert run.client.still_open == CONNECTIONS
    assert run.messages == 0


@pytest.mark.parametrize("secure", [False, True])
def test_pings_of_the_server_are_answered_and_its_messages_do_no_harm(secure: bool) -> None:
    pongs = 0

    async def talkative(connection: ServerConnection) -> None:
        nonlocal pongs
        await connection.send("welcome")
        await connection.send(b"x" * 100_000)
        await (await connection.ping())
        pongs += 1
        await connection.wait_closed()

    with websocket_server(talkative, secure) as target:
        run = hold(target, lambda _: pongs == CONNECTIONS)
    assert run.errors == {}
    assert run.client.still_open == pongs == CONNECTIONS


def test_connections_that_the_server_ends_are_told() -> None:
    seen = 0

    async def fickle(connection: ServerConnection) -> None:
        nonlocal seen
        seen += 1
        if seen > 2:
            await connection.wait_closed()

    with websocket_server(fickle) as target:
        run = hold(target, lambda client: client.connections == CONNECTIONS - 2)
    assert run.errors == {"closed": 2}
    assert run.client.still_open == CONNECTIONS - 2


class UntilCount(Window):
    """A window that closes after `count` connections, including failed ones."""

    def __init__(self, client: ConnectClient, count: int) -> None:
        super().__init__(*astuple(window()))
        object.__setattr__(self, "_is_over", lambda: client.tally.messages + client.errors.total() >= count)

    @property
    def closes_ns(self) -> int:
        return 0 if self._is_over() else FOREVER_NS


def connect(target: Target, count: int = 20, at_once: int = 3, **terms: bool) -> tuple[ConnectClient, int]:
    """Return the client after `count` connections, and how many of them it has counted."""
    plan = Plan(target, mode="connect", connections=at_once, **terms)  # type: ignore[arg-type]
    client = ConnectClient(Dialer(plan, Address(socket.AF_INET, (target.host, target.port)), DEADLINE_S), at_once, 0)
    client.run(UntilCount(client, count))
    client.close()
    return client, sum(messages for interval, messages, _, _ in client.tally.take_finished() if interval == 0)


@pytest.mark.parametrize("secure", [False, True])
def test_connections_come_and_go(secure: bool) -> None:
    entered: list[int] = []
    left: list[int] = []

    async def counting(connection: ServerConnection) -> None:
        entered.append(connection.remote_address[1])
        await connection.wait_closed()
        left.append(connection.close_code or 0)

    with websocket_server(counting, secure=secure) as target:
        client, counted = connect(target, insecure=secure)
    assert client.errors == {}
    assert 20 <= counted == len(entered)
    assert left == [1000] * len(entered)


def test_a_close_frame_that_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect_mode, "CLOSE_TIMEOUT_S", 0.1)

    with raw_server(upgrading_only()) as target:
        client, counted = connect(target, count=3)
    assert client.errors == {"goodbye": counted}
    assert client.first_error == "the server has not closed the connection"


def test_an_end_without_a_close_frame() -> None:
    with raw_server(upgrading_only(b"\x81\x02hi", after=lambda reader, _: reader.readexactly(8))) as target:
        client, _ = connect(target, count=3)
    assert set(client.errors) == {"goodbye"}
    assert client.first_error == "the server closed the connection without a close frame"


def test_a_server_that_refuses_or_is_gone_ends_the_run_early() -> None:
    client, counted = connect(closed_port(), count=1000)
    assert (counted, set(client.errors)) == (0, {"refused"})
    with raw_server(answering(b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n")) as target:
        client, counted = connect(target, count=1000)
    assert (counted, set(client.errors)) == (0, {"status"})
    assert client.first_error == "HTTP status 503 Full"


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (b"", False),
        (b"\x88\x00", True),
        (b"\x88\x02\x03\xe8", True),
        (b"\x81\x02hi", False),
        (b"\x81\x02hi\x89\x00\x88\x02\x03\xe8", True),
        (b"\x82\x7e\x00\x7f" + b"\x88" * 127, False),
        (b"\x82\x7e\x00\x7f" + b"\x88" * 127 + b"\x88\x00", True),
    ],
)
def test_close_frames_are_found_behind_others(received: bytes, expected: bool) -> None:
    assert has_close_frame(received) is expected
