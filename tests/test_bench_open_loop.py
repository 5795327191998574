"""The open loop: messages leave when it is their time, and what a stall makes wait is in the latencies."""

from __future__ import annotations

import asyncio
import socket
import time
from array import array
from collections.abc import Iterator

import pytest
from websockets.asyncio.server import ServerConnection

from tests.bench_parts import Handler, Run, echo, websocket_server, window
from zwoole.bench import histogram
from zwoole.bench.content import Contents
from zwoole.bench.load import run_load
from zwoole.bench.loadcore import Connection, Stream, clock_ns, wait_readable
from zwoole.bench.pace import Pace
from zwoole.bench.plan import Plan
from zwoole.bench.tally import Tally

STALL_S = 0.4


def percentile_s(run: Run, percentile: float) -> float:
    latencies = histogram.empty()
    histogram.add_counts(latencies, array("Q", run.latencies))
    return float(latencies.get_value_at_percentile(percentile)) / 1e9


def stalling_echo(after_s: float) -> Handler:
    """Return an echo that stands still once, all of it, for STALL_S, so long after its first message."""
    stalled = False
    began = 0.0

    async def handler(connection: ServerConnection) -> None:
        nonlocal stalled, began
        async for message in connection:
            began = began or time.monotonic()
            if not stalled and time.monotonic() - began > after_s:
                stalled = True
                time.sleep(STALL_S)
            await connection.send(message)

    return handler


def test_the_rate_is_the_one_asked_for() -> None:
    with websocket_server(echo) as target:
        run = Run(Plan(target, connections=7, rate=400.0), window(duration_s=0.5))
    assert run.errors == {}
    assert run.messages + run.later == 200
    assert run.messages > 150


def test_a_stall_shows_in_the_percentiles() -> None:
    with websocket_server(stalling_echo(after_s=0.2)) as target:
        run = Run(Plan(target, connections=4, rate=200.0), window(duration_s=1.0))
    assert run.errors == {}
    # of the 200 messages 80 were due in the stall, one every 5 ms: the first waited for all of it, the last not at all
    assert percentile_s(run, 25) < STALL_S / 4
    assert percentile_s(run, 90) > STALL_S / 2
    assert percentile_s(run, 100) > STALL_S * 0.9


def test_a_closed_loop_hides_the_same_stall() -> None:
    with websocket_server(stalling_echo(after_s=0.2)) as target:
        run = Run(Plan(target, connections=4, depth=1), window(duration_s=1.0))
    assert run.errors == {}
    assert percentile_s(run, 90) < STALL_S / 4  # 4 slow messages of thousands
    assert percentile_s(run, 100) > STALL_S * 0.9


def test_what_was_due_at_the_end_is_waited_for() -> None:
    with websocket_server(stalling_echo(after_s=0.2)) as target:
        run = Run(Plan(target, connections=4, rate=200.0), window(duration_s=0.4))
    assert run.errors == {}
    assert run.client.tally.last_reply_ns - run.client.ended_ns > 0.1e9


def test_what_was_due_at_the_end_is_in_the_percentiles() -> None:
    with websocket_server(stalling_echo(after_s=0.3)) as target:
        result = run_load(Plan(target, connections=4, rate=200.0, duration_s=0.5, warmup_s=0.0))
    assert result.errors == {}
    assert result.messages < 90
    assert result.latency_us["p90"] > STALL_S * 1e6 * 0.5


def test_what_could_not_be_sent_in_time_is_sent_later() -> None:
    async def late(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await asyncio.sleep(0.7)
        connection.transport.resume_reading()
        await echo(connection)

    size = 2**20  # so that the socket buffers are soon full and nothing more can be sent
    with websocket_server(late) as target:
        run = Run(Plan(target, connections=1, size=size, rate=40.0), window(duration_s=0.5))
    assert run.errors == {}
    assert run.client.tally.last_reply_ns - run.client.ended_ns > 0.15e9


def test_what_never_comes_is_missing() -> None:
    async def silence(connection: ServerConnection) -> None:
        await connection.wait_closed()

    with websocket_server(silence) as target:
        run = Run(Plan(target, connections=3, rate=100.0, patience_s=0.2), window(duration_s=0.3))
    assert set(run.errors) == {"missing"}
    assert run.errors["missing"] == pytest.approx(30, abs=3)
    assert run.messages == 0


def test_a_server_that_takes_nothing_has_all_it_was_due_missing() -> None:
    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await asyncio.sleep(1.2)
        connection.transport.abort()

    size = 2**20  # so that the socket buffers are soon full and nothing more can be sent
    with websocket_server(deaf) as target:
        run = Run(Plan(target, connections=1, size=size, rate=100.0, patience_s=0.2), window(duration_s=0.5))
    assert run.errors["missing"] == pytest.approx(50, abs=3)


@pytest.fixture
def connections() -> Iterator[list[Connection]]:
    tally = Tally(Contents(((64, 1),)), 1, gap_ps=1)
    pairs = [socket.socketpair() for _ in range(3)]
    yield [Connection(tally, here, Stream(number)) for number, (here, _) in enumerate(pairs)]
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_connections_take_turns_on_one_schedule(connections: list[Connection]) -> None:
    pace = Pace(
        connections, first=2, turn=10, spacing_ps=5000, start_ns=1000, end_ns=1600
    )  # 2, 3 and 4 of ten, every 5 ns
    assert [connection.first_due_ns for connection in connections] == [1010, 1015, 1020]
    assert pace.next_due_ns == 1010
    assert pace.release(1009) == []
    assert pace.release(1016) == connections[:2]
    assert [connection.quota for connection in connections] == [1, 1, 0]
    assert pace.next_due_ns == 1020
    assert pace.release(1065) == [connections[2], connections[0], connections[1]]
    assert [connection.quota for connection in connections] == [2, 2, 1]
    connections[0].gone = True
    assert set(pace.release(1000 + 10 * 50)) == set(connections[1:])
    assert [connection.quota for connection in connections] == [2, 10, 10]
    pace.release(10**6)
    assert [connection.quota for connection in connections] == [2, 12, 12]  # of the 13th round the first would be 1610


def test_waiting_ends_in_time_or_when_something_comes() -> None:
    here, there = socket.socketpair()
    with here, there:
        began_ns = clock_ns()
        wait_readable(here.fileno(), 2_000_000)
        assert 2_000_000 <= clock_ns() - began_ns < 500_000_000
        there.send(b"!")
        began_ns = clock_ns()
        wait_readable(here.fileno(), 5_000_000_000)
        assert clock_ns() - began_ns < 500_000_000
