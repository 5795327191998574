"""Clients that violate the protocol, leave early, or send in pieces: on real sockets, until the end."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.client_frames import client_frame
from tests.process.raw_client import BINARY, CLOSE, HEAD, PING, PONG, TEXT, RawClient, ServerFrame
from tests.process.server_process import ServerProcess

MAX_MESSAGE = 4096
MAX_FRAGMENTS = 1024
ECHO = """
    import os
    import time
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        if frame.data == "sleep":
            while not os.path.exists("wake"):
                time.sleep(0.01)
        server.push(frame.fd, str(frame.fd) if frame.data == "who am I?" else frame.data)

    @server.on("close")
    def on_close(server, fd, code, reason, initiator):
        print("closed", fd, code, initiator)

    server.start()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(ECHO, package_max_length=MAX_MESSAGE, slow_callback_s=0) as server:
        yield server.serve()


@pytest.fixture(scope="module")
def hasty_server() -> Iterator[ServerProcess]:
    """Return a server that does not wait for heads."""
    with ServerProcess(ECHO, handshake_timeout=0.3) as server:
        yield server.serve()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[RawClient]:
    with RawClient(server.port) as client:
        yield client.upgrade()


def number(client: RawClient) -> int:
    """Return the fd by which the server knows a client."""
    client.send_frame(TEXT, b"who am I?")
    return int(client.read_frame().payload)


# Violations: a close frame with the right code, then the end of the stream, never a reset.

