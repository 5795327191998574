"""Requests of the zwoole command to a master about its clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.reactor.reactor_parts import Client, Reactor
from zwoole.reactor.core import turn_slices
from zwoole.reactor.core.connection_stages import STAGE_CLOSING, STAGE_OPEN
from zwoole.shared.request import pack_request
from zwoole.shared.websocket.frames import build_frame


class Rig:
    """A reactor that is queried about its clients; each turn handles two of them."""

    def __init__(self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(turn_slices, "SLICE", 2)
        self.reactor = reactor
        self.answers: list[dict[str, Any]] = []

    def clients(self, count: int) -> list[Client]:
        clients = [self.reactor.open_client() for _ in range(count)]
        for client in clients:
            client.connection.record = pack_request(b"/a?b", [], "192.0.2.1", 40000, None)
        return clients

    def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        """Return the answer, which must be given once, after everything is done."""
        self.answers.clear()
        self.reactor.queries.answer({"what": what, **fields}, self.answers.append)
        self.reactor.turn(10)
        (answer,) = self.answers
        return answer


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with Reactor() as reactor:
        reactor.worker()
        yield Rig(reactor, monkeypatch)


def test_its_own_report(rig: Rig) -> None:
    report = rig.ask("status")
    assert (report["id"], report["connections"], report["workers"]) == (0, 0, [])


@pytest.mark.parametrize("limit", [0, 3, 100])
def test_the_oldest_connections_are_listed(rig: Rig, limit: int) -> None:
    clients = rig.clients(7)
    fds = [client.connection.fd for client in clients]
    clients[1].send_close()
    clients[1].leave()
    rig.clients(1)
    fds = [fd for fd in fds if fd != clients[1].connection.fd] + [fds[-1] + 1]
    answer = rig.ask("connections", limit=limit)
    assert answer["total"] == 7
    assert [listed["fd"] for listed in answer["connections"]] == fds[:limit]
    assert all((it["path"], it["state"], it["worker"]) == ("/a", "open", 0) for it in answer["connections"])


def test_all_are_sent_a_message_slice_by_slice(rig: Rig) -> None:
    clients = rig.clients(7)
    rig.reactor.queries.answer({"what": "push", "fd": None, "data": "hello"}, rig.answers.append)
    rig.reactor.turn(1)
    assert rig.answers == [], "not before all is done"
    rig.reactor.turn(5)
    assert rig.answers == [{"clients": 7}]
    assert [client.read() for client in clients] == [build_frame(1, b"hello")] * 7


def test_one_is_sent_a_message(rig: Rig) -> None:
    clients = rig.clients(2)
    assert rig.ask("push", fd=clients[1].connection.fd, data=b"hello") == {"clients": 1}
    assert [client.read() for client in clients] == [b"", build_frame(2, b"hello")]
    assert rig.ask("push", fd=12345, data="hello") == {"clients": 0}


def test_all_are_closed_slice_by_slice(rig: Rig) -> None:
    clients = rig.clients(7)
    assert rig.ask("kick", fd=None, code=4000, reason="enough") == {"clients": 7}
    assert {client.connection.stage for client in clients} == {STAGE_CLOSING}
    assert rig.ask("kick", fd=None, code=4000, reason="enough") == {"clients": 0}


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"what": "kick", "fd": None, "code": 1005, "reason": ""}, "1005 is no close code"),
        ({"what": "kick", "fd": None, "code": 4000, "reason": "x" * 124}, "a reason has at most 123 bytes"),
        ({"what": "kick", "fd": None}, "code"),
        ({"what": "dance"}, "unknown query 'dance'"),
    ],
)
def test_what_cannot_be_done_is_answered_with_an_error(rig: Rig, query: dict[str, Any], why: str) -> None:
    (client,) = rig.clients(1)
    assert why in rig.ask(**query)["error"]
    assert client.connection.stage == STAGE_OPEN
