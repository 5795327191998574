"""What the end of a worker does to its connections, in difficult cases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reactor.delivery_parts import Actor, ConnectionModel
from tests.reactor.reactor_parts import Client, Reactor
from zwoole.reactor.core import turn_slices
from zwoole.reactor.core.connection_stages import STAGE_OPEN
from zwoole.shared.websocket.frames import build_frame
from zwoole.shared.wire.events import ACK, ADOPT, CLOSE, MESSAGE, OPEN


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor(worker_num=2, ping_interval=0.0, adopt_timeout=1.0) as reactor:
        yield reactor


@pytest.fixture
def models() -> dict[int, ConnectionModel]:
    return {}


def actor_at(reactor: Reactor, place: int, models: dict[int, ConnectionModel]) -> Actor:
    actor = Actor(reactor, reactor.router.workers[place], models)
    actor.hello()
    reactor.handover.activate(actor.link)
    return actor


def client_of(reactor: Reactor, models: dict[int, ConnectionModel], *actors: Actor) -> Client:
    client = reactor.open_client()
    models[client.connection.fd] = ConnectionModel(client.connection.handler)
    for actor in actors:
        actor.take()
    return client


def begin_handler(actor: Actor, client: Client) -> None:
    """Let a handler serve a client; it has received the open event."""
    client.connection.handler = True
    actor.link.handlers += 1
    actor.begin(client.connection.fd)
    actor.finish(client.connection.fd)


def kinds_told(actor: Actor) -> list[int]:
    return [event.kind for event in actor.worker.take()]


def test_an_end_is_told_to_nobody_where_nobody_had_heard_of_the_open(
    reactor: Reactor, models: dict[int, ConnectionModel]
) -> None:
    """The client leaves while its open event waits in a worker that dies before it starts anything."""
    first = actor_at(reactor, 0, models)
    client = client_of(reactor, models, first)
    client.send_close()
    reactor.pass_time(4.0)
    assert [event.kind for event in first.worker.take()] == [CLOSE], "after three seconds it is told of the end"
    first.die()
    assert kinds_told(actor_at(reactor, 0, models)) == []


def test_a_connection_that_is_closing_is_not_handed_over_unopened(
    reactor: Reactor, models: dict[int, ConnectionModel]
) -> None:
    first = actor_at(reactor, 0, models)
    client = client_of(reactor, models, first)
    reactor.closing.server_close(client.connection, 4000, "")
    first.die()
    second = actor_at(reactor, 0, models)
    assert kinds_told(second) == []
    client.send_close()
    assert kinds_told(second) == []
    assert reactor.router.workers[0].connections == 0


def test_an_end_that_a_given_up_place_was_to_hear_is_told_to_another(
    reactor: Reactor, models: dict[int, ConnectionModel]
) -> None:
    stays, goes = actor_at(reactor, 0, models), actor_at(reactor, 1, models)
    clients = [client_of(reactor, models, stays, goes) for _ in range(2)]
    (fd,) = goes.idle_lanes()
    client = next(client for client in clients if client.connection.fd == fd)
    goes.run_next(fd)
    client.send_message(b"unfinished")
    goes.take()
    client.send_close()
    reactor.pass_time(4.0)
    reactor.handover.give_up(reactor.router.workers.pop())
    goes.die()
    assert (CLOSE, fd) in [(event.kind, event.fd) for event in stays.worker.take()]


def test_a_handler_whose_worker_died_is_not_handed_over_though_its_place_is_given_up_meanwhile(
    reactor: Reactor, models: dict[int, ConnectionModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker id is abandoned before all of its connections had their turn."""
    monkeypatch.setattr(turn_slices, "SLICE", 1)
    stays = actor_at(reactor, 0, models)
    reactor.router.workers[0].connections += 100  # so that all go to the other worker id
    goes = actor_at(reactor, 1, models)
    clients = [client_of(reactor, models, stays, goes) for _ in range(5)]
    for client in clients:
        begin_handler(goes, client)
    goes.flush()
    reactor.turn()
    goes.die()
    reactor.handover.give_up(reactor.router.workers.pop())
    reactor.turn(20)
    assert ADOPT not in [event.kind for event in stays.worker.take()]
    assert [client.read() for client in clients] == [
        build_frame(8, b"\x03\xf4the server process was restarted") for _ in clients
    ]


