"""The load tester against real servers that answer rightly, and wrongly in one way each."""

import asyncio
import json
import queue
import random
import socket
import threading
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from click.testing import CliRunner
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.utils import accept_key

from zwoole.bench.handshake import Target, open_connections
from zwoole.bench.histogram import bucket_limit, merge, percentile_ns
from zwoole.bench.load import LoadError, main, run_load
from zwoole.bench.loadclient import LoadClient
from zwoole.bench.loadcore import HISTOGRAM_BUCKETS, Content, bucket, clock_ns
from zwoole.bench.loadprocess import Plan

NEVER_NS = 1 << 62
CONNECTIONS = 3
MESSAGES = 20
DEADLINE_S = 10

Handler = Callable[[ServerConnection], Awaitable[None]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


# Servers, each on an event loop in a thread of its own.


@contextmanager
def in_thread(server: Callable[[], AbstractAsyncContextManager[int]]) -> Iterator[Target]:
    """Run a server, given as a context manager that yields its port."""
    started: queue.Queue[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def run() -> None:
        stop = asyncio.Event()
        async with server() as port:
            started.put((port, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    port, loop, stop = started.get(timeout=DEADLINE_S)
    try:
        yield Target("127.0.0.1", port, "/")
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def websocket_server(
    handler: Handler, process_request: Callable[[ServerConnection, Request], Response | None] | None = None
) -> AbstractContextManager[Target]:
    @asynccontextmanager
    async def server() -> AsyncIterator[int]:
        async with serve(
            handler,
            "127.0.0.1",
            0,
            compression=None,
            ping_interval=None,
            max_size=2**21,
            process_request=process_request,
        ) as running:
            yield next(iter(running.sockets)).getsockname()[1]

    return in_thread(server)


def raw_server(handler: RawHandler) -> AbstractContextManager[Target]:
    @asynccontextmanager
    async def server() -> AsyncIterator[int]:
        async with await asyncio.start_server(handler, "127.0.0.1", 0) as running:
            yield running.sockets[0].getsockname()[1]

    return in_thread(server)


def echo_but(number: int, answer: Callable[[ServerConnection, str | bytes], Awaitable[None]]) -> Handler:
    """Return a handler that echoes, but lets ``answer`` handle the message of that number."""

    async def handler(connection: ServerConnection) -> None:
        seen = 0
        try:
            async for message in connection:
                if seen == number:
                    await answer(connection, message)
                else:
                    await connection.send(message)
                seen += 1
        except ConnectionClosed:
            pass

    return handler


def upgrading_only(greeting: bytes = b"") -> RawHandler:
    """Return a handler that answers the upgrade, with a greeting in the same write, and nothing after it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = request.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        response = f"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
        writer.write(response.encode() + greeting)
        await reader.read()
        writer.close()

    return handler


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def load(
    target: Target, *, size: int = 64, depth: int = 4, binary: bool = False, messages: int = MESSAGES
) -> LoadClient:
    """Run ``messages`` on each of CONNECTIONS connections."""
    opened = open_connections(target, CONNECTIONS)
    assert not opened.errors
    client = LoadClient(opened.sockets, Content(size, binary), depth, patience_s=0.5)
    client.run(clock_ns(), NEVER_NS, messages)
    client.close()
    return client


# Right replies.


@pytest.mark.parametrize("depth", [1, 4, 5, 100])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 64, 125, 126, 65535, 65536])
def test_right_replies_are_all_counted(size: int, depth: int) -> None:
    with websocket_server(echo) as target:
        client = load(target, size=size, depth=depth)
    assert client.errors == {}
    assert client.tally.messages == sum(client.tally.latencies) == CONNECTIONS * MESSAGES


def test_binary_messages_longer_than_the_socket_buffers() -> None:
    with websocket_server(echo) as target:
        client = load(target, size=2**20, depth=4, binary=True, messages=4)
    assert client.errors == {}
    assert client.tally.messages == CONNECTIONS * 4


def test_only_the_window_is_counted_and_timed() -> None:
    with websocket_server(echo) as target:
        client = LoadClient(open_connections(target, 2).sockets, Content(64), 2)
        start_ns = clock_ns()
        client.run(start_ns + 100_000_000, start_ns + 200_000_000)
        client.close()
    assert client.errors == {}
    assert 0 < client.tally.messages == sum(client.tally.latencies)
    assert client.tally.last_reply_ns >= start_ns + 200_000_000


def test_latency_is_the_time_from_write_to_read() -> None:
    async def slow_echo(connection: ServerConnection) -> None:
        async for message in connection:
            await asyncio.sleep(0.05)
            await connection.send(message)

    with websocket_server(slow_echo) as target:
        client = load(target, depth=1, messages=3)
    assert 50e6 <= percentile_ns(client.tally.latencies, 0.01) <= 1e9


def test_pings_are_answered() -> None:
    async def ping_first(connection: ServerConnection, message: str | bytes) -> None:
        await (await connection.ping(b"there?"))
        await connection.send(message)

    with websocket_server(echo_but(5, ping_first)) as target:
        client = load(target)
    assert client.errors == {}
    assert client.tally.messages == CONNECTIONS * MESSAGES


# Wrong replies: each server does one thing wrong, once on each connection.


@pytest.mark.parametrize("depth", [2, 4])
def test_a_reply_out_of_order(depth: int) -> None:
    async def swap(connection: ServerConnection, message: str | bytes) -> None:
        await connection.send(await connection.recv())
        await connection.send(message)

    with websocket_server(echo_but(5, swap)) as target:
        client = load(target, depth=depth)
    assert client.errors == {"order": CONNECTIONS}
    assert client.tally.messages == CONNECTIONS * (MESSAGES - 1)


@pytest.mark.parametrize("size", [16, 17, 64, 1000])
@pytest.mark.parametrize("place", [0, -1])
def test_wrong_content(size: int, place: int) -> None:
    async def change(connection: ServerConnection, message: str | bytes) -> None:
        assert isinstance(message, str)
        letters = list(message)
        letters[place] = "!"
        await connection.send("".join(letters))

    with websocket_server(echo_but(5, change)) as target:
        client = load(target, size=size)
    assert client.errors == {"content": CONNECTIONS}
    assert client.tally.messages == CONNECTIONS * (MESSAGES - 1)


def test_content_of_another_connection() -> None:
    waiting: list[tuple[ServerConnection, str | bytes]] = []

    async def exchange(connection: ServerConnection, message: str | bytes) -> None:
        waiting.append((connection, message))
        if len(waiting) == CONNECTIONS:
            for (here, _), (_, there) in zip(waiting, waiting[1:] + waiting[:1], strict=True):
                await here.send(there)

    with websocket_server(echo_but(MESSAGES - 1, exchange)) as target:
        client = load(target)
    assert client.errors == {"content": CONNECTIONS}


@pytest.mark.parametrize("depth", [1, 4])
def test_a_dropped_reply(depth: int) -> None:
    async def drop(connection: ServerConnection, message: str | bytes) -> None:
        pass

    with websocket_server(echo_but(MESSAGES - 1, drop)) as target:
        client = load(target, depth=depth)
    assert client.errors == {"missing": CONNECTIONS}
    assert client.tally.messages == CONNECTIONS * (MESSAGES - 1)


def test_a_reply_dropped_early_is_one_missing_and_the_rest_goes_on() -> None:
    async def drop(connection: ServerConnection, message: str | bytes) -> None:
        pass

    with websocket_server(echo_but(3, drop)) as target:
        client = load(target, depth=4)
    assert client.errors == {"missing": CONNECTIONS}
    assert client.tally.messages == CONNECTIONS * (MESSAGES - 1)


def test_a_reply_sent_twice() -> None:
    async def twice(connection: ServerConnection, message: str | bytes) -> None:
        await connection.send(message)
        await connection.send(message)

    with websocket_server(echo_but(5, twice)) as target:
        client = load(target)
    assert client.errors == {"unexpected": CONNECTIONS}
    assert client.tally.messages == CONNECTIONS * MESSAGES


@pytest.mark.parametrize(("size", "extra"), [(64, "!"), (64, "!" * 1000), (64, "!" * 500_000), (1000, "!")])
def test_a_reply_too_long(size: int, extra: str) -> None:
    async def lengthen(connection: ServerConnection, message: str | bytes) -> None:
        assert isinstance(message, str)
        await connection.send(message + extra)

    with websocket_server(echo_but(5, lengthen)) as target:
        client = load(target, size=size)
    assert client.errors == {"length": CONNECTIONS}
    assert client.tally.messages == CONNECTIONS * (MESSAGES - 1)


def test_a_reply_too_short() -> None:
    async def shorten(connection: ServerConnection, message: str | bytes) -> None:
        await connection.send(message[:-1])

    with websocket_server(echo_but(5, shorten)) as target:
        client = load(target)
    assert client.errors == {"length": CONNECTIONS}


def test_another_opcode() -> None:
    async def as_binary(connection: ServerConnection, message: str | bytes) -> None:
        assert isinstance(message, str)
        await connection.send(message.encode())

    with websocket_server(echo_but(5, as_binary)) as target:
        client = load(target)
    assert client.errors == {"opcode": CONNECTIONS}


@pytest.mark.parametrize(
    "header",
    [
        b"\x01\x40",  # not the final fragment
        b"\xc1\x40",  # a reserved bit
        b"\x81\x7e\x00\x40",  # a length in more bytes than it needs
        b"\x81\xc0\x00\x00\x00\x00",  # masked
    ],
)
def test_a_wrong_header(header: bytes) -> None:
    async def answer(connection: ServerConnection, message: str | bytes) -> None:
        assert isinstance(message, str)
        connection.transport.write(header + message.encode())

    with websocket_server(echo_but(5, answer)) as target:
        client = load(target)
    assert client.errors == {"header": CONNECTIONS}
    assert client.tally.messages == CONNECTIONS * (MESSAGES - 1)


def test_a_length_no_frame_may_have_ends_the_connection() -> None:
    async def answer(connection: ServerConnection, message: str | bytes) -> None:
        connection.transport.write(b"\x81\x7f" + b"\xff" * 8)

    with websocket_server(echo_but(MESSAGES - 1, answer)) as target:
        client = load(target, depth=1)
    assert client.errors == {"header": CONNECTIONS, "closed": CONNECTIONS}


def test_a_close_frame_in_the_middle() -> None:
    async def close(connection: ServerConnection, message: str | bytes) -> None:
        await connection.close(1011)

    with websocket_server(echo_but(5, close)) as target:
        client = load(target, depth=1)
    assert client.errors == {"closed": CONNECTIONS, "missing": CONNECTIONS}
    assert client.tally.messages == CONNECTIONS * 5


def test_a_connection_broken_off_in_the_middle() -> None:
    async def abort(connection: ServerConnection, message: str | bytes) -> None:
        connection.transport.abort()

    with websocket_server(echo_but(5, abort)) as target:
        client = load(target, depth=1)
    assert client.errors == {"closed": CONNECTIONS, "missing": CONNECTIONS}


def test_a_closing_handshake_that_is_not_answered() -> None:
    with raw_server(upgrading_only()) as target:
        client = LoadClient(open_connections(target, 2).sockets, Content(64), 1)
        client.close(timeout_s=0.2)
    assert client.errors == {"close": 2}


def test_a_frame_that_comes_with_the_response() -> None:
    with raw_server(upgrading_only(b"\x81\x05hello")) as target:
        client = LoadClient(open_connections(target, 2).sockets, Content(64), 1, patience_s=0.2)
        client.run(clock_ns(), NEVER_NS, 1)
        client.close(timeout_s=0.2)
    assert client.errors == {"unexpected": 2, "missing": 2, "close": 2}


# Connections that are not opened.


def answering(response: bytes) -> RawHandler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        await reader.read()
        writer.close()

    return handler


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
        opened = open_connections(target, 2, timeout_s=0.2 if kind == "timeout" else DEADLINE_S)
    assert opened.sockets == []
    assert opened.errors == {kind: 2}


def test_nobody_listens() -> None:
    opened = open_connections(closed_port(), 2)
    assert opened.errors == {"refused": 2}


def closed_port() -> Target:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Target("127.0.0.1", sock.getsockname()[1], "/")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://example.org", Target("example.org", 80, "/")),
        ("ws://127.0.0.1:8080/a/b?c=d", Target("127.0.0.1", 8080, "/a/b?c=d")),
        ("ws://[::1]:8080", Target("::1", 8080, "/")),
    ],
)
def test_urls(url: str, expected: Target) -> None:
    assert Target.from_url(url) == expected


@pytest.mark.parametrize(
    "url", ["http://h/", "wss://h/", "ws://", "h:80", "ws://h:port/", "ws://h:99999/", "ws://[::1"]
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ValueError, match="bad URL"):
        Target.from_url(url)


# Contents.


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("size", [0, 1, 8, 15, 16, 17, 24, 125, 126, 65535, 65536])
def test_frames_are_masked_and_recognised(size: int, binary: bool) -> None:
    content = Content(size, binary)
    keys = set()
    for number, sequence in [(0, 0), (0, 1), (7, 5), (2**24 - 1, 2**40 - 1)]:
        frame = bytearray(b"?" * (content.frame_bytes + 3))
        content.write_frame(frame, 3, number, sequence)
        header_bytes = content.frame_bytes - size - 4
        key = frame[3 + header_bytes : 3 + header_bytes + 4]
        payload = bytearray(byte ^ key[i & 3] for i, byte in enumerate(frame[3 + header_bytes + 4 :]))
        assert frame[:3] == b"???"
        assert frame[3] == (0x82 if binary else 0x81)
        assert frame[4] == 0x80 | (size if size < 126 else 126 if size < 65536 else 127)
        assert content.is_payload(payload, 0, number, sequence)
        assert content.is_payload(bytearray(b"??") + payload, 2, number, sequence)
        if size:
            assert not content.is_payload(payload, 0, number, sequence ^ 1)
        if size >= 16:
            assert not content.is_payload(payload, 0, number ^ 1, sequence)
        if not binary:
            assert payload.isascii()
        keys.add(bytes(key))
    assert len(keys) == 4
    assert bytes(4) not in keys


# Histograms.


def test_bucket_and_bucket_limit_agree() -> None:
    limits = [bucket_limit(index) for index in range(HISTOGRAM_BUCKETS)]
    assert limits == sorted(set(limits))
    for index, limit in enumerate(limits[:-1]):
        assert bucket(limit) == index
        assert bucket(limit + 1) == index + 1
    assert bucket(2**63) == HISTOGRAM_BUCKETS - 1


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6, 1e9])
@pytest.mark.parametrize("count", [1, 2, 10, 999, 1000, 20_000])
def test_percentiles_against_a_sorted_list(count: int, scale: float) -> None:
    chance = random.Random(count)
    values = sorted(int(chance.expovariate(1 / scale)) for _ in range(count))
    halves = [array("Q", bytes(8 * HISTOGRAM_BUCKETS)) for _ in range(2)]
    for number, value in enumerate(values):
        halves[number % 2][bucket(value)] += 1
    histogram = merge(halves)
    for per_mille in (0, 1, 500, 900, 990, 999, 1000):
        exact = values[max(0, -(-count * per_mille // 1000) - 1)]
        assert exact <= percentile_ns(histogram, per_mille / 1000) <= exact * (1 + 1 / 128)


def test_percentile_of_nothing() -> None:
    assert percentile_ns(array("Q", bytes(8 * HISTOGRAM_BUCKETS)), 0.5) == 0


# Several processes, and the command.


def test_processes_share_the_connections() -> None:
    with websocket_server(echo) as target:
        result = run_load(Plan(target, connections=5, processes=2, depth=3, messages=10))
    assert result.errors == {}
    assert result.connections == 5
    assert result.messages == 50
    assert result.rate == pytest.approx(50 / result.seconds)
    assert result.latency_us["p50"] <= result.latency_us["max"]


def test_the_meter_is_read_when_the_window_opens_and_closes() -> None:
    moments: list[int] = []

    def meter() -> float:
        moments.append(clock_ns())
        return float(len(moments))

    with websocket_server(echo) as target:
        result = run_load(Plan(target, connections=1, duration_s=0.2, warmup_s=0.1), meter)
    assert result.errors == {}
    assert result.messages > 0
    assert result.metered == 1
    assert moments[1] - moments[0] == pytest.approx(200e6, rel=0.5)


def test_no_connection_is_no_result() -> None:
    with pytest.raises(LoadError, match="cannot open a connection to ws://127"):
        run_load(Plan(closed_port(), connections=1))


def test_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    with websocket_server(echo) as target:
        outcome = CliRunner().invoke(main, [str(target), "-c", "2", "--messages", "5", "--json", str(file)])
    assert outcome.exit_code == 0, outcome.output
    assert "messages    10 in" in outcome.output
    assert json.loads(file.read_text())["result"]["messages"] == 10


def test_command_fails_for_a_wrong_reply() -> None:
    async def shorten(connection: ServerConnection, message: str | bytes) -> None:
        await connection.send(message[:-1])

    with websocket_server(echo_but(1, shorten)) as target:
        outcome = CliRunner().invoke(main, [str(target), "-c", "2", "--messages", "5"])
    assert outcome.exit_code == 1
    assert "ERROR       2 length:" in outcome.output


def test_command_says_in_one_line_why_there_is_no_result() -> None:
    def forbid(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.FORBIDDEN, "no\n")

    with websocket_server(echo, process_request=forbid) as target:
        for url, reason in [(str(target), "403"), (str(closed_port()), "refused|failed"), ("h:1", "bad URL")]:
            outcome = CliRunner().invoke(main, [url, "-c", "1"])
            assert outcome.exit_code == 1
            assert len(outcome.output.splitlines()) == 1
            assert any(word in outcome.output for word in reason.split("|")), outcome.output
