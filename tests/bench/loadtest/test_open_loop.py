"""The open loop: messages leave on schedule, and the latencies include the time that messages wait during a stall.

Time is simulated: it advances when the client is idle, and while the server works.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from websockets.asyncio.server import ServerConnection

from tests.bench.bench_parts import websocket_server
from tests.bench.bench_simulation import MS, Run, Simulation
from zwoole.bench.loadtest.connection import Connection, Stream, clock_ns, wait_readable
from zwoole.bench.loadtest.content import Contents
from zwoole.bench.loadtest.pace import Pace
from zwoole.bench.loadtest.plan import Plan
from zwoole.bench.loadtest.run import run_load
from zwoole.bench.loadtest.tally import Tally

STALL_MS = 400
ALWAYS_MS = 10**9


def test_the_rate_is_the_one_asked_for() -> None:
    simulation = Simulation(7)
    run = Run(simulation, 500, rate=400.0)
    assert run.errors == {}
    assert (run.messages, run.later) == (200, 0)
    assert simulation.arrivals[:200] == [2_500_000 * number for number in range(200)]


def test_a_stall_shows_in_the_percentiles() -> None:
    run = Run(Simulation(4, stall_ms=(200, 200 + STALL_MS)), 1000, rate=200.0)
    assert run.errors == {}
    assert (run.messages, run.later) == (200, 0)
    # 80 of the 200 messages were due in the stall, one every 5 ms: the first waited for all of it, the last for 5 ms.
    assert run.percentile_ms(60) == 0
    assert run.percentile_ms(61) == pytest.approx(10, rel=0.01)
    assert run.percentile_ms(80) == pytest.approx(STALL_MS / 2, rel=0.01)
    assert run.percentile_ms(100) == pytest.approx(STALL_MS, rel=0.01)


def test_a_closed_loop_hides_the_same_stall() -> None:
    run = Run(Simulation(4, stall_ms=(200, 200 + STALL_MS), work_ns=MS), 1000, depth=1)
    assert run.errors == {}
    assert run.messages == pytest.approx(600, abs=4)  # one per ms in which the server did not stall
    assert run.percentile_ms(99) <= 4 * 1.01  # 4 slow messages of 600
    assert run.percentile_ms(100) >= STALL_MS


def test_what_was_due_at_the_end_is_waited_for() -> None:
    run = Run(Simulation(4, stall_ms=(200, 200 + STALL_MS)), 400, rate=200.0)
    assert run.errors == {}
    assert run.ended_ms == 400
    assert run.last_reply_ms == 200 + STALL_MS
    assert (run.messages, run.later) == (40, 40)
    assert run.percentile_ms(100) == pytest.approx(STALL_MS, rel=0.01)


def test_what_was_due_at_the_end_is_in_the_percentiles() -> None:
    due = 100
    seen = 0
    all_came = asyncio.Event()

    async def answers_when_all_is_over(connection: ServerConnection) -> None:
        nonlocal seen
        messages: list[str | bytes] = []
        async for message in connection:
            messages.append(message)
            seen += 1
            if len(messages) == due // 4:
                break
        if seen == due:
            all_came.set()
        await all_came.wait()
        await asyncio.sleep(0.1)  # the last one was due 5 ms before the window closed
        for message in messages:
            await connection.send(message)
        await connection.wait_closed()

    with websocket_server(answers_when_all_is_over) as target:
        result = run_load(Plan(target, connections=4, rate=200.0, duration_s=0.5, warmup_s=0.0, patience_s=60))
    assert result.errors == {}
    assert result.messages == 0
    assert result.latency_us["p50"] > 250e3  # due in the first half, answered after the second


def test_what_could_not_be_sent_in_time_is_sent_later() -> None:
    simulation = Simulation(1, stall_ms=(0, 700))
    run = Run(simulation, 500, rate=40.0, size=2**20)  # soon the buffers are full and nothing more can be sent
    assert run.errors == {}
    assert run.ended_ms == 500
    assert run.last_reply_ms >= 700
    assert (run.messages, run.later) == (0, 20)


def test_what_never_comes_is_missing() -> None:
    run = Run(Simulation(3, stall_ms=(0, ALWAYS_MS)), 300, rate=100.0, patience_s=0.2)
    assert run.errors == {"missing": 30, "close": 3}
    assert (run.messages, run.later) == (0, 0)
    assert run.ended_ms == 300


def test_a_server_that_takes_nothing_has_all_it_was_due_missing() -> None:
    run = Run(
        Simulation(1, stall_ms=(0, ALWAYS_MS)), 500, rate=100.0, size=2**20, patience_s=0.2
    )  # soon the buffers are full
    assert run.errors == {"missing": 50, "close": 1}


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
        wait_readable(here.fileno(), 2 * MS)
        assert clock_ns() - began_ns >= 2 * MS
        there.send(b"!")
        began_ns = clock_ns()
        wait_readable(here.fileno(), 60_000 * MS)
        assert clock_ns() - began_ns < 60_000 * MS
