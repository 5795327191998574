"""From a worker's batch to the connections' queues."""

from __future__ import annotations

from collections.abc import Iterator

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.client_frames import HEAD, client_frame
from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.clients.opening import Routes
from zwoole.reactor.core.connection_stages import STAGE_CLOSING, STAGE_GONE, STAGE_OPEN
from zwoole.reactor.core.output import LARGE
from zwoole.reactor.core.worker_link import WorkerLink
from zwoole.reactor.sending.outbound import BATCHES_PER_TURN, EVENTS_PER_TURN, unpack_end
from zwoole.shared.websocket.frames import build_frame
from zwoole.shared.wire.batches import BatchReader, WireError
from zwoole.shared.wire.events import (
    ACK,
    BROADCAST,
    BUFFER_FULL,
    DISCONNECT,
    EVENTS,
    FAIL,
    HELLO,
    MESSAGE,
    PING,
    PROTOCOL_VERSION,
    PUSH,
    REFUSE,
    SYNC,
    UP,
)

MIB = 1 << 20


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with Reactor(socket_buffer_size=300_000, up_window_bytes=4096) as reactor:
        yield reactor


def send(reactor: Reactor, worker: Worker) -> None:
    worker.send()
    reactor.turn()


def test_pushes_leave_as_frames_in_order(reactor: Reactor, worker: Worker, client: Client) -> None:
    fd = client.connection.fd
    worker.writer.add_text(PUSH, fd, b"text")
    worker.writer.add_bytes(PUSH, fd, b"bytes")
    worker.writer.add_text(PUSH, fd, b"x" * 100_000)
    worker.writer.add_bytes(PUSH, fd, b"")
    send(reactor, worker)
    assert client.read() == b"".join(
        (build_frame(1, b"text"), build_frame(2, b"bytes"), build_frame(1, b"x" * 100_000), build_frame(2, b""))
    )
    assert (reactor.outbound.messages, reactor.outbound.bytes) == (4, 100_009)


def test_a_broadcast_reaches_every_established_connection(reactor: Reactor, worker: Worker, client: Client) -> None:
    other, closing, handshaking = reactor.open_client(), reactor.open_client(), reactor.client()
    reactor.closing.server_close(closing.connection, 1000, "")
    worker.writer.add_text(BROADCAST, 0, b"all")
    send(reactor, worker)
    assert client.read() == other.read() == build_frame(1, b"all")
    assert closing.read() == b"\x88\x02\x03\xe8"
    assert handshaking.read() == b""
    assert reactor.outbound.messages == 2


@pytest.mark.parametrize("fd", [0, 2, 77, (1 << 53) - 1, (1 << 64) - 1])
def test_pushes_to_nobody_are_counted_and_dropped(reactor: Reactor, worker: Worker, client: Client, fd: int) -> None:
    worker.writer.add_text(PUSH, fd, b"a")
    worker.writer.add_bytes(DISCONNECT, fd, msgpack.packb([1000, ""]))
    worker.writer.add_text(PUSH, client.connection.fd, b"b")
    send(reactor, worker)
    assert client.read() == build_frame(1, b"b")
    assert reactor.outbound.dropped == 1
    assert reactor.wire_errors == []