VIOLATIONS = {
    "unmasked": (client_frame(TEXT, b"hello", key=None), 1002),
    "reserved bit 1": (client_frame(TEXT, b"hello", reserved=0x40), 1002),
    "reserved bit 3": (client_frame(TEXT, b"hello", reserved=0x10), 1002),
    "opcode 3": (client_frame(0x3, b"hello"), 1002),
    "opcode 11": (client_frame(0xB, b"hello"), 1002),
    "ping in fragments": (client_frame(PING, b"hello", fin=False), 1002),
    "long ping": (client_frame(PING, bytes(126)), 1002),
    "length not minimal": (client_frame(TEXT, b"hello", length_bytes=2), 1002),
    "continuation of nothing": (client_frame(0x0, b"hello"), 1002),
    "message in a message": (client_frame(TEXT, b"a", fin=False) + client_frame(TEXT, b"b"), 1002),
    "half a close code": (client_frame(CLOSE, b"\x03"), 1002),
    "close code 1005": (client_frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
    "close code 999": (client_frame(CLOSE, (999).to_bytes(2, "big")), 1002),
    "bad UTF-8": (client_frame(TEXT, b"\xff\xfe"), 1007),
    "bad UTF-8 in a fragment": (client_frame(TEXT, b"\xce\xba\xed\xa0\x80", fin=False), 1007),
    "bad UTF-8 in a close reason": (client_frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "too long": (client_frame(TEXT, bytes(MAX_MESSAGE + 1)), 1009),
    "too long in fragments": (client_frame(TEXT, bytes(MAX_MESSAGE), fin=False) + client_frame(0x0, b"x"), 1009),
    "too many fragments": (
        client_frame(TEXT, b"x", fin=False) + client_frame(0x0, b"x", fin=False) * MAX_FRAGMENTS,
        1008,
    ),
    "announced too long": (client_frame(BINARY, b"", length=1 << 40), 1009),
}


@pytest.mark.parametrize(("frame", "code"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_violation(client: RawClient, frame: bytes, code: int) -> None:
    client.send(frame)
    frames = client.read_frames()
    assert [frame.opcode for frame in frames] == [CLOSE]
    assert frames[0].close_code == code
    assert frames[0].payload[2:].decode(), "a reason says what was wrong"


@pytest.mark.parametrize(("frame", "code"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_violation_with_more_behind_it(client: RawClient, frame: bytes, code: int) -> None:
    """What the client has already sent is read and dropped: unread data would turn the end into a reset."""
    client.send(client_frame(TEXT, b"before"), frame, bytes(1 << 20))
    frames = client.read_frames()
    assert frames[0] == ServerFrame(TEXT, b"before")
    assert [frame.close_code for frame in frames[1:]] == [code]


def test_close_callback_of_a_violation(server: ServerProcess, client: RawClient) -> None:
    fd = number(client)
    client.send(client_frame(0x3))
    client.read_frames()
    server.wait_line(f"closed {fd} 1002 server")


# Control frames.


def test_ping_is_answered_while_the_only_worker_is_busy(server: ServerProcess, client: RawClient) -> None:
    client.send_frame(TEXT, b"sleep")
    with RawClient(server.port) as other:
        other.upgrade()
        for sender in (client, other):
            sender.send_frame(PING, b"are you there?")
            assert sender.read_frame() == ServerFrame(PONG, b"are you there?")
        other.send_frame(TEXT, b"queued behind the sleeper")
        server.write("wake", "")
        assert client.read_frame() == ServerFrame(TEXT, b"sleep")
        assert other.read_frame() == ServerFrame(TEXT, b"queued behind the sleeper")


def test_control_frames_between_fragments(client: RawClient) -> None:
    client.send_frame(PING, b"")
    client.send(client_frame(TEXT, b"Hel", fin=False))
    client.send_frame(PING, b"1")
    client.send(client_frame(0x0, b"lo ", fin=False), client_frame(PONG, b"unasked"), client_frame(PING, b"2"))
    client.send(client_frame(0x0, b"", fin=False), client_frame(0x0, b"world"))
    frames = [client.read_frame() for _ in range(4)]
    assert frames == [
        ServerFrame(PONG, b""),
        ServerFrame(PONG, b"1"),
        ServerFrame(PONG, b"2"),
        ServerFrame(TEXT, b"Hello world"),
    ]


def test_one_byte_at_a_time(server: ServerProcess) -> None:
    stream = HEAD.format(path="/").encode() + client_frame(TEXT, "grün".encode()) + client_frame(CLOSE, b"\x03\xe8")
    with RawClient(server.port) as client:
        for position in range(len(stream)):
            client.send(stream[position : position + 1])
        client.read_head()
        assert client.read_frames() == [ServerFrame(TEXT, "grün".encode()), ServerFrame(CLOSE, b"\x03\xe8")]


# Ends.


def test_frames_in_the_segment_of_the_head(server: ServerProcess) -> None:
    with RawClient(server.port) as client:
        client.upgrade(behind=client_frame(TEXT, b"early") + client_frame(CLOSE, b"\x03\xe8bye"))
        assert client.read_frames() == [ServerFrame(TEXT, b"early"), ServerFrame(CLOSE, b"\x03\xe8bye")]


def test_a_message_and_a_close_at_once(client: RawClient) -> None:
    client.send(client_frame(TEXT, b"last words"), client_frame(CLOSE, b"\x0f\xa0"))
    assert client.read_frames() == [ServerFrame(TEXT, b"last words"), ServerFrame(CLOSE, b"\x0f\xa0")]


def test_a_close_without_a_code(client: RawClient) -> None:
    client.send_frame(CLOSE)
    assert client.read_frames() == [ServerFrame(CLOSE, b"")]


def test_fin_behind_messages(client: RawClient) -> None:
    """A client that shuts down its sending side still gets the replies to what it has sent."""
    texts = [b"%d" % number for number in range(100)]
    client.send(*(client_frame(TEXT, text) for text in texts))
    client.socket.shutdown(socket.SHUT_WR)
    assert client.read_frames() == [ServerFrame(TEXT, text) for text in texts]


def test_leaving_in_the_middle_of_a_frame(server: ServerProcess, client: RawClient) -> None:
    fd = number(client)
    client.send(client_frame(TEXT, b"never whole")[:-3])
    client.socket.close()
    server.wait_line(f"closed {fd} 1006 client")


def test_leaving_with_a_reset(server: ServerProcess, client: RawClient) -> None:
    fd = number(client)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends RST
    client.socket.close()
    server.wait_line(f"closed {fd} 1006 client")


# Heads: an HTTP error that says what is wrong, then the end of the stream.

PLAIN = "GET / HTTP/1.1\r\nHost: localhost\r\n"
REFUSALS = {
    "version 12": (HEAD.replace("Version: 13", "Version: 12"), 426, "Sec-WebSocket-Version: 13"),
    "no upgrade": (PLAIN + "\r\n", 426, "Upgrade: websocket"),
    "no upgrade, HTTP/1.0": ("GET /health HTTP/1.0\r\n\r\n", 426, "Upgrade: websocket"),
    "an upgrade in HTTP/1.0": (HEAD.replace("HTTP/1.1", "HTTP/1.0"), 400, "must be HTTP/1.1"),
    "a health check of HAProxy": ("OPTIONS / HTTP/1.0\r\n\r\n", 405, "Allow: GET, HEAD"),
    "head too long": (PLAIN + "X-Long: " + "x" * 17000, 431, "longer than 16384 bytes"),
    "TLS": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "this looks like TLS"),
    "HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "this looks like HTTP/2"),
    "garbage": ("\x00\x01\x02\x03", 400, "does not look like HTTP"),
    "POST": (HEAD.replace("GET", "POST"), 405, "Allow: GET"),
    "no key": (HEAD.replace("Sec-WebSocket-Key", "X-Key"), 400, "Sec-WebSocket-Key header is missing"),
    "a header that is none": (PLAIN + "what is this\r\n\r\n", 400, "line 3 must begin with the name of a header"),
}


@pytest.mark.parametrize(("head", "status", "words"), REFUSALS.values(), ids=REFUSALS)
def test_refused_head(server: ServerProcess, head: str, status: int, words: str) -> None:
    with RawClient(server.port) as client:
        client.send(head.format(path="/").encode("latin-1"))
        response = client.read_rest().decode()
    assert response.startswith(f"HTTP/1.1 {status} "), response
    assert words in response
    assert "Connection: close" in response


@pytest.mark.parametrize("head", [PLAIN, ""], ids=["no complete head", "nothing at all"])
def test_a_head_that_does_not_arrive(hasty_server: ServerProcess, head: str) -> None:
    test_refused_head(hasty_server, head, 408, "did not arrive in time")


def test_after_all_this_it_serves_and_is_clean(server: ServerProcess, client: RawClient) -> None:
    client.send_frame(TEXT, b"still there?")
    assert client.read_frame() == ServerFrame(TEXT, b"still there?")
    assert "Traceback" not in server.log()
    assert server.status()["masters"][0]["parked_bytes"] == 0
