"""ZMTP without a socket: what a peer may send, in any pieces, and what it may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zwoole.shared.wire.zmtp import (
    BUFFER_BYTES,
    GREETING,
    MAX_COMMAND_BYTES,
    MAX_MESSAGE_BYTES,
    READY,
    Zmtp,
    ZmtpError,
    command,
    header,
    metadata,
)

HELLO = GREETING + READY
DEALER = metadata(b"Socket-Type", b"DEALER")
Message = list[bytes]


def feed(zmtp: Zmtp, data: bytes) -> None:
    """Put bytes into the buffer, as reading does."""
    while data:
        zmtp.make_room()
        count = min(len(data), len(zmtp.buffer) - zmtp.end)
        zmtp.buffer[zmtp.end : zmtp.end + count] = data[:count]
        zmtp.end += count
        data = data[count:]


def messages(zmtp: Zmtp) -> list[Message]:
    """Return the messages that have arrived."""
    found = []
    while (message := zmtp.next_message()) is not None:
        found.append(message)
    return found


def received(*pieces: bytes) -> list[Message]:
    """Return the messages of a new connection that arrive in pieces."""
    zmtp = Zmtp()
    found = []
    for piece in pieces:
        feed(zmtp, piece)
        found += messages(zmtp)
    return found


def opened() -> Zmtp:
    """Return an open connection."""
    zmtp = Zmtp()
    feed(zmtp, HELLO)
    assert messages(zmtp) == []
    assert zmtp.ready
    zmtp.replies.clear()
    return zmtp


def sent(*parts: bytes) -> bytes:
    """Return the frames of a message."""
    return b"".join(header(len(part), at + 1 < len(parts)) + part for at, part in enumerate(parts))


def test_the_greeting_is_the_rfcs() -> None:
    assert len(GREETING) == 64
    assert GREETING[0] == 0xFF
    assert GREETING[9] == 0x7F
    assert GREETING[10:12] == b"\x03\x01"
    assert GREETING[12:32] == b"NULL" + bytes(16)
    assert GREETING[32:] == bytes(32)


def test_the_greeting_comes_first_and_ready_answers_the_peers() -> None:
    zmtp = Zmtp()
    assert zmtp.replies == GREETING
    zmtp.replies.clear()
    feed(zmtp, GREETING[:63])
    assert messages(zmtp) == []
    assert not zmtp.replies
    feed(zmtp, GREETING[63:])
    assert messages(zmtp) == []
    assert zmtp.replies == READY
    assert not zmtp.ready
    feed(zmtp, READY)
    assert messages(zmtp) == []
    assert zmtp.ready


@pytest.mark.parametrize(
    ("size", "expected"), [(0, b"\0\0"), (255, b"\0\xff"), (256, b"\2" + (256).to_bytes(8, "big"))]
)
def test_a_frame_above_255_bytes_is_long(size: int, expected: bytes) -> None:
    assert header(size, False) == expected
    assert header(size, True) == bytes((expected[0] | 1,)) + expected[1:]


STREAM = HELLO + sent(b"a") + sent(b"", b"b" * 300, b"c") + command(b"PING", b"\0\1x") + sent(b"d" * 255)
IN_IT = [[b"a"], [b"", b"b" * 300, b"c"], [b"d" * 255]]


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_a_stream_may_be_split_at_every_byte(at: int) -> None:
    assert received(STREAM[:at], STREAM[at:]) == IN_IT


def test_a_stream_may_come_byte_by_byte() -> None:
    assert received(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == IN_IT


@given(
    st.lists(st.lists(st.binary(max_size=600), min_size=1, max_size=4)),
    st.lists(st.integers(1, 2000), min_size=1),
)
def test_whatever_is_sent_arrives_in_whatever_pieces(batches: list[Message], sizes: list[int]) -> None:
    stream = HELLO + b"".join(sent(*parts) for parts in batches)
    pieces = []
    at = 0
    while at < len(stream):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(stream[at : at + size])
        at += size
    assert received(*pieces) == batches


def test_a_message_larger_than_the_buffer_arrives_whole_and_its_memory_is_given_back() -> None:
    zmtp = opened()
    large = bytes(range(256)) * (5 * BUFFER_BYTES // 256)
    stream = sent(b"a", large) + sent(b"b")
    found = []
    for at in range(0, len(stream), 50_000):
        feed(zmtp, stream[at : at + 50_000])
        found += messages(zmtp)
    assert found == [[b"a", large], [b"b"]]
    zmtp.make_room()
    assert len(zmtp.buffer) == BUFFER_BYTES


def test_an_announced_size_takes_no_memory() -> None:
    zmtp = opened()
    feed(zmtp, header(MAX_MESSAGE_BYTES, False) + b"x")
    assert messages(zmtp) == []
    zmtp.make_room()
    assert len(zmtp.buffer) == BUFFER_BYTES


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (header(MAX_MESSAGE_BYTES + 1, False), "4294967297 bytes, where 4294967296 are allowed"),
        (b"\x02" + b"\x7f" + b"\xff" * 7, "9223372036854775807 bytes"),
        (b"\x02" + b"\x80" + bytes(7), r"2\^63 bytes or more"),
        (b"\x08\0", "flags 0x08"),
        (b"\x80\0", "flags 0x80"),
        (b"\x05\0", "flags 0x05"),
        (b"\x04\0", "a command without a name"),
        (b"\x04\1\0", "a command without a name"),
        (b"\x04\3\5PI", "a command without a name"),
        (b"\x06" + (MAX_COMMAND_BYTES + 1).to_bytes(8, "big"), "where 8192 are allowed"),
        (command(b"PING", b""), "a malformed PING"),
        (command(b"PING", b"\0"), "a malformed PING"),
        (command(b"PING", bytes(2 + 17)), "a malformed PING"),
        (command(b"ERROR", b"\4full"), "the peer says: 'full'"),
        (command(b"ERROR", b"\xff\xff"), r"the peer says: '\\\\xff'"),
        (command(b"ERROR", b""), "the peer says: ''"),
    ],
)
def test_what_breaks_the_protocol_is_an_error(bad: bytes, why: str) -> None:
    zmtp = opened()
    feed(zmtp, sent(b"before") + bad)
    assert zmtp.next_message() == [b"before"]
    with pytest.raises(ZmtpError, match=why):
        zmtp.next_message()


def test_the_parts_of_one_message_are_bounded_together() -> None:
    zmtp = opened()
    feed(zmtp, header(1, True) + b"a" + header(MAX_MESSAGE_BYTES, False))
    with pytest.raises(ZmtpError, match="are allowed"):
        zmtp.next_message()


@pytest.mark.parametrize(
    ("greeting", "why"),
    [
        (b"GET / HTTP/1.1\r\n", "a greeting that is not ZMTP's"),
        (b"\xff" + bytes(8) + b"\x7e", "a greeting that is not ZMTP's"),
        (b"\xff" + bytes(8) + b"\x7f\x01", "a peer that speaks ZMTP 1"),
        (b"\xff" + bytes(8) + b"\x7f\x02", "a peer that speaks ZMTP 2"),
        (GREETING.replace(b"NULL\0", b"PLAIN"), "the mechanism b'PLAIN' where NULL is expected"),
        (GREETING.replace(b"NULL\0", b"NULLX"), "the mechanism b'NULLX'"),
        (GREETING + sent(b"too early"), "a message before READY"),
        (GREETING + command(b"PING", b"\0\0"), "the command b'PING' before READY"),
        (GREETING + command(b"ERROR", b"\5sorry"), "the peer says: 'sorry'"),
        (GREETING + command(b"READY", b""), "a peer of the type None"),
        (GREETING + command(b"READY", metadata(b"Socket-Type", b"SUB")), "a peer of the type b'SUB'"),
        (GREETING + command(b"READY", DEALER + b"\4abc"), "malformed metadata"),
        (GREETING + command(b"READY", DEALER + b"\1a\0\0\0\2b"), "malformed metadata"),
        (GREETING + command(b"READY", DEALER + b"\0\0\0\0\0"), "malformed metadata"),
        (GREETING + command(b"READY", DEALER + b"\1a\xff\xff\xff\xffb"), "malformed metadata"),
    ],
)
def test_a_peer_that_is_none_of_ours_is_refused(greeting: bytes, why: str) -> None:
    for pieces in ([greeting], [greeting[at : at + 1] for at in range(len(greeting))]):
        with pytest.raises(ZmtpError, match=why):
            received(*pieces)


@pytest.mark.parametrize(
    "greeting",
    [
        GREETING[:10] + b"\x03\x00" + GREETING[12:],
        GREETING[:10] + b"\x04\x02" + GREETING[12:],
        b"\xff" + b"\0\0\0\0\0\0\0\1" + GREETING[9:],  # libzmq's padding
        GREETING[:32] + b"\1" + GREETING[33:],  # "as-server" means nothing with NULL
    ],
)
def test_newer_and_minor_versions_are_accepted(greeting: bytes) -> None:
    assert received(greeting + READY + sent(b"a")) == [[b"a"]]


@pytest.mark.parametrize("name", [b"Socket-Type", b"SOCKET-TYPE", b"socket-type"])
def test_the_case_of_a_propertys_name_does_not_matter(name: bytes) -> None:
    ready = command(b"READY", metadata(b"X-Other", b"\xff") + metadata(name, b"DEALER"))
    assert received(GREETING + ready + sent(b"a")) == [[b"a"]]


def test_a_ping_is_answered_with_its_context() -> None:
    zmtp = opened()
    feed(zmtp, command(b"PING", b"\0\1context"))
    assert messages(zmtp) == []
    assert zmtp.replies == command(b"PONG", b"context")


def test_pings_that_nobody_answers_take_no_memory() -> None:
    zmtp = opened()
    feed(zmtp, command(b"PING", b"\0\1context") * 10_000)
    assert messages(zmtp) == []
    assert len(zmtp.replies) < 2048


@pytest.mark.parametrize(
    "ignored",
    [command(b"PONG", b"x"), command(b"SUBSCRIBE", b"x"), command(b"X", b""), READY, b"\6" + bytes(7) + b"\2\1X"],
)
def test_other_commands_are_ignored_even_between_the_parts_of_a_message(ignored: bytes) -> None:
    zmtp = opened()
    feed(zmtp, header(1, True) + b"a" + ignored + header(1, False) + b"b")
    assert messages(zmtp) == [[b"a", b"b"]]
    assert not zmtp.replies
