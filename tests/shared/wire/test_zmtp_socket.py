"""The socket under a link: with itself, with libzmq, with a peer that does not read, and with one that is gone."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.shared.wire import zmtp_socket
from zwoole.shared.wire.zmtp import GREETING, READY, ZmtpError, command, header
from zwoole.shared.wire.zmtp_socket import ZmtpSocket, connect, peer_of

PATIENCE_MS = int(1000 * PATIENCE_S)
LARGE = bytes(range(256)) * 8192  # 2 MiB, more than the kernel holds


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def take(one: ZmtpSocket) -> list[bytes] | None:
    """Return a message if one has arrived."""
    one.readable = True
    return one.receive()


@pytest.fixture
def ends() -> Iterator[tuple[ZmtpSocket, ZmtpSocket]]:
    """Return the two ends of an open connection."""
    one, other = (ZmtpSocket(end.detach()) for end in pair())
    while not (one.ready and other.ready):
        assert take(one) is None
        assert take(other) is None
    yield one, other
    one.close()
    other.close()


def test_messages_arrive_in_order(ends: tuple[ZmtpSocket, ZmtpSocket]) -> None:
    one, other = ends
    sent = [[b"a"], [bytearray(b"b"), b"", b"c" * 300], [b"d" * 70_000]]
    for parts in sent:
        one.send(list(parts))
    assert [take(other) for _ in sent] == sent
    assert other.pending
    assert take(other) is None
    assert not other.pending


def test_a_short_read_is_not_followed_by_another_one(ends: tuple[ZmtpSocket, ZmtpSocket]) -> None:
    one, other = ends
    one.send([b"a"])
    assert take(other) == [b"a"]
    assert not other.readable
    one.send([b"b"])
    assert other.receive() is None
    assert take(other) == [b"b"]


def test_what_the_kernel_does_not_take_waits_and_loses_nothing(ends: tuple[ZmtpSocket, ZmtpSocket]) -> None:
    one, other = ends
    sent = [[LARGE], [b"small"], [b"with", LARGE, b"parts"], *([b"%d" % at] for at in range(1000))]
    for parts in sent:
        one.send(list(parts))
    assert one.blocked
    arrived = []
    while len(arrived) < len(sent):
        if (parts := take(other)) is not None:
            arrived.append(parts)
        else:
            one.flush()
    assert arrived == sent
    assert not one.blocked


def test_messages_wait_for_the_handshake() -> None:
    ours, theirs = pair()
    with theirs:
        one = ZmtpSocket(ours.detach())
        one.send([b"early"])
        assert not one.blocked, "there is room; it is the handshake that is missing"
        assert theirs.recv(1000) == GREETING
        theirs.send(GREETING)
        assert take(one) is None
        assert theirs.recv(1000) == READY
        theirs.send(READY)
        assert take(one) is None
        assert theirs.recv(1000) == header(5, False) + b"early"
        one.close()


def test_a_pong_stays_behind_a_message_that_is_half_sent() -> None:
    ours, theirs = pair()
    one = ZmtpSocket(ours.detach())
    with theirs:
        theirs.send(GREETING + READY)
        assert take(one) is None
        one.send([LARGE])
        assert one.blocked
        theirs.send(command(b"PING", b"\0\0context"))
        assert take(one) is None
        theirs.settimeout(PATIENCE_S)
        expected = GREETING + READY + header(len(LARGE), False) + LARGE + command(b"PONG", b"context")
        come = b""
        while len(come) < len(expected):
            come += theirs.recv(1 << 20)
            one.flush()
        assert come == expected
        one.close()


def test_a_pong_waits_if_the_kernel_has_just_become_full() -> None:
    ours, theirs = pair()
    with theirs, ours.dup() as other_handle:
        one = ZmtpSocket(ours.detach())
        theirs.send(GREETING + READY)
        assert take(one) is None
        filler = 0
        while True:
            try:
                filler += other_handle.send(bytes(65536))
            except BlockingIOError:
                break
        theirs.send(command(b"PING", b"\0\0context"))
        assert take(one) is None
        assert one.blocked
        expected = GREETING + READY + bytes(filler) + command(b"PONG", b"context")
        come = b""
        while len(come) < len(expected):
            come += theirs.recv(1 << 20)
            one.flush()
        assert come == expected
        one.close()


def test_what_a_peer_sent_before_it_ended_is_read(ends: tuple[ZmtpSocket, ZmtpSocket]) -> None:
    """Sending to it has failed before: that must not hide what it has sent."""
    one, other = ends
    for at in range(100):
        other.send([b"%d" % at])
    one.send([b"it does not read this"])
    other.close()
    one.send([b"lost"])
    one.send([LARGE])
    assert not one.blocked
    assert not one.ended
    assert [take(one) for _ in range(100)] == [[b"%d" % at] for at in range(100)]
    assert take(one) is None
    assert one.ended
    assert take(one) is None


def test_a_child_that_holds_the_connection_open_hides_nothing(ends: tuple[ZmtpSocket, ZmtpSocket]) -> None:
    one, other = ends
    held = os.dup(other.descriptor)
    other.send([b"the last one"])
    other.close()
    assert take(one) == [b"the last one"]
    assert take(one) is None
    assert not one.ended, "the end of the connection cannot be seen"
    os.close(held)


def test_a_dead_peer_is_no_signal(ends: tuple[ZmtpSocket, ZmtpSocket]) -> None:
    """An app may have set SIGPIPE to its default, which ends the process."""
    one, other = ends
    other.close()
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        one.send([b"a"])
    finally:
        signal.signal(signal.SIGPIPE, before)


def test_a_peer_that_breaks_the_protocol_is_an_error() -> None:
    ours, theirs = pair()
    with theirs:
        one = ZmtpSocket(ours.detach())
        theirs.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ZmtpError):
            take(one)
        one.close()


def test_a_closed_socket_is_silent(ends: tuple[ZmtpSocket, ZmtpSocket]) -> None:
    one, _ = ends
    one.close()
    one.close()
    assert one.descriptor == -1
    one.send([b"a"])
    one.flush()
    assert take(one) is None


# With libzmq.


@pytest.fixture
def dealer() -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.setsockopt(zmq.RCVHWM, 0)
        yield dealer


def by_connecting(dealer: zmq.Socket[bytes], path: Path) -> ZmtpSocket:
    """Return our end if we connect to libzmq."""
    dealer.bind(f"ipc://{path}")
    descriptor = connect(path)
    assert descriptor >= 0
    return ZmtpSocket(descriptor)


def by_listening(dealer: zmq.Socket[bytes], path: Path) -> ZmtpSocket:
    """Return our end if libzmq connects to us."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        dealer.connect(f"ipc://{path}")
        accepted, _ = listener.accept()
        accepted.setblocking(False)
        return ZmtpSocket(accepted.detach())


