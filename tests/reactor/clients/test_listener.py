"""Accepting connections: how many, from which addresses, and without free descriptors."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.reactor.reactor_parts import Reactor
from zwoole.reactor.clients import listener
from zwoole.reactor.clients.access_log import AccessLog
from zwoole.reactor.clients.listener import ACCEPTS_PER_TURN, PAUSE_S, Listener
from zwoole.reactor.core.registry import Registry
from zwoole.shared.process.syscalls import accept


class Accept:
    """The system call, which fails on request."""

    def __init__(self) -> None:
        self.errors: list[int] = []
        self.calls = 0

    def __call__(self, descriptor: int) -> tuple[int, str, int]:
        self.calls += 1
        return (-self.errors.pop(0), "", 0) if self.errors else accept(descriptor)


class Rig:
    """A reactor with a listener, and the clients that connected."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.accept = Accept()
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.listener = Listener(
            [self.socket],
            reactor.loop,
            reactor.registry,
            reactor.opening,
            reactor.settings.accept_rate,
            reactor.settings.max_connection_per_ip,
        )
        self.listener.start()
        self.clients: list[socket.socket] = []

    def connect(self, count: int = 1, source: str = "127.0.0.1") -> None:
        for _ in range(count):
            address = self.socket.getsockname()
            self.clients.append(socket.create_connection(address, source_address=(source, 0)))

    def close(self) -> None:
        self.listener.close()
        for client in self.clients:
            client.close()
        if self.listener._spare is not None:
            os.close(self.listener._spare)


def limited(**settings: Any) -> Iterator[Rig]:
    with Reactor(**settings) as reactor:
        rig = Rig(reactor)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(listener, "accept", rig.accept)
            yield rig
        rig.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    yield from limited()


def test_an_accepted_socket_becomes_a_connection_with_its_address(rig: Rig) -> None:
    rig.connect()
    rig.reactor.turn()
    (connection,) = rig.reactor.registry
    assert (connection.remote_addr, connection.remote_port) == rig.clients[0].getsockname()
    assert not os.get_blocking(connection.descriptor)
    with socket.socket(fileno=os.dup(connection.descriptor)) as ours:
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert rig.listener.accepted == 1


def test_a_turn_accepts_so_many_and_the_next_goes_on(rig: Rig) -> None:
    rig.connect(ACCEPTS_PER_TURN + 5)
    rig.reactor.turn(1)
    assert rig.listener.accepted == ACCEPTS_PER_TURN
    rig.reactor.turn(1)
    assert rig.listener.accepted == ACCEPTS_PER_TURN + 5


def test_while_it_is_stopped_the_kernel_keeps_what_arrives(rig: Rig) -> None:
    rig.listener.stop()
    rig.listener.stop()
    rig.connect()
    rig.reactor.turn()
    assert rig.listener.accepted == 0
    rig.listener.start()
    rig.listener.start()
    rig.reactor.turn()
    assert rig.listener.accepted == 1


def test_out_of_descriptors_a_waiting_client_is_dropped_with_the_spare_one(rig: Rig) -> None:
    rig.connect(3)
    rig.accept.errors = [errno.EMFILE]
    rig.reactor.turn()
    assert rig.listener.accepted == 2
    assert rig.clients[0].recv(1) == b""


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_with_no_descriptor_at_all_accepting_rests_and_does_not_spin(
    rig: Rig, log: pytest.LogCaptureFixture, number: int
) -> None:
    rig.connect()
    rig.accept.errors = [number] * 2  # also for the spare descriptor
    rig.reactor.turn()
    assert rig.accept.calls == 2
    rig.reactor.turn(20)
    assert rig.accept.calls == 2
    assert rig.reactor.sleeps()
    assert rig.listener.accepted == 0
    rig.reactor.pass_time(PAUSE_S + 0.01)
    assert rig.listener.accepted == 1
    assert len(log.records) == 1


def test_the_kernels_other_errors_make_accepting_rest(rig: Rig, log: pytest.LogCaptureFixture) -> None:
    rig.connect()
    rig.accept.errors = [errno.ENOBUFS]
    rig.reactor.turn(5)
    assert (rig.accept.calls, rig.listener.accepted) == (1, 0)
    rig.reactor.pass_time(PAUSE_S + 0.01)
    assert rig.listener.accepted == 1


def test_a_client_that_went_before_it_was_accepted_is_nothing(rig: Rig, log: pytest.LogCaptureFixture) -> None:
    rig.connect()
    rig.accept.errors = [errno.ECONNABORTED, errno.EINTR, errno.EAGAIN]
    rig.reactor.turn(4)
    assert rig.listener.accepted == 1
    assert log.records == []


def test_a_rest_ends_with_the_listener(rig: Rig, log: pytest.LogCaptureFixture) -> None:
    rig.connect()
    rig.accept.errors = [errno.ENOBUFS]
    rig.reactor.turn()
    rig.listener.stop()
    rig.reactor.pass_time(PAUSE_S + 0.5)
    assert rig.listener.accepted == 0


