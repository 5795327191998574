"""Echo mode against real servers that answer correctly, or wrongly in one way each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from tests.bench import bench_simulation
from tests.bench.bench_parts import Run, echo, echo_but, open_to, raw_server, upgrading_only, websocket_server, window
from tests.bench.bench_simulation import MS, NOWHERE, Simulation
from zwoole.bench.loadtest.client import LoadClient
from zwoole.bench.loadtest.plan import Plan, Target

CONNECTIONS = 3
MESSAGES = 20


def load(target: Target, right: int = 0, **terms: Any) -> Run:
    """Run MESSAGES on each of CONNECTIONS connections; stop waiting after ``right`` correct replies."""
    given = {"connections": CONNECTIONS, "messages": MESSAGES, "depth": 4, "patience_s": 60, **terms}
    return Run(Plan(target, **given), until=lambda client: bool(right) and client.tally.messages >= right)


# Correct replies.


@pytest.mark.parametrize("depth", [1, 4, 5, 100])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 64, 125, 126, 65535, 65536])
def test_right_replies_are_all_counted(size: int, depth: int) -> None:
    with websocket_server(echo) as target:
        run = load(target, size=size, depth=depth)
    assert run.errors == {}
    assert run.messages == sum(run.latencies) == CONNECTIONS * MESSAGES
    assert run.payload_bytes == run.messages * size


def test_a_mix_of_sizes_has_its_shares() -> None:
    with websocket_server(echo) as target:
        run = load(target, size=((64, 3), (1000, 1)), messages=400)
    assert run.errors == {}
    assert run.messages == CONNECTIONS * 400
    assert run.payload_bytes / run.messages == pytest.approx(64 * 0.75 + 1000 * 0.25, rel=0.1)


def test_binary_messages_longer_than_the_socket_buffers() -> None:
    with websocket_server(echo) as target:
        run = load(target, size=2**20, binary=True, messages=4)
    assert run.errors == {}
    assert run.messages == CONNECTIONS * 4


def test_only_the_window_is_counted_and_timed() -> None:
    simulation = Simulation(2, work_ns=MS)
    run = bench_simulation.Run(simulation, 100, opens_ms=50, depth=2)
    assert run.errors == {}
    assert run.messages == 100
    assert run.later == 1 + 2 * 2  # one that arrives at the very end, and those outstanding then
    assert (run.ended_ms, run.last_reply_ms) == (150, 154)


def test_latency_is_the_time_from_write_to_read() -> None:
    run = bench_simulation.Run(Simulation(1, work_ns=50 * MS), 1000, depth=1)
    assert [run.percentile_ms(of) for of in (0, 50, 100)] == pytest.approx([50, 50, 50], rel=0.01)
    run = bench_simulation.Run(Simulation(3, work_ns=50 * MS), 1000, depth=1)
    assert [run.percentile_ms(of) for of in (0, 50, 100)] == pytest.approx([50, 150, 150], rel=0.01)


def test_pings_are_answered() -> None:
    async def ping_first(connection: ServerConnection, message: str | bytes) -> None:
        await (await connection.ping(b"there?"))
        await connection.send(message)

    with websocket_server(echo_but(5, ping_first)) as target:
        run = load(target)
    assert run.errors == {}
    assert run.messages == CONNECTIONS * MESSAGES


@pytest.mark.parametrize("size", [64, 70_000])
@pytest.mark.parametrize("pieces", [[1], [0, 30], [1, 1, 60]])
def test_replies_in_fragments_are_right_replies(size: int, pieces: list[int]) -> None:
    async def split(connection: ServerConnection, message: str | bytes) -> None:
        assert isinstance(message, str)
        starts = [sum(pieces[:index]) for index in range(len(pieces) + 1)]
        parts = [message[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]

        async def later() -> Any:
            for part in parts:
                yield part
                await connection.ping()  # control frames may come between fragments

        await connection.send(later())

    with websocket_server(echo_but(5, split)) as target:
        run = load(target, size=size)
    assert run.errors == {}
    assert run.messages == CONNECTIONS * MESSAGES


@pytest.mark.parametrize("size", [0, 15, 64, 65536])
def test_tls(size: int) -> None:
    with websocket_server(echo, secure=True) as target:
        run = load(target, size=size, insecure=True)
    assert run.errors == {}
    assert run.messages == CONNECTIONS * MESSAGES


def test_a_wrong_reply_over_tls() -> None:
    async def shorten(connection: ServerConnection, message: str | bytes) -> None:
        await connection.send(message[:-1])

    with websocket_server(echo_but(5, shorten), secure=True) as target:
        run = load(target, insecure=True)
    assert run.errors == {"length": CONNECTIONS}
    assert run.messages == CONNECTIONS * (MESSAGES - 1)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("size", [0, 15, 64, 65536, ((64, 1), (5000, 1))])
def test_compression(size: Any, secure: bool) -> None:
    compressed: list[bool] = []

    async def noticing_echo(connection: ServerConnection) -> None:
        compressed.append(bool(connection.protocol.extensions))
        await echo(connection)

    with websocket_server(noticing_echo, secure=secure, compression="deflate") as target:
        run = load(target, size=size, compress=True, insecure=True)
    assert run.errors == {}
    assert run.messages == CONNECTIONS * MESSAGES
    assert compressed == [True] * CONNECTIONS


def test_compression_without_context() -> None:
    factory = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
    with websocket_server(echo, extensions=[factory]) as target:
        run = load(target, compress=True)
    assert run.errors == {}
    assert run.messages == CONNECTIONS * MESSAGES


# Wrong replies: each server makes one mistake, once per connection.


@pytest.mark.parametrize("size", [1, 64])
@pytest.mark.parametrize("depth", [2, 4])
def test_a_reply_out_of_order(depth: int, size: int) -> None:
    async def swap(connection: ServerConnection, message: str | bytes) -> None:
        await connection.send(await connection.recv())
        await connection.send(message)

    with websocket_server(echo_but(5, swap)) as target:
        run = load(target, depth=depth, size=size)
    assert run.errors == {"order": CONNECTIONS}
    assert run.messages == CONNECTIONS * (MESSAGES - 1)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("size", [16, 17, 64, 1000])
@pytest.mark.parametrize("place", [0, -1])
def test_wrong_content(size: int, place: int, compress: bool) -> None:
    async def change(connection: ServerConnection, message: str | bytes) -> None:
        assert isinstance(message, str)
        letters = list(message)
        letters[place] = "!"
        await connection.send("".join(letters))

    with websocket_server(echo_but(5, change), compression="deflate" if compress else None) as target:
        run = load(target, size=size, compress=compress)
    assert run.errors == {"content": CONNECTIONS}
    assert run.messages == CONNECTIONS * (MESSAGES - 1)


def test_content_of_another_connection() -> None:
    waiting: list[tuple[ServerConnection, str | bytes]] = []

    async def exchange(connection: ServerConnection, message: str | bytes) -> None:
        waiting.append((connection, message))
        if len(waiting) == CONNECTIONS:
            for (here, _), (_, there) in zip(waiting, waiting[1:] + waiting[:1], strict=True):
                await here.send(there)

    with websocket_server(echo_but(MESSAGES - 1, exchange)) as target:
        run = load(target)
    assert run.errors == {"content": CONNECTIONS}


async def drop(connection: ServerConnection, message: str | bytes) -> None:
    pass


@pytest.mark.parametrize("depth", [1, 4])
def test_a_dropped_reply(depth: int) -> None:
    with websocket_server(echo_but(MESSAGES - 1, drop)) as target:
        run = load(target, right=CONNECTIONS * (MESSAGES - 1), depth=depth)
    assert run.errors == {"missing": CONNECTIONS}
    assert run.messages == CONNECTIONS * (MESSAGES - 1)


def test_a_reply_dropped_early_is_one_missing_and_the_rest_goes_on() -> None:
    with websocket_server(echo_but(3, drop)) as target:
        run = load(target, right=CONNECTIONS * (MESSAGES - 1))
    assert run.errors == {"missing": CONNECTIONS}
    assert run.messages == CONNECTIONS * (MESSAGES - 1)


def test_a_reply_sent_twice() -> None:
    async def twice(connection: ServerConnection, message: str | bytes) -> None:
        await connection.send(message)
        await connection.send(message)

    with websocket_server(echo_but(5, twice)) as target:
        run = load(target)
    assert run.errors == {"unexpected": CONNECTIONS}
    assert run.messages == CONNECTIONS * MESSAGES


@pytest.mark.parametrize(("size", "extra"), [(64, "!"), (64, "!" * 1000), (64, "!" * 500_000), (1000, "!")])
def test_a_reply_too_long(size: int, extra: str) -> None:
    async def lengthen(connection: ServerConnection, message: str | bytes) -> None:
        assert isinstance(message, str)
        await connection.send(message + extra)

    with websocket_server(echo_but(5, lengthen)) as target:
        run = load(target, size=size)
    assert run.errors == {"length": CONNECTIONS}
    assert run.messages == CONNECTIONS * (MESSAGES - 1)


def test_a_reply_too_short() -> None:
    async def shorten(connection: ServerConnection, message: str | bytes) -> None:
        await connection.send(message[:-1])

    with websocket_server(echo_but(5, shorten)) as target:
        run = load(target)
    assert run.errors == {"length": CONNECTIONS}


def test_another_opcode() -> None:
    async def as_binary(connection: ServerConnection, message: str | bytes) -> None:
        assert isinstance(message, str)
        await connection.send(message.encode())

    with websocket_server(echo_but(5, as_binary)) as target:
        run = load(target)
    assert run.errors == {"opcode": CONNECTIONS}


def writing(frame: Callable[[bytes], bytes]) -> Callable[[ServerConnection, str | bytes], Any]:
    """Return an answer of raw bytes."""

    async def answer(connection: ServerConnection, message: str | bytes) -> None:
        assert isinstance(message, str)
        connection.transport.write(frame(message.encode()))

    return answer


@pytest.mark.parametrize(
    "header",
    [
        b"\x01\x40",  # a fragment, and the next frame starts another message
        b"\x80\x40",  # a continuation without a message
        b"\xc1\x40",  # a reserved bit, without compression agreed on
        b"\xa1\x40",  # another reserved bit
        b"\x83\x40",  # an unknown opcode
        b"\x81\x7e\x00\x40",  # a length not in its shortest form
        b"\x81\xc0\x00\x00\x00\x00",  # masked
        b"\x89\x7e\x00\x40",  # a ping with a length of 16 bits
    ],
)
def test_a_wrong_header(header: bytes) -> None:
    with websocket_server(echo_but(5, writing(lambda payload: header + payload))) as target:
        run = load(target)
    assert run.errors == {"header": CONNECTIONS}
    assert run.messages == CONNECTIONS * (MESSAGES - 1)


def test_a_reply_that_cannot_be_inflated() -> None:
    with websocket_server(
        echo_but(MESSAGES - 1, writing(lambda payload: b"\xc1\x40" + b"\xff" * 64)), compression="deflate"
    ) as target:
        run = load(target, compress=True)
    assert run.errors == {"deflate": CONNECTIONS}
    assert run.messages == CONNECTIONS * (MESSAGES - 1)


@pytest.mark.parametrize("secure", [False, True])
def test_what_tls_has_read_beyond_the_inbox_is_served(secure: bool) -> None:
    def behind_another(payload: bytes) -> bytes:
        return b"\x81\x7e\x27\x10" + b"x" * 10_000 + b"\x81\x40" + payload  # in one TLS record

    with websocket_server(echo_but(MESSAGES - 1, writing(behind_another)), secure) as target:
        run = load(target, depth=1, insecure=True)
    assert run.errors == {"length": CONNECTIONS, "unexpected": CONNECTIONS}


def test_a_length_no_frame_may_have_ends_the_connection() -> None:
    with websocket_server(echo_but(MESSAGES - 1, writing(lambda _: b"\x81\x7f" + b"\xff" * 8))) as target:
        run = load(target, depth=1)
    assert run.errors == {"header": CONNECTIONS, "closed": CONNECTIONS}


def test_a_close_frame_in_the_middle() -> None:
    async def close(connection: ServerConnection, message: str | bytes) -> None:
        await connection.close(1011)

    with websocket_server(echo_but(5, close)) as target:
        run = load(target, depth=1)
    assert run.errors == {"closed": CONNECTIONS, "missing": CONNECTIONS}
    assert run.messages == CONNECTIONS * 5


def test_a_connection_broken_off_in_the_middle() -> None:
    async def abort(connection: ServerConnection, message: str | bytes) -> None:
        connection.transport.abort()

    with websocket_server(echo_but(5, abort)) as target:
        run = load(target, depth=1)
    assert run.errors == {"closed": CONNECTIONS, "missing": CONNECTIONS}


def test_a_closing_handshake_that_is_not_answered() -> None:
    with raw_server(upgrading_only()) as target:
        client = LoadClient(plan := Plan(target, connections=2), open_to(plan).attempts)
        client.close(timeout_s=0.2)
    assert client.errors == {"close": 2}


def test_closing_takes_as_long_as_it_goes_on() -> None:
    simulation = Simulation(4, work_ns=300 * MS)
    client = LoadClient(Plan(NOWHERE, connections=4), [end.attempt for end in simulation.ends], clock=simulation)
    client.close(timeout_s=0.4)
    simulation.close()
    assert client.errors == {}
    assert simulation.arrivals == [0, 300 * MS, 600 * MS, 900 * MS]


def test_a_frame_that_comes_with_the_response() -> None:
    with raw_server(upgrading_only(b"\x81\x05hello")) as target:
        client = LoadClient(plan := Plan(target, connections=2, messages=1, patience_s=0.2), open_to(plan).attempts)
        client.run(window())
        client.close(timeout_s=0.2)
    assert client.errors == {"unexpected": 2, "missing": 2, "close": 2}