@pytest.mark.parametrize("ours", [by_connecting, by_listening])
def test_any_dealer_of_libzmq_can_be_the_other_end(
    dealer: zmq.Socket[bytes], tmp_path: Path, ours: Callable[[zmq.Socket[bytes], Path], ZmtpSocket]
) -> None:
    dealer.setsockopt(zmq.HEARTBEAT_IVL, 1)  # ms: it pings all the time, and reconnects if nothing answers
    dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, PATIENCE_MS)
    one = ours(dealer, tmp_path / "endpoint")
    wait_for(lambda: take(one) is None and one.ready, "the handshake")
    batches = [[b"a"], [b"b", b"", b"c" * 255, b"d" * 256], [LARGE, b"e"], *([b"%d" % at] for at in range(2000))]
    for parts in batches:
        one.send(list(parts))
        dealer.send_multipart(parts)
    down: list[list[bytes]] = []
    up: list[list[bytes]] = []

    def finished() -> bool:
        one.flush()
        while (parts := take(one)) is not None:
            up.append(parts)
        while dealer.poll(0):
            down.append(dealer.recv_multipart())
        return len(down) == len(up) == len(batches)

    wait_for(finished, "all messages, in both directions")
    assert down == up == batches
    assert not one.ended
    one.close()


@pytest.mark.parametrize("kind", [zmq.SUB, zmq.REQ, zmq.PUSH])
def test_other_sockets_of_libzmq_are_refused(tmp_path: Path, kind: int) -> None:
    with zmq.Context() as context, context.socket(kind) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        one = by_connecting(peer, tmp_path / "endpoint")

        def refused() -> bool:
            try:
                take(one)
            except ZmtpError as error:
                return "where DEALER is expected" in str(error)
            return False

        wait_for(refused, "the refusal")
        one.close()


# Connecting.


def test_nothing_listens_yet(tmp_path: Path) -> None:
    assert connect(tmp_path / "nothing") == -1
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        assert connect(tmp_path / "silent") == -1


def test_another_users_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "endpoint"))
        listener.listen()
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
        monkeypatch.setattr(zmtp_socket, "peer_of", lambda _: (1, 4343))
        with pytest.raises(PermissionError, match="runs as user 4343"):
            connect(tmp_path / "endpoint")


def test_a_peer_is_known_by_its_process_and_user() -> None:
    ours, theirs = pair()
    with ours, theirs:
        assert peer_of(ours) == (os.getpid(), os.geteuid())
