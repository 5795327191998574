"""The commands of callbacks, and their limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from tests.workers.worker_parts import PIPE_QUEUE_BYTES, Master, end, in_thread
from zwoole.shared.errors import QueueFull
from zwoole.shared.ids import MAX_FD
from zwoole.shared.memory.connection_table import CLOSING, FREE, HANDSHAKE
from zwoole.shared.wire.events import BROADCAST, DISCONNECT, FAIL, PING, PUSH, SEND_MESSAGE, SET_STATE
from zwoole.workers.links.commands import PRUNE_ENDED


@pytest.fixture
def master() -> Iterator[Master]:
    with Master() as master:
        yield master


@pytest.mark.parametrize(
    ("data", "opcode", "body"),
    [
        ("text", None, "text"),
        ("é" * 20_000, None, "é" * 20_000),
        (b"bytes", None, b"bytes"),
        (b"x" * 70_000, None, b"x" * 70_000),
        (bytearray(b"array"), None, b"array"),
        (memoryview(b"abcdef")[::2], None, b"ace"),
        (b"text", 1, "text"),
        ("bytes", 2, b"bytes"),
        ("", None, ""),
        (b"", None, b""),
    ],
)
def test_text_and_bytes_are_sent_as_what_they_are_unless_told_otherwise(
    master: Master, data: Any, opcode: int | None, body: str | bytes
) -> None:
    fd = master.connect()
    assert master.commands.push(fd, data, opcode)
    master.commands.broadcast(data, opcode)
    assert master.sent().others == [(PUSH, fd, body), (BROADCAST, 0, body)]


@pytest.mark.parametrize("data", ["p" * 125, b"", bytearray(b"p"), memoryview(b"p")])
def test_a_ping_carries_up_to_125_bytes(master: Master, data: Any) -> None:
    fd = master.connect()
    assert master.commands.ping(fd, data)
    assert master.sent().others == [(PING, fd, data.encode() if isinstance(data, str) else bytes(data))]


@pytest.mark.parametrize("fd", [0, -1, 999, MAX_FD, MAX_FD - 1, 1 << 60])
def test_what_is_no_connection_is_known_to_be_gone(master: Master, fd: int) -> None:
    commands = master.commands
    assert not commands.push(fd, "a")
    assert not commands.ping(fd)
    assert not commands.disconnect(fd)
    assert not commands.exists(fd)
    assert not commands.is_established(fd)
    assert commands.buffered_amount(fd) == 0
    assert master.sent().commands == []


@pytest.mark.parametrize(("state", "exists"), [(FREE, False), (HANDSHAKE, True), (CLOSING, True)])
def test_only_an_established_connection_is_pushed_to(master: Master, state: int, exists: bool) -> None:
    fd = master.connect()
    master.table.set_state(fd, state)
    assert not master.commands.push(fd, "a")
    assert not master.commands.ping(fd)
    assert not master.commands.disconnect(fd)
    assert not in_thread(lambda: master.commands.push(fd, "a"))
    assert not in_thread(lambda: master.commands.ping(fd))
    assert not in_thread(lambda: master.commands.disconnect(fd))
    assert master.commands.exists(fd) is exists
    assert not master.commands.is_established(fd)
    assert master.sent().commands == []


def test_the_table_says_how_much_waits(master: Master) -> None:
    fd = master.connect()
    master.table.set_queued(fd, 12345)
    assert master.commands.buffered_amount(fd) == 12345


def test_a_connection_is_disconnected_once_and_gets_nothing_behind_it(master: Master) -> None:
    fd = master.connect()
    assert master.commands.push(fd, "before")
    assert master.commands.disconnect(fd, 4000, "why")
    assert not master.commands.push(fd, "behind")
    assert not master.commands.ping(fd)
    assert not master.commands.disconnect(fd, 4001)
    master.commands.fail(fd, 1011, "failed")
    assert master.sent().others == [(PUSH, fd, "before"), (DISCONNECT, fd, end(4000, "why"))]


def test_a_failed_connection_is_closed_with_the_code(master: Master) -> None:
    fd = master.connect()
    master.commands.fail(fd, 1011, "failed")
    assert master.sent().others == [(FAIL, fd, end(1011, "failed"))]


def test_a_state_is_kept_with_a_connection_that_exists(master: Master) -> None:
    fd = master.connect()
    assert master.commands.set_state(fd, ["a", 1])
    assert in_thread(lambda: master.commands.set_state(fd, "b"))
    assert not master.commands.set_state(fd + 1, "c")
    assert not in_thread(lambda: master.commands.set_state(fd + 1, "d"))
    master.masters.flush()
    assert [(kind, number, msgpack.unpackb(body)) for kind, number, body in master.sent().others] == [
        (SET_STATE, fd, ["a", 1]),
        (SET_STATE, fd, "b"),
    ]


def test_a_message_to_a_worker_goes_to_a_master_if_there_is_such_a_worker_and_room_for_it(master: Master) -> None:
    commands = master.commands
    master.table.set_waiting(1, 0)
    commands.send_message("a", 1)
    in_thread(lambda: commands.send_message("b", 1))
    with pytest.raises(ValueError, match="there is no worker 2"):
        commands.send_message("c", 2)
    with pytest.raises(ValueError, match="at most 4194304 bytes packed"):
        commands.send_message("x" * (PIPE_QUEUE_BYTES + 1), 1)
    master.table.set_waiting(1, PIPE_QUEUE_BYTES)
    with pytest.raises(QueueFull, match="4194304 bytes are queued for worker 1"):
        commands.send_message("d", 1)
    master.masters.flush()
    assert [(kind, number, msgpack.unpackb(body)) for kind, number, body in master.sent().others] == [
        (SEND_MESSAGE, 1, "a"),
        (SEND_MESSAGE, 1, "b"),
    ]


def test_the_ended_connections_of_other_workers_are_forgotten(master: Master) -> None:
    living = master.connect()
    master.commands.disconnect(living)
    for _ in range(5000):
        fd = master.connect()
        master.commands.disconnect(fd)
        master.table.set_state(fd, FREE)
    assert len(master.commands.ended) <= PRUNE_ENDED + 2
    assert living in master.commands.ended
