"""The commands of callbacks, and their limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import pytest

from tests.workers.worker_parts import PATIENCE_MS, Master, closing, end, message
from zwoole.shared.errors import BackpressureError, NotServing, QueueFull
from zwoole.shared.ids import MAX_FD
from zwoole.shared.memory.connection_table import CLOSING, FREE, HANDSHAKE
from zwoole.shared.websocket.close_codes import MAX_REASON_BYTES
from zwoole.shared.wire.batches import ACK, BROADCAST, DISCONNECT, FAIL, PING, PUSH, WELCOME
from zwoole.workers.arguments import encode
from zwoole.workers.commands import PRUNE_ENDED

BAD_DATA: list[tuple[Any, int | None, type[Exception]]] = [
    (None, None, TypeError),
    (5, None, TypeError),
    ({"a": 1}, None, TypeError),
    (["a"], None, TypeError),
    ("a", 8, ValueError),
    (b"\xff", 1, ValueError),
    ("\ud800", None, ValueError),
]


@pytest.fixture
def master() -> Iterator[Master]:
    with Master() as master:
        yield master


def in_thread(function: Callable[[], object]) -> Any:
    """Return what the function returned or raised in another thread."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


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


@pytest.mark.parametrize("data", ["p" * 125, b"", bytearray(b"p"), memoryview(b"p")])
def test_a_ping_carries_up_to_125_bytes(master: Master, data: Any) -> None:
    fd = master.connect()
    assert master.commands.ping(fd, data)
    assert master.sent().others == [(PING, fd, data.encode() if isinstance(data, str) else bytes(data))]


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


def test_a_connection_whose_master_died_is_gone(master: Master) -> None:
    fd = master.connect()
    master.link.close(0)
    assert not master.commands.push(fd, "a")
    assert not master.commands.exists(fd)
    master.commands.broadcast("a")
    with pytest.raises(QueueFull, match="there is no master"):
        master.commands.send_message("a", 0)
    assert not master.masters.congested()
    master.masters.flush()


def every_command(master: Master, fd: int) -> list[Callable[[], object]]:
    """Return a call of each command that needs a link to a master."""
    commands = master.commands
    return [
        *(lambda: commands.push(fd, "a"), lambda: commands.ping(fd), lambda: commands.broadcast("a")),
        *(lambda: commands.disconnect(fd), lambda: commands.set_state(fd, "a"), lambda: commands.exists(fd)),
        *(lambda: commands.is_established(fd), lambda: commands.buffered_amount(fd)),
        lambda: commands.send_message("a", 0),
    ]