def test_past_max_connection_clients_are_turned_away_until_one_goes() -> None:
    with Reactor() as reactor:
        table = reactor.new_table(3)
        registry = Registry(table, 0, 1)
        connections = [registry.add(100 + i, "192.0.2.1", 1) for i in range(3)]
        assert registry.full
        registry.forget_socket(connections[0])
        assert registry.full  # its place is still taken
        registry.remove(connections[0])
        assert not registry.full
    with Reactor() as reactor:
        rig = Rig(reactor)
        rig.connect(reactor.table.limit + 2)
        reactor.turn(8)
        assert (len(reactor.registry), reactor.opening.refused) == (reactor.table.limit, {503: 2})
        for client in rig.clients[-2:]:
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: " in answer
            assert client.recv(1) == b""
        rig.clients[0].close()
        reactor.turn()
        rig.connect()
        reactor.turn()
        assert (len(reactor.registry), reactor.opening.refused) == (reactor.table.limit, {503: 2})
        rig.close()


@pytest.fixture
def two_each() -> Iterator[Rig]:
    yield from limited(max_connection_per_ip=2)


def test_past_its_share_an_address_is_turned_away_with_429_until_one_of_its_clients_goes(two_each: Rig) -> None:
    rig = two_each
    rig.connect(3)
    rig.connect(1, "127.0.0.2")
    rig.reactor.turn()
    assert (len(rig.reactor.registry), rig.reactor.opening.refused) == (3, {429: 1})
    answer = rig.clients[2].recv(4096)
    assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: " in answer
    assert rig.clients[2].recv(1) == b""
    rig.clients[0].close()
    rig.reactor.turn()
    rig.connect(2)
    rig.reactor.turn()
    assert (len(rig.reactor.registry), rig.reactor.opening.refused) == (3, {429: 2})


def test_a_client_that_is_turned_away_is_logged(two_each: Rig, log: pytest.LogCaptureFixture) -> None:
    two_each.connect(3)
    two_each.reactor.turn()
    port = two_each.clients[2].getsockname()[1]
    assert [record.getMessage() for record in log.records] == [
        f"refused 127.0.0.1:{port}: 429, 'there are too many connections from your address' (path '')"
    ]


def test_the_access_log_tells_of_a_refusal_in_the_place_of_the_log(
    two_each: Rig, log: pytest.LogCaptureFixture
) -> None:
    two_each.reactor.life.refused.clear()
    AccessLog(two_each.reactor.life)
    two_each.connect(3)
    two_each.reactor.turn()
    port = two_each.clients[2].getsockname()[1]
    assert [(record.name, record.getMessage()) for record in log.records] == [
        ("zwoole.access", f"refuse 127.0.0.1:{port} status=429 '' 'there are too many connections from your address'")
    ]


def test_an_answer_to_head_has_no_body_either(two_each: Rig) -> None:
    two_each.connect(3)
    two_each.clients[2].sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    two_each.reactor.turn()
    received = b""
    while data := two_each.clients[2].recv(4096):
        received += data
    assert received.startswith(b"HTTP/1.1 429 ")
    assert received.endswith(b"\r\n\r\n")


def test_addresses_without_a_connection_are_forgotten(two_each: Rig) -> None:
    registry = two_each.reactor.registry
    two_each.connect(2)
    two_each.connect(1, "127.0.0.2")
    two_each.reactor.turn()
    assert (registry.count_from("127.0.0.1"), registry.count_from("127.0.0.2")) == (2, 1)
    for client in two_each.clients:
        client.close()
    two_each.reactor.turn()
    assert len(registry) == 0
    assert (registry.count_from("127.0.0.1"), registry.count_from("127.0.0.2")) == (0, 0)


def test_a_client_that_is_turned_away_with_its_request_sent_gets_the_answer_and_no_reset(two_each: Rig) -> None:
    two_each.connect(3)
    two_each.clients[2].sendall(b"GET / HTTP/1.1\r\n" + b"x" * 10_000)
    two_each.reactor.turn()
    received = b""
    while data := two_each.clients[2].recv(4096):
        received += data
    assert received.startswith(b"HTTP/1.1 429 ")


@pytest.fixture
def slow() -> Iterator[Rig]:
    yield from limited(accept_rate=20)


def test_over_the_rate_clients_wait_in_the_kernel_and_are_accepted_in_time(slow: Rig) -> None:
    slow.connect(65)
    slow.reactor.turn(20)
    assert slow.listener.accepted == 20
    assert slow.reactor.sleeps()
    for seconds in range(1, 3):
        slow.reactor.pass_time(1.0)
        assert 20 * seconds + 15 <= slow.listener.accepted <= 20 * seconds + 21
    slow.reactor.pass_time(0.5)
    assert slow.listener.accepted == 65
    assert slow.listener.rests > 2
    assert slow.reactor.opening.refused == {}
