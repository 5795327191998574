"""From a readable socket to messages that the router receives."""

from __future__ import annotations

import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client_frames import client_frame
from tests.reactor.reactor_parts import Client, Reactor, Worker
from zwoole.reactor.clients.inbound import READ_BYTES
from zwoole.reactor.core.connection_stages import STAGE_ENDING, STAGE_LINGERING, STAGE_OPEN
from zwoole.shared.websocket.deflate import TAIL, Inflater
from zwoole.shared.websocket.protocol import INFLATE_BYTES, Protocol
from zwoole.shared.wire.events import CLOSE, MESSAGE


def messages(worker: Worker) -> list[bytes | str]:
    return [event.body for event in worker.take() if event.kind == MESSAGE]


def test_messages_are_counted(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.send(client_frame(1, b"abc") + client_frame(2, b"") + client_frame(2, b"x" * 50_000))
    client.send(client_frame(1, b"in ", fin=False) + client_frame(9) + client_frame(0, b"pieces"))
    assert messages(worker) == ["abc", b"", b"x" * 50_000, "in pieces"]
    assert (reactor.inbound.messages, reactor.inbound.bytes) == (4, 50_012)


def test_a_turn_reads_one_buffer_of_a_connection(reactor: Reactor, worker: Worker, client: Client) -> None:
    frame = client_frame(2, b"x" * 30_000)
    client.socket.sendall(frame * 5)
    reactor.turn(1)
    assert reactor.inbound.messages == READ_BYTES // len(frame)
    reactor.turn(4)
    assert reactor.inbound.messages == 5


def test_what_one_client_sent_is_not_overwritten_by_the_next(reactor: Reactor, worker: Worker, client: Client) -> None:
    other = reactor.open_client()
    client.socket.sendall(client_frame(2, b"a" * 1000) + client_frame(2, b"b" * 1000)[:-1])
    other.socket.sendall(client_frame(2, b"c" * 1000) + client_frame(2, b"d" * 1000)[:-1])
    reactor.turn()
    client.send(client_frame(2, b"b" * 1000)[-1:])
    other.send(client_frame(2, b"d" * 1000)[-1:])
    received = [(event.fd, event.body) for event in worker.take() if event.kind == MESSAGE]
    a, b, c, d = (letter * 1000 for letter in (b"a", b"b", b"c", b"d"))
    first, second = client.connection.fd, other.connection.fd
    assert sorted(received) == [(first, a), (first, b), (second, c), (second, d)]


def test_pings_are_answered_in_order_and_pongs_are_not(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.send(client_frame(9, b"1") + client_frame(10, b"ignored") + client_frame(9, b"x" * 125))
    assert client.read() == b"\x8a\x011" + b"\x8a\x7d" + b"x" * 125
    assert messages(worker) == []


def test_a_client_that_pings_and_does_not_read_is_owed_only_the_latest_pong(
    reactor: Reactor, worker: Worker, client: Client
) -> None:
    client.connection.output.queue(bytes(2 << 20))
    reactor.loop.flush_later(client.connection)
    reactor.turn()
    queued = client.connection.output.queued
    for number in range(90):
        client.send(client_frame(9, b"%d" % number))
    assert client.connection.output.queued == queued
    assert client.read() == bytes(2 << 20) + b"\x8a\x0289"
    client.send(client_frame(9, b"a") + client_frame(9, b"b"))
    assert client.read() == b"\x8a\x01a\x8a\x01b"


def test_the_latest_pong_is_not_sent_behind_a_close_frame(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.connection.output.queue(bytes(2 << 20))
    reactor.loop.flush_later(client.connection)
    reactor.turn()
    client.send(client_frame(9, b"p"))
    reactor.closing.server_close(client.connection, 1000, "")
    assert client.read() == bytes(2 << 20) + b"\x88\x02\x03\xe8"


def test_pings_behind_a_parked_message_are_answered() -> None:
    with Reactor() as reactor:  # no worker: everything is parked
        client = reactor.open_client()
        client.send(client_frame(1, b"a") + client_frame(9, b"p"))
        assert client.connection.parked
        assert client.read() == b"\x8a\x01p"


def test_no_pong_follows_our_close_frame(reactor: Reactor, worker: Worker, client: Client) -> None:
    reactor.closing.server_close(client.connection, 1000, "")
    client.send(client_frame(9, b"p"))
    assert client.read() == b"\x88\x02\x03\xe8"


def test_nothing_behind_a_close_frame_is_looked_at(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.send(client_frame(8) + client_frame(1, b"a") + client_frame(9, b"p"))
    assert client.read() == b"\x88\x00"
    assert [event.kind for event in worker.take()] == [CLOSE]


def test_what_came_with_a_violation_before_it_is_accepted(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.send(client_frame(1, b"a") + client_frame(1, b"unmasked", key=None) + client_frame(1, b"b"))
    assert client.connection.stage == STAGE_ENDING
    events = worker.take()
    assert [event.body for event in events] == ["a"]
    worker.finish(*events)
    assert client.connection.stage == STAGE_LINGERING
    assert client.connection.close_code == 1002


def test_data_read_before_a_reset_still_counts(reactor: Reactor, worker: Worker, client: Client) -> None:
    client.socket.sendall(client_frame(1, b"a"))
    client.leave()
    events = worker.take()
    assert [event.body for event in events] == ["a"]
    worker.finish(*events)
    assert [event.kind for event in worker.take()] == [CLOSE]


@settings(max_examples=40)
@given(
    payloads=st.lists(st.binary(max_size=200), max_size=30),
    cuts=st.lists(st.integers(0, 5000), max_size=6),
    acknowledged=st.lists(st.integers(0, 8), max_size=10),
)
def test_every_message_goes_down_once_however_it_arrives_and_however_slow_its_worker(
    payloads: list[bytes], cuts: list[int], acknowledged: list[int]
) -> None:
    with Reactor(connection_window_events=3, parked_messages=4) as reactor:
        worker = reactor.worker()
        client = reactor.open_client()
        data = b"".join(client_frame(2, payload) for payload in payloads)
        received = []
        unfinished = worker.take()
        edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
        for i in range(len(edges) - 1):
            client.send(data[edges[i] : edges[i + 1]])
            count = acknowledged[i] if i < len(acknowledged) else 1
            worker.finish(*unfinished[:count])
            unfinished = unfinished[count:] + worker.take()
        while unfinished:
            worker.finish(*unfinished)
            unfinished = worker.take()
        received = [event.body for event in worker.received if event.kind == MESSAGE]
        assert received == payloads
        assert client.connection.stage == STAGE_OPEN
        assert reactor.router.parking.bytes == 0


def test_a_turn_inflates_its_share_of_a_connection_and_no_more(reactor: Reactor, worker: Worker) -> None:
    client = reactor.open_client()
    protocol = client.connection.protocol = Protocol(1 << 24, 100, Inflater(15, False))
    worker.finish(*worker.take())
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = deflater.compress(bytes(8 * INFLATE_BYTES)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    client.socket.sendall(client_frame(2, payload[: -len(TAIL)], reserved=0x40))
    sizes = []
    while reactor.inbound.messages == 0:
        client.socket.sendall(client_frame(9, b"keeps the socket readable"))
        reactor.turn(1)
        sizes.append(protocol.partial_bytes())
    assert [size - before for before, size in zip([0, *sizes], sizes[:-1], strict=False)] == [INFLATE_BYTES] * 8