def test_a_worker_that_is_not_connected_refuses_every_command(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost silently. Another thread waits first."""
    fd = master.connect()
    master.masters.links[0] = None
    for call in every_command(master, fd):
        with pytest.raises(NotServing, match="does not serve yet"):
            call()
    monkeypatch.setattr("zwoole.workers.masters.THREAD_WAIT_S", 0.01)
    assert isinstance(in_thread(lambda: master.commands.push(fd, "a")), NotServing)
    master.masters.said_goodbye = True
    for call in every_command(master, fd):
        with pytest.raises(NotServing, match="said goodbye"):
            call()


@pytest.mark.parametrize("number", range(9))
def test_a_command_waits_for_the_welcome_and_loses_nothing_that_came_with_it(master: Master, number: int) -> None:
    fd = master.connect()
    master.link.ready = False
    welcomed: list[bytes] = []

    def welcome(link: object, body: bytes) -> None:
        welcomed.append(body)
        master.link.ready = True

    master.table.set_waiting(0, 0)
    master.masters.on_welcome = welcome
    master.masters.on_wait = lambda: master.send((WELCOME, 1, b"words"), message(fd, "behind it"))
    every_command(master, fd)[number]()
    assert welcomed == [b"words"]
    assert master.link.receive() is not None, "the loop takes the batch again, for what else is in it"


def test_another_thread_waits_for_the_welcome(master: Master) -> None:
    fd = master.connect()
    master.link.ready = False
    with ThreadPoolExecutor(1) as executor:
        pushed = executor.submit(master.commands.push, fd, "a")
        with pytest.raises(FutureTimeout):
            pushed.result(0.05)
        master.link.ready = True
        assert pushed.result(10)


def test_messages_are_carried_by_nobody_when_the_masters_have_ended(master: Master) -> None:
    master.masters.have_ended = True
    with pytest.raises(QueueFull, match="there is no master"):
        master.commands.send_message("a", 0)


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


def test_the_ended_connections_of_other_workers_are_forgotten(master: Master) -> None:
    living = master.connect()
    master.commands.disconnect(living)
    for _ in range(5000):
        fd = master.connect()
        master.commands.disconnect(fd)
        master.table.set_state(fd, FREE)
    assert len(master.commands.ended) <= PRUNE_ENDED + 2
    assert living in master.commands.ended


# From other threads.


def test_commands_from_another_thread_are_handed_over(master: Master) -> None:
    fd = master.connect()
    data = bytearray(b"before")
    assert in_thread(lambda: master.commands.push(fd, data))
    assert in_thread(lambda: master.commands.ping(fd, data))
    in_thread(lambda: master.commands.broadcast(data, 1))
    assert in_thread(lambda: master.commands.disconnect(fd, 4000))
    assert master.sent().commands == []
    data[:] = b"behind"
    master.masters.flush()
    assert master.sent().others == [
        (PUSH, fd, b"before"),
        (PING, fd, b"before"),
        (BROADCAST, 0, "before"),
        (DISCONNECT, fd, end(4000, "")),
    ]


def congest(master: Master) -> int:
    """Push more than the window to a new connection, then push from another thread; return the fd."""
    master.link.up_window = 100
    fd = master.connect()
    assert master.commands.push(fd, b"x" * 1000)
    assert in_thread(lambda: master.commands.push(fd, b"of the thread"))
    return fd


def test_an_acknowledgement_does_not_overtake_the_pushes_of_threads(master: Master) -> None:
    """A callback may have waited for its thread: the client must get the push before the callback counts as
    finished.
    """
    fd = congest(master)
    master.link.finished(0)
    master.masters.flush()
    assert master.sent().commands == [(PUSH, fd, b"x" * 1000)]
    master.send(credit=10_000)
    assert master.link.socket.poll(PATIENCE_MS)
    while parts := master.link.receive():
        master.dispatcher.take_batch(master.link, parts)
    master.masters.flush()
    master.link.finished(1)
    assert master.sent().commands == [(PUSH, fd, b"of the thread"), (ACK, 0, 1), (ACK, 1, 1)]


def test_the_end_of_a_worker_loses_nothing_that_threads_have_pushed(master: Master) -> None:
    fd = congest(master)
    master.link.finished(0)
    master.masters.flush_all()
    assert master.sent().commands == [(PUSH, fd, b"x" * 1000), (PUSH, fd, b"of the thread"), (ACK, 0, 1)]


def test_output_is_announced(master: Master) -> None:
    announced: list[int] = []
    master.masters.on_output = lambda: announced.append(1)
    fd = master.connect()
    master.commands.push(fd, "a")
    master.commands.ping(fd)
    master.commands.broadcast("a")
    master.commands.disconnect(fd)
    assert len(announced) == 4


# Backpressure.


def test_a_callback_waits_in_push_until_the_master_has_taken_enough_and_reads_meanwhile() -> None:
    ran: list[str] = []

    def callback(_: object, frame: Any) -> None:
        ran.append(frame.data)
        if frame.data == "push":
            for _ in range(10):
                assert master.commands.push(fd, b"x" * 1000)

    with Master({"message": callback}, up_window=5000) as master:
        fd = master.connect()
        batch = master.batch(message(fd, "push"))
        master.send(message(fd, "behind"), credit=2000)
        master.send(credit=6000)
        master.dispatcher.take_batch(master.link, batch)
        assert ran == ["push"]
        assert master.link.credit == 6000
        assert len(master.link.inbox) == 1
        while parts := master.link.receive():
            master.dispatcher.take_batch(master.link, parts)
        assert ran == ["push", "behind"]
        assert master.link.credit == 6000
        assert len(master.sent().others) == 10


def test_a_push_that_waits_for_one_master_holds_up_nothing_for_another(master: Master) -> None:
    arrived: list[list[bytes]] = []

    def give_credit() -> None:
        assert other.socket.poll(PATIENCE_MS)
        arrived.append(other.socket.recv_multipart())
        master.masters.on_wait = lambda: None
        master.send(credit=10_000)

    with Master() as other:
        master.masters.links.append(other.link)
        other.link.writer.add_bytes(PUSH, 2, b"pushed before")
        master.link.up_window = 100
        fd = master.connect()
        assert master.commands.push(fd, b"x" * 1000)
        master.masters.on_wait = give_credit
        assert master.commands.push(fd, "waits")
        master.masters.links.pop()
    assert b"pushed before" in b"".join(arrived[0])


def test_a_push_that_waited_says_whether_the_connection_is_still_there(master: Master) -> None:
    fd = master.connect()
    master.link.up_window = 100
    assert master.commands.push(fd, b"x" * 1000)
    master.send(credit=10_000)
    assert master.link.socket.poll(PATIENCE_MS)
    master.table.set_state(fd, CLOSING)
    assert not master.commands.push(fd, "a")


def test_a_coroutine_never_waits_in_push_and_is_refused_past_four_times_the_mark(master: Master) -> None:
    commands = master.commands
    master.masters.may_block = False
    master.link.up_window = 10_000
    fd = master.connect()
    assert not master.masters.congested()
    count = 0
    with pytest.raises(BackpressureError, match="drain"):
        while commands.push(fd, b"x" * 1000):
            count += 1
    assert 38 <= count <= 42
    assert master.masters.congested()
    with pytest.raises(BackpressureError):
        commands.broadcast("a")
    with pytest.raises(BackpressureError):
        commands.ping(fd)
    assert master.sent().others == [(PUSH, fd, b"x" * 1000)] * count
    assert master.masters.congested()
    master.deliver(closing(fd), credit=master.link.sent)
    assert not master.masters.congested()
    assert commands.push(fd, "a")
