"""The checks of arguments: what the app gives wrongly is said to the caller, in any thread, and nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.workers.worker_parts import Master, in_thread
from zwoole.shared.websocket.close_codes import MAX_REASON_BYTES
from zwoole.workers.links.arguments import encode


@pytest.fixture
def master() -> Iterator[Master]:
    with Master() as master:
        yield master


BAD_DATA: list[tuple[Any, int | None, type[Exception]]] = [
    (None, None, TypeError),
    (5, None, TypeError),
    ({"a": 1}, None, TypeError),
    (["a"], None, TypeError),
    ("a", 8, ValueError),
    (b"\xff", 1, ValueError),
    ("\ud800", None, ValueError),
]


async def forgotten() -> str:
    return "text"


def test_a_coroutine_is_no_message() -> None:
    with Master() as master:
        fd = master.connect()
        for send in (lambda data: master.commands.push(fd, data), master.commands.broadcast):
            with pytest.raises(TypeError, match="a message must be str or bytes, not a coroutine: await it first"):
                send(forgotten())


@pytest.mark.parametrize("value", [{1, 2}, object(), 1 << 64, "\ud800"], ids=["set", "object", "2**64", "surrogate"])
def test_what_cannot_travel_is_refused_with_the_name_of_what_it_was_to_be(value: object) -> None:
    rule = "must consist of None, numbers, str, bytes, lists and dicts: "
    with Master() as master:
        fd = master.connect()
        with pytest.raises(TypeError, match=f"a connection's state {rule}"):
            master.commands.set_state(fd, value)
        with pytest.raises(TypeError, match=f"a message to a worker {rule}"):
            master.commands.send_message(value, 0)
        assert master.sent().others == []


@pytest.mark.parametrize("value", [{(1, 2): 3}, [{"a": {(): 1}}]], ids=str)
def test_what_could_be_packed_and_not_unpacked_is_refused(value: object) -> None:
    rule = "must not have a dict with a tuple or a list as a key"
    with Master() as master:
        fd = master.connect()
        with pytest.raises(TypeError, match=f"a connection's state {rule}"):
            master.commands.set_state(fd, value)
        with pytest.raises(TypeError, match=f"a message to a worker {rule}"):
            master.commands.send_message(value, 0)
        assert master.sent().others == []


@pytest.mark.parametrize("number", [0, -1, 1 << 53, 1 << 63, 1 << 64, 1 << 70, -(1 << 70)])
def test_a_number_that_no_connection_and_no_worker_has(master: Master, number: int) -> None:
    commands = master.commands
    for ask in (commands.exists, commands.is_established, commands.buffered_amount, commands.ping, commands.disconnect):
        assert not ask(number)
    assert commands.push(number, "a") is False
    assert in_thread(lambda: commands.push(number, "a")) is False
    assert commands.set_state(number, 1) is False
    if number:
        with pytest.raises(ValueError, match=f"there is no worker {number}"):
            commands.send_message("a", number)
    assert master.sent().others == []


@pytest.mark.parametrize(("data", "opcode", "error"), BAD_DATA)
def test_data_that_is_no_message_is_said_to_the_caller(
    master: Master, data: Any, opcode: int | None, error: type[Exception]
) -> None:
    fd = master.connect()
    with pytest.raises(error):
        encode(data, opcode)
    with pytest.raises(error):
        master.commands.push(fd, data, opcode)
    with pytest.raises(error):
        master.commands.broadcast(data, opcode)
    assert isinstance(in_thread(lambda: master.commands.push(fd, data, opcode)), error)
    assert isinstance(in_thread(lambda: master.commands.broadcast(data, opcode)), error)
    assert master.sent().commands == []
    assert not master.masters.mailbox.waits()


@pytest.mark.parametrize(
    ("data", "error"), [("p" * 126, ValueError), ("é" * 63, ValueError), (None, TypeError), (5, TypeError)]
)
def test_what_a_ping_cannot_carry_is_said_to_the_caller(master: Master, data: Any, error: type[Exception]) -> None:
    fd = master.connect()
    with pytest.raises(error):
        master.commands.ping(fd, data)
    assert isinstance(in_thread(lambda: master.commands.ping(fd, data)), error)
    assert master.sent().commands == []
    assert not master.masters.mailbox.waits()


@pytest.mark.parametrize("fd", ["5", b"5", None, 5.0])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("ping", ()), ("disconnect", ()), ("set_state", ("a",))),
        *(("exists", ()), ("is_established", ()), ("buffered_amount", ())),
    ],
)
def test_an_fd_of_a_wrong_type_is_said_to_the_caller(
    master: Master, name: str, arguments: tuple[Any, ...], fd: object
) -> None:
    def call() -> object:
        return getattr(master.commands, name)(fd, *arguments)

    words = f"fd must be an int, not {type(fd).__name__}"
    with pytest.raises(TypeError, match=words):
        call()
    assert str(in_thread(call)) == words
    assert master.sent().commands == []
    assert not master.masters.mailbox.waits()


@pytest.mark.parametrize("worker_id", ["1", None, 1.0])
def test_a_workers_number_of_a_wrong_type_is_said_to_the_caller(master: Master, worker_id: Any) -> None:
    with pytest.raises(TypeError, match=f"worker_id must be an int, not {type(worker_id).__name__}"):
        master.commands.send_message("a", worker_id)
    assert master.sent().commands == []


@pytest.mark.parametrize("reason", [None, b"why", 5])
def test_a_reason_of_a_wrong_type_is_said_to_the_caller(master: Master, reason: Any) -> None:
    fd = master.connect()
    with pytest.raises(TypeError, match=f"reason must be a str, not {type(reason).__name__}"):
        master.commands.disconnect(fd, 1000, reason)
    assert master.sent().commands == []


@pytest.mark.parametrize("code", [0, -1, 999, 1004, 1005, 1006, 1015, 2999, 5000, 1 << 70, True, "1000", 1000.0])
def test_a_close_code_that_may_not_be_sent_is_refused(master: Master, code: Any) -> None:
    fd = master.connect()
    with pytest.raises(ValueError, match="close code"):
        master.commands.disconnect(fd, code)
    assert master.commands.is_established(fd)
    assert master.commands.ended == set()


def test_a_close_reason_has_its_limit_in_bytes(master: Master) -> None:
    fd = master.connect()
    with pytest.raises(ValueError, match="123"):
        master.commands.disconnect(fd, 1000, "é" * (MAX_REASON_BYTES // 2) + "ab")
    assert master.commands.disconnect(fd, 1000, "é" * (MAX_REASON_BYTES // 2) + "a")
