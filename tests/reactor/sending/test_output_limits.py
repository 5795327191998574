"""Queued output, for one client and for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client_frames import HEAD
from tests.reactor.reactor_parts import Client, Reactor
from zwoole.reactor.core.connection_stages import STAGE_GONE, STAGE_OPEN
from zwoole.shared.websocket.frames import build_frame
from zwoole.shared.wire.events import PUSH

MIB = 1 << 20


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor(output_total_bytes=6 * MIB, socket_buffer_size=3 * MIB) as reactor:
        reactor.worker()
        yield reactor


def push(reactor: Reactor, client: Client, size: int) -> None:
    (worker,) = reactor.workers
    worker.writer.add_bytes(PUSH, client.connection.fd, bytes(size))
    worker.send()
    reactor.turn()


def test_over_the_total_those_with_the_most_waiting_are_cut_off_until_a_tenth_is_free(
    reactor: Reactor, log: pytest.LogCaptureFixture
) -> None:
    clients = [reactor.open_client() for _ in range(4)]
    for client, size in zip(clients, (MIB, 2 * MIB, MIB // 2, MIB), strict=True):
        push(reactor, client, size)
    assert [client.connection.stage for client in clients] == [STAGE_OPEN] * 4
    assert reactor.output_limits.total == sum(client.connection.output.held() for client in clients) > 3 * MIB
    push(reactor, clients[2], MIB)
    assert [client.connection.stage for client in clients] == [STAGE_OPEN, STAGE_GONE, STAGE_OPEN, STAGE_OPEN]
    assert clients[1].connection.close_code == 1006
    assert reactor.output_limits.total == sum(client.connection.output.held() for client in clients) < 6 * MIB * 9 // 10
    assert reactor.output_limits.closed == 1
    assert len(log.records) == 1


def test_what_clients_read_is_taken_off_the_account(reactor: Reactor) -> None:
    client = reactor.open_client()
    push(reactor, client, 2 * MIB)
    assert reactor.output_limits.total > MIB
    client.read()
    assert reactor.output_limits.total == 0


SIZE = 100_000


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_where_the_policy_drops_what_arrives_are_whole_messages_in_order(policy: str) -> None:
    with Reactor(slow_reader=policy, socket_buffer_size=5 * SIZE) as reactor:
        worker = reactor.worker()
        client = reactor.client()
        client.send(HEAD)
        client.read()
        for number in range(20):
            worker.writer.add_bytes(PUSH, client.connection.fd, bytes([number]) * SIZE)
            worker.send()
            reactor.turn()
            assert client.connection.output.queued <= 5 * SIZE
        assert client.connection.stage == STAGE_OPEN
        received = client.read()
        frame = 10 + SIZE
        numbers = [received[at + 10] for at in range(0, len(received), frame)]
        assert received == b"".join(build_frame(2, bytes([number]) * SIZE) for number in numbers)
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 20 - reactor.output_limits.dropped < 20
        assert (numbers[-1] == 19) is (policy == "drop_oldest")


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_a_message_that_no_queue_could_hold_is_dropped_and_no_other(policy: str) -> None:
    with Reactor(slow_reader=policy, socket_buffer_size=5 * SIZE) as reactor:
        reactor.worker()
        client = reactor.open_client()
        client.connection.output.framed = policy == "drop_oldest"
        for number in range(4):
            client.connection.output.queue(build_frame(2, bytes([number]) * SIZE))
        queued = client.connection.output.queued
        assert not reactor.output_limits.admit(client.connection, 5 * SIZE + 1)
        assert client.connection.output.queued == queued
        assert reactor.output_limits.dropped == 1