def test_a_push_cannot_reach_the_next_client_on_the_same_descriptor(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    gone = client.connection.fd
    descriptor = client.connection.descriptor
    client.leave()
    following = reactor.open_client(descriptor)
    assert following.connection.descriptor == descriptor
    worker.writer.add_text(PUSH, gone, b"a")
    send(reactor, worker)
    assert following.read() == b""


def test_a_push_during_a_handshake_is_dropped(reactor: Reactor, worker: Worker) -> None:
    client = reactor.client()
    worker.writer.add_text(PUSH, client.connection.fd, b"a")
    send(reactor, worker)
    assert client.read() == b""
    assert reactor.outbound.dropped == 1


def test_a_client_that_is_gone_when_a_payload_is_sent_from_the_ring_ends(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    assert worker.link.memory is not None
    worker.writer.ring = worker.link.memory.up
    for data in (b"a" * LARGE, b"b" * LARGE):
        worker.writer.add_bytes(PUSH, client.connection.fd, data)
    client.socket.close()
    send(reactor, worker)
    assert client.connection.close_code == 1006
    assert reactor.outbound.dropped == 2


@pytest.mark.parametrize("kind", [DISCONNECT, FAIL])
def test_a_disconnect_leaves_behind_what_was_pushed_before_it(
    reactor: Reactor, worker: Worker, client: Client, kind: int
) -> None:
    fd = client.connection.fd
    worker.writer.add_text(PUSH, fd, b"before")
    worker.writer.add_bytes(kind, fd, msgpack.packb([4000, "why"]))
    worker.writer.add_text(PUSH, fd, b"behind")
    worker.writer.add_bytes(kind, fd, msgpack.packb([4001, "again"]))
    send(reactor, worker)
    assert client.read() == build_frame(1, b"before") + build_frame(8, b"\x0f\xa0why")
    assert client.connection.stage == STAGE_CLOSING
    assert reactor.outbound.dropped == 1


@pytest.mark.parametrize("kind", [PUSH, BROADCAST])
def test_over_its_limit_a_connection_is_closed_with_1013_and_the_others_are_not(
    reactor: Reactor, worker: Worker, client: Client, kind: int
) -> None:
    other = reactor.open_client()
    client.connection.output.queue(b"x" * 299_000)
    worker.writer.add_bytes(kind, client.connection.fd, b"y" * 2000)
    send(reactor, worker)
    assert client.connection.close_code == 1013
    assert other.connection.stage == STAGE_OPEN
    assert other.read() == (build_frame(2, b"y" * 2000) if kind == BROADCAST else b"")


@pytest.mark.parametrize("policy", ["close", "drop_newest", "drop_oldest"])
def test_a_message_that_no_queue_could_hold_is_told_to_the_log(policy: str, log: pytest.LogCaptureFixture) -> None:
    with Reactor(socket_buffer_size=1000, slow_reader=policy) as reactor:
        worker = reactor.worker()
        client = reactor.open_client()
        worker.writer.add_bytes(PUSH, client.connection.fd, b"y" * 2000)
        send(reactor, worker)
        ends = "the connection is closed" if policy == "close" else "it is dropped"
        fd = client.connection.fd
        assert f"fd {fd}: a message of 2000 bytes is larger than socket_buffer_size (1000): {ends}" in log.text
        reason = b"\x03\xf5a message is larger than the server's output queue"
        assert client.read() == (build_frame(8, reason) if policy == "close" else b"")


def test_a_ping_leaves_in_its_turn_and_is_no_message(reactor: Reactor, worker: Worker, client: Client) -> None:
    fd = client.connection.fd
    worker.writer.add_text(PUSH, fd, b"before")
    worker.writer.add_bytes(PING, fd, b"p" * 125)
    worker.writer.add_bytes(PING, fd, b"")
    send(reactor, worker)
    assert client.read() == build_frame(1, b"before") + build_frame(9, b"p" * 125) + build_frame(9, b"")
    assert reactor.outbound.messages == 1


def test_a_ping_to_one_who_is_gone_or_closing_is_dropped(reactor: Reactor, worker: Worker, client: Client) -> None:
    reactor.closing.server_close(client.connection, 1000, "")
    for fd in (client.connection.fd, 99):
        worker.writer.add_bytes(PING, fd, b"")
    send(reactor, worker)
    assert client.read() == b"\x88\x02\x03\xe8"
    assert reactor.outbound.dropped == 2


def test_pings_to_a_client_that_does_not_read_are_bounded(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.connection.output.queue(b"x" * 299_990)
    worker.writer.add_bytes(PING, client.connection.fd, b"p" * 125)
    send(reactor, worker)
    assert client.connection.close_code == 1013


def test_an_acknowledgement_lets_the_next_messages_go_down(reactor: Reactor, worker: Worker) -> None:
    with Reactor(connection_window_events=2) as reactor:
        worker = reactor.worker()
        client = reactor.open_client()
        client.send(b"".join(client_frame(2, b"%d" % i) for i in range(6)))
        assert len(worker.take()) == 2
        worker.writer.add_integer(ACK, 0, 2)
        worker.send()
        reactor.turn(1)
        assert worker.has_batch()  # sent in the same turn
        assert [event.body for event in worker.take()] == [b"1", b"2"]


def test_credit_returns_by_itself_when_a_quarter_of_the_window_is_used_up(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    window = worker.link.window
    for size, returned in ((500, False), (600, True), (900, False), (200, True)):
        worker.writer.add_bytes(PUSH, client.connection.fd, b"x" * size)
        send(reactor, worker)
        batches = [parts] if (parts := worker.next_batch()) else []
        assert bool(batches) is returned
        for parts in batches:
            batch = BatchReader(parts)
            assert batch.credit == worker.link.received
            assert not batch.next(), "it takes no place in the ring, where a callback that pushes on would fill it"
    assert window.places == 0


def test_credit_that_is_asked_for_returns_however_little_behind_word_of_a_full_buffer(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    client.connection.handler = True
    worker.writer.add_bytes(PUSH, client.connection.fd, b"x" * 290_000)
    worker.writer.add(SYNC, 0)
    worker.send()
    reactor.loop.turn()
    batches = [BatchReader(parts) for _ in range(2) if reactor.loop.turn() or (parts := worker.next_batch())]
    assert [batch.credit for batch in batches] == [worker.link.received]
    assert batches[0].next()
    assert batches[0].kind == BUFFER_FULL
    assert not worker.link.owes_credit()


def test_credit_travels_with_what_goes_down_anyway(reactor: Reactor, worker: Worker, client: Client) -> None:
    worker.writer.add_bytes(PUSH, client.connection.fd, b"x" * 900)
    send(reactor, worker)
    assert not worker.has_batch()
    client.send(client_frame(1, b"a"))
    parts = worker.next_batch()
    assert parts
    batch = BatchReader(parts)
    assert batch.credit == worker.link.received > 900
    assert batch.next()
    assert batch.kind == MESSAGE


def test_a_turn_takes_so_many_batches_and_the_next_takes_the_rest(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    reactor.turn()
    for _ in range(3 * BATCHES_PER_TURN):
        worker.writer.add_text(PUSH, client.connection.fd, b"a")
        worker.send()
    reactor.turn(1)
    assert 0 < reactor.outbound.messages < 3 * BATCHES_PER_TURN
    reactor.turn(3)
    assert reactor.outbound.messages == 3 * BATCHES_PER_TURN


@pytest.mark.parametrize("kind", [PUSH, BROADCAST])
def test_a_batch_of_many_events_takes_several_turns_in_which_others_are_served(
    reactor: Reactor, worker: Worker, client: Client, kind: int
) -> None:
    """No event is skipped or repeated, and the acknowledgement and the credit come only at its end."""
    other = reactor.open_client()
    other.send(client_frame(1, b"go"))
    (_, message) = worker.take()
    first, count = reactor.outbound.messages, 5 * EVENTS_PER_TURN // 2
    for number in range(count):
        worker.writer.add_text(kind, client.connection.fd, b"%d" % number)
    worker.writer.add_integer(ACK, message.sequence, 1)
    worker.writer.add(SYNC, 0)
    worker.send()
    turns = 0
    received = b""
    batches = worker.link.batches
    while worker.link.batches == batches or worker.link.unfinished is not None:
        client.socket.sendall(ping := client_frame(9, b"%d" % turns))
        reactor.turn(1)
        turns += 1
        received += client.socket.recv(MIB)
        pong = build_frame(10, b"%d" % (turns - 1))
        assert received.count(pong) == 1, f"{ping!r} is answered in the turn in which it came"
        received = received.replace(pong, b"")
        if worker.link.unfinished is not None:
            assert worker.link.settled < worker.link.received
            assert worker.link.window.places == 2
    assert turns > 2
    reactor.turn()
    received += client.read()
    assert received == b"".join(build_frame(1, b"%d" % number) for number in range(count))
    assert reactor.outbound.messages - first == count * (2 if kind == BROADCAST else 1)
    assert worker.link.window.places == 1
    assert worker.link.settled == worker.link.received
    assert reactor.wire_errors == []


def test_what_follows_a_batch_of_many_events_waits_for_it(reactor: Reactor, worker: Worker, client: Client) -> None:
    texts = [b"%d" % number for number in range(2 * EVENTS_PER_TURN)]
    for text in texts:
        worker.writer.add_text(PUSH, client.connection.fd, text)
    worker.send()
    worker.writer.add_text(PUSH, client.connection.fd, b"last")
    worker.send()
    received = b""
    while not received.endswith(build_frame(1, b"last")):
        reactor.turn(1)
        received += client.read()
    assert received == b"".join(build_frame(1, text) for text in [*texts, b"last"])


def test_a_link_that_is_closed_in_the_middle_of_a_batch_is_not_gone_on_with(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    for _ in range(9 * EVENTS_PER_TURN):
        worker.writer.add_text(PUSH, client.connection.fd, b"a")
    worker.send()
    reactor.turn(1)
    assert worker.link.unfinished is not None
    reactor.loop.remove_link(worker.link)
    worker.link.close()
    before = reactor.outbound.messages
    reactor.turn(3)
    assert reactor.outbound.messages == before
    assert worker.link.unfinished is None


def test_a_command_is_carried_out_by_the_part_that_has_registered_it_and_unknown_ones_are_logged(
    reactor: Reactor, worker: Worker, log: pytest.LogCaptureFixture
) -> None:
    carried_out: list[tuple[WorkerLink, int, bytes]] = []
    reactor.commands.register(99, lambda link, event: carried_out.append((link, event.number, event.data())))
    worker.writer.add_bytes(99, 1, b"body")
    worker.writer.add(120, 7)
    worker.writer.add(99, 2)
    send(reactor, worker)
    assert carried_out == [(worker.link, 1, b"body"), (worker.link, 2, b"")]
    assert log.messages.count("worker 0 sent an event of unknown kind 120") == 1
    assert reactor.wire_errors == []


def wrong_events() -> list[tuple[str, int, int, object]]:
    return [
        ("acknowledgement of nothing", ACK, 50, 1),
        ("acknowledgement of too many", ACK, 0, 1 << 40),
        ("acknowledgement without a count", ACK, 0, None),
        ("acknowledgement with bytes", ACK, 0, b"a"),
        ("push without a payload", PUSH, 1, None),
        ("push of a number", PUSH, 1, 5),
        ("broadcast without a payload", BROADCAST, 0, None),
        ("ping without a payload", PING, 1, None),
        ("ping with a payload too long", PING, 1, b"p" * 126),
        ("disconnect of nothing", DISCONNECT, 1, b""),
        ("disconnect with a code that may not be sent", DISCONNECT, 1, msgpack.packb([70_000, ""])),
        ("disconnect with a code of another kind", FAIL, 1, msgpack.packb(["1000", ""])),
        ("disconnect with a reason of another kind", FAIL, 1, msgpack.packb([1000, b"\xff"])),
        ("disconnect with too much", FAIL, 1, msgpack.packb([1000, "", 1])),
    ]


@pytest.mark.parametrize(
    ("kind", "number", "body"), [e[1:] for e in wrong_events()], ids=[e[0] for e in wrong_events()]
)
def test_what_no_worker_sends_is_an_error_of_that_worker(
    reactor: Reactor, worker: Worker, client: Client, kind: int, number: int, body: object
) -> None:
    client.send_message(b"unfinished")
    worker.take()
    worker.writer.add_integer(99, 0, 1)  # an event before it, whose count differs from its own
    if isinstance(body, bytes):
        worker.writer.add_bytes(kind, number, body)
    elif isinstance(body, int):
        worker.writer.add_integer(kind, number, body)
    else:
        worker.writer.add(kind, number)
    send(reactor, worker)
    assert len(reactor.wire_errors) == 1


def test_a_lost_batch_is_noticed(reactor: Reactor, worker: Worker) -> None:
    worker.batches = 2
    worker.writer.add(HELLO, 0)
    send(reactor, worker)
    (error,) = reactor.wire_errors
    assert "batch 2" in error


def test_an_end_is_a_code_and_a_reason() -> None:
    assert unpack_end(msgpack.packb([4321, "why"])) == (4321, "why")
    for wrong in (b"", b"\xc1", b"\x92\x01", msgpack.packb(5), msgpack.packb({1: 2}), msgpack.packb([1005, ""])):
        with pytest.raises(WireError):
            unpack_end(wrong)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\xff" * 3, msgpack.packb([1]), msgpack.packb({"callbacks": True}), msgpack.packb({"handlers": 1})],
)
def test_a_worker_whose_hello_is_malformed_is_killed_and_the_master_goes_on(
    reactor: Reactor, client: Client, body: bytes
) -> None:
    strange = reactor.worker(ready=False)
    strange.writer.add_bytes(HELLO, PROTOCOL_VERSION, body)
    send(reactor, strange)
    assert reactor.wire_errors == ["a hello that does not say what the app serves"]
    assert client.connection.stage == STAGE_OPEN


def test_a_worker_that_says_hello_twice_is_killed(reactor: Reactor, worker: Worker) -> None:
    body = msgpack.packb({"callbacks": True, "handlers": [], "handshake": False})
    for _ in range(2):
        worker.writer.add_bytes(HELLO, PROTOCOL_VERSION, body)
    send(reactor, worker)
    assert reactor.wire_errors == ["a second hello"]
    assert not worker.link.retiring


UP_KINDS = [event.kind for event in EVENTS if event.direction == UP]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=3),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=2), values, max_size=3),
)
HELLOS = st.fixed_dictionaries({"callbacks": VALUES, "handlers": VALUES, "handshake": VALUES})
HEADERS = st.lists(st.tuples(st.text(max_size=2), st.text(max_size=2)), max_size=2) | VALUES
ANSWERS = st.tuples(VALUES, HEADERS) | st.tuples(st.integers(0, 600) | st.floats(), st.text(max_size=2), HEADERS)
ENDS = st.tuples(st.sampled_from([1000, 4000]), st.text(max_size=200))
BODIES = (
    st.binary(max_size=130)
    | (VALUES | HELLOS | ANSWERS | ENDS).map(msgpack.packb)
    | st.none()
    | st.integers(0, (1 << 64) - 1)
)


@settings(max_examples=200)
@example([(REFUSE, 2, msgpack.packb([float("inf"), "", []]))], True)
@given(
    st.lists(st.tuples(st.sampled_from(UP_KINDS), st.integers(0, 4) | st.integers(0, (1 << 64) - 1), BODIES)),
    st.booleans(),
)
def test_whatever_a_worker_sends_the_master_goes_on(
    events: list[tuple[int, int, bytes | int | None]], ready: bool
) -> None:
    with Reactor(worker_num=2, websocket_compression=True) as reactor:
        reactor.worker(1)
        strange = reactor.worker(0, ready)
        reactor.opening.routes = Routes(callbacks=True, asks=True)
        other = reactor.open_client()
        asking = reactor.client()
        asking.send(HEAD)
        strange.take()
        for kind, number, body in events:
            if body is None:
                strange.writer.add(kind, number)
            elif isinstance(body, int):
                strange.writer.add_integer(kind, number, body)
            else:
                strange.writer.add_bytes(kind, number, body)
        strange.send()
        reactor.turn(4)
        assert len(reactor.wire_errors) <= 1
        assert other.connection.stage != STAGE_GONE