def test_a_worker_that_comes_while_its_place_is_given_to_others_adopts_what_is_left_once(
    reactor: Reactor, models: dict[int, ConnectionModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_slices, "SLICE", 1)
    other = actor_at(reactor, 0, models)
    reactor.router.workers[0].connections += 100
    first = actor_at(reactor, 1, models)
    clients = [client_of(reactor, models, other, first) for _ in range(6)]
    first.run_next(*(client.connection.fd for client in clients))
    reactor.turn()
    first.die()
    reactor.turn(20)
    reactor.time.now += 2.0
    reactor.turn(1)
    assert reactor.handover.look_after()
    reactor.turn(2)
    second = actor_at(reactor, 1, models)
    reactor.turn(20)
    adopted = {actor: [event.fd for event in actor.worker.take() if event.kind == ADOPT] for actor in (other, second)}
    assert all(adopted.values()), "some went before the worker came"
    assert sorted([*adopted[other], *adopted[second]]) == sorted(client.connection.fd for client in clients)
    assert reactor.router.workers[1].connections == len(adopted[second])
    assert second.link.connections == len(adopted[second])


def test_a_client_of_a_worker_that_has_never_had_a_process_goes_to_another_in_time(
    reactor: Reactor, models: dict[int, ConnectionModel]
) -> None:
    first = actor_at(reactor, 0, models)
    for _ in range(3):
        client_of(reactor, models, first)
    first.die()
    client = client_of(reactor, models)
    assert client.connection.worker is reactor.router.workers[1], "it has the fewest connections, and no process either"
    second = actor_at(reactor, 0, models)
    second.take()
    reactor.pass_time(1.5)
    reactor.handover.look_after()
    reactor.turn(20)
    assert client.connection.worker is reactor.router.workers[0]
    second.worker.take()
    assert client.connection.fd in [event.fd for event in second.worker.received if event.kind == OPEN]


def test_a_worker_that_is_the_last_one_keeps_its_clients(
    reactor: Reactor, models: dict[int, ConnectionModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are given up while they get its connections."""
    monkeypatch.setattr(turn_slices, "SLICE", 1)
    first = actor_at(reactor, 0, models)
    clients = [client_of(reactor, models, first) for _ in range(5)]
    second = actor_at(reactor, 1, models)
    first.die()
    reactor.turn(20)
    reactor.time.now += 2.0
    reactor.turn(1)
    reactor.handover.look_after()
    reactor.turn(1)
    reactor.handover.give_up(reactor.router.workers.pop())
    second.die()
    reactor.turn(20)
    assert {client.connection.worker for client in clients} == {reactor.router.workers[0]}
    successor = actor_at(reactor, 0, models)
    reactor.turn(20)
    assert kinds_told(successor) == [OPEN] * 5


def test_a_retiring_worker_that_dies_before_all_its_connections_had_their_turn_has_failed_callbacks(
    reactor: Reactor, models: dict[int, ConnectionModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_slices, "SLICE", 1)
    first = actor_at(reactor, 0, models)
    clients = [client_of(reactor, models, first) for _ in range(4)]
    for client in clients:
        first.begin(client.connection.fd)
    actor_at(reactor, 0, models)
    first.die()
    reactor.turn(20)
    assert [client.connection.close_code for client in clients] == [1011] * 4


def test_an_end_is_told_to_another_worker_if_no_process_comes(
    reactor: Reactor, models: dict[int, ConnectionModel]
) -> None:
    """Also if this was the last connection of the worker that has no process."""
    first = actor_at(reactor, 0, models)
    client = client_of(reactor, models, first)
    fd = client.connection.fd
    first.run_next(fd)
    reactor.turn()
    first.die()
    client.send_close()
    client.leave()
    second = actor_at(reactor, 1, models)
    reactor.pass_time(1.5)
    assert reactor.handover.look_after()
    reactor.turn(5)
    assert (CLOSE, fd) in [(event.kind, event.fd) for event in second.worker.take()]


def test_a_retiring_worker_is_told_which_connections_others_have(
    reactor: Reactor, models: dict[int, ConnectionModel]
) -> None:
    old = actor_at(reactor, 0, models)
    idle, busy, leaving = (client_of(reactor, models, old) for _ in range(3))
    old.run_next(*(client.connection.fd for client in (idle, busy, leaving)))
    models[busy.connection.fd].accepted.append("message")
    busy.send_message(b"message")
    old.take()
    new = actor_at(reactor, 0, models)
    leaving.send_close()
    old.take()
    assert old.heard == {busy.connection.fd}
    old.run_next(busy.connection.fd)
    reactor.turn()
    old.take()
    assert old.drained
    assert old.heard == set()
    new.take()
    assert new.heard == {idle.connection.fd, busy.connection.fd}
    assert [event.kind for event in new.lanes[leaving.connection.fd]] == [CLOSE]


def test_a_retiring_worker_may_die_before_it_is_told_which_connections_others_have(
    reactor: Reactor, models: dict[int, ConnectionModel]
) -> None:
    """In one turn: its successor gets its connections, and its death is seen. MOVED has nobody to go to."""
    old = actor_at(reactor, 0, models)
    idle, busy = (client_of(reactor, models, old) for _ in range(2))
    old.run_next(idle.connection.fd, busy.connection.fd)
    models[busy.connection.fd].accepted.append("message")
    busy.send_message(b"message")
    old.take()
    new = actor_at(reactor, 0, models)
    old.die()
    reactor.turn()
    new.take()
    assert new.heard == {idle.connection.fd, busy.connection.fd}


def test_where_no_worker_is_left_those_that_wait_are_sent_away_and_the_others_stay(
    reactor: Reactor, models: dict[int, ConnectionModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_slices, "SLICE", 1)
    actors = [actor_at(reactor, place, models) for place in range(2)]
    clients = [client_of(reactor, models, *actors) for _ in range(6)]
    for actor in actors:
        actor.run_next(*actor.idle_lanes())
    reactor.turn()
    for actor in actors:
        actor.die()
    reactor.turn(20)
    for client in clients[:4]:
        client.send_message(b"waits")
    for _ in range(70):
        reactor.pass_time(0.5)
        reactor.handover.look_after()
    reactor.turn(20)
    assert [client.connection.stage == STAGE_OPEN for client in clients] == [False] * 4 + [True] * 2
    assert clients[0].read() == build_frame(8, b"\x03\xf5the server has no worker now")


def test_adopt_comes_before_what_had_not_begun(reactor: Reactor, models: dict[int, ConnectionModel]) -> None:
    first = actor_at(reactor, 0, models)
    client = client_of(reactor, models, first)
    fd = client.connection.fd
    first.run_next(fd)
    client.send_message(b"waits")
    first.take()
    first.die()
    assert kinds_told(actor_at(reactor, 0, models))[0] == ADOPT
    assert OPEN not in [event.kind for event in reactor.workers[-1].received]


def test_a_message_goes_to_two_replacements_and_no_further(
    reactor: Reactor, models: dict[int, ConnectionModel]
) -> None:
    """It may be the message that kills them."""
    worker = actor_at(reactor, 0, models)
    client = client_of(reactor, models, worker)
    worker.run_next(client.connection.fd)
    client.send_message(b"waits")
    for _ in range(3):
        assert MESSAGE in kinds_told(worker)
        assert client.connection.stage == STAGE_OPEN
        worker.die()
        worker = actor_at(reactor, 0, models)
    assert MESSAGE not in kinds_told(worker)
    assert client.read() == build_frame(8, b"\x03\xf3the server process died")


def test_the_log_says_how_many_connections_a_death_closes(
    reactor: Reactor, models: dict[int, ConnectionModel], log: pytest.LogCaptureFixture
) -> None:
    first = actor_at(reactor, 0, models)
    clients = [client_of(reactor, models, first) for _ in range(5)]
    for client in clients[:2]:
        client.connection.handler = True
        first.link.handlers += 1
    for client in clients:
        first.begin(client.connection.fd)
        if client is not clients[4]:
            first.finish(client.connection.fd)
    first.flush()
    reactor.turn()
    first.die()
    reactor.turn(20)
    ended = f"worker 0 (pid {first.link.pid}) has ended: "
    assert [record.getMessage() for record in log.records if "has ended" in record.getMessage()] == [
        f"{ended}closing 2 connection(s) of handlers with 1012, 1 other(s) with 1011"
    ]
    log.clear()
    actor_at(reactor, 0, models).die()
    assert "has ended" not in log.text


def test_a_handler_that_keeps_a_message_does_not_keep_its_worker_when_its_client_has_left(
    reactor: Reactor, models: dict[int, ConnectionModel]
) -> None:
    before = actor_at(reactor, 0, models)
    client = client_of(reactor, models, before)
    fd = client.connection.fd
    begin_handler(before, client)
    before.flush()
    client.send_message(b"kept")
    actor_at(reactor, 0, models)
    reactor.turn()
    before.take()
    assert not before.drained, "its client is there"
    client.send_close()
    reactor.pass_time(4.0)
    before.take()
    kept, close = before.lanes[fd]
    assert (kept.kind, close.kind) == (MESSAGE, CLOSE)
    before.worker.writer.add_integer(ACK, close.sequence, 1)
    before.flush()
    reactor.turn()
    before.take()
    assert before.drained


def test_the_connections_of_handlers_are_closed_one_after_the_other(
    reactor: Reactor, models: dict[int, ConnectionModel]
) -> None:
    """Spread evenly over `handover_timeout`, so that their clients do not all reconnect at once."""
    before = actor_at(reactor, 0, models)
    clients = [client_of(reactor, models, before) for _ in range(4)]
    for client in clients:
        begin_handler(before, client)
    before.flush()
    reactor.turn()
    actor_at(reactor, 0, models)
    left = []
    for part in range(1, 5):
        reactor.pass_time(reactor.settings.handover_timeout / 4 - (0.2 if part == 1 else 0.0))
        left.append(sum(client.connection.stage == STAGE_OPEN for client in clients))
    reactor.pass_time(1.0)
    assert left == [4, 3, 2, 1]
    assert [client.connection.close_code for client in clients] == 4 * [1012]
