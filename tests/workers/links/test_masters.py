"""The links to all masters: which commands wait for them, what threads hand over, backpressure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import pytest

from tests.workers.worker_parts import PATIENCE_MS, Master, closing, end, in_thread, message, next_batch
from zwoole.shared.errors import BackpressureError, NotServing, QueueFull
from zwoole.shared.memory.connection_table import CLOSING
from zwoole.shared.wire.events import ACK, BROADCAST, BYE, DISCONNECT, PING, PUSH, WELCOME


@pytest.fixture
def master() -> Iterator[Master]:
    with Master() as master:
        yield master


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
    monkeypatch.setattr("zwoole.workers.links.masters.THREAD_WAIT_S", 0.01)
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


@pytest.mark.parametrize("command", ["push", "ping", "broadcast", "disconnect", "set_state"])
def test_a_command_of_the_own_thread_follows_those_that_threads_gave_before(master: Master, command: str) -> None:
    """A callback may have started a thread that pushes, and waited for it."""
    fd = master.connect()
    assert in_thread(lambda: master.commands.push(fd, "of the thread"))
    arguments: dict[str, tuple[Any, ...]] = {"broadcast": ("own",), "disconnect": (fd,)}
    getattr(master.commands, command)(*arguments.get(command, (fd, "own")))
    master.masters.flush()
    kinds = [kind for kind, *_ in master.sent().commands]
    assert kinds == [PUSH, {"push": PUSH, "ping": PING, "broadcast": BROADCAST}.get(command, kinds[1])]
    assert len(kinds) == 2


def congest(master: Master) -> int:
    """Push more than the window to a new connection, then push from another thread; return the fd."""
    master.link.up_window = 100
    fd = master.connect()
    assert master.commands.push(fd, b"x" * 1000)
    assert in_thread(lambda: master.commands.push(fd, b"of the thread"))
    return fd


def test_a_coroutine_overtakes_no_push_of_a_thread_while_far_too_much_is_on_its_way(master: Master) -> None:
    fd = congest(master)
    master.masters.may_block = False
    with pytest.raises(BackpressureError):
        master.commands.push(fd, "own")
    assert master.sent().commands == [(PUSH, fd, b"x" * 1000)]
    master.link.credit = 10_000
    assert master.commands.push(fd, "own")
    master.masters.flush()
    assert master.sent().commands == [(PUSH, fd, b"of the thread"), (PUSH, fd, "own")]


def test_an_acknowledgement_does_not_overtake_the_pushes_of_threads(master: Master) -> None:
    """A callback may have waited for its thread: the client must get the push before the callback counts as
    finished.
    """
    fd = congest(master)
    master.link.finished(0)
    master.masters.flush()
    assert master.sent().commands == [(PUSH, fd, b"x" * 1000)]
    master.send(credit=10_000)
    master.dispatcher.take_batch(master.link, next_batch(master.link))
    master.masters.flush()
    master.link.finished(1)
    assert master.sent().commands == [(PUSH, fd, b"of the thread"), (ACK, 0, 1), (ACK, 1, 1)]


def test_the_end_of_a_worker_loses_nothing_that_threads_have_pushed(master: Master) -> None:
    fd = congest(master)
    master.link.finished(0)
    master.masters.flush_all()
    assert master.sent().commands == [(PUSH, fd, b"x" * 1000), (PUSH, fd, b"of the thread"), (ACK, 0, 1)]


def test_a_goodbye_sends_what_is_left_and_closes_the_links(master: Master) -> None:
    fd = congest(master)
    master.masters.goodbye(1.0)
    assert master.link.closed
    assert master.sent().commands == [(PUSH, fd, b"x" * 1000), (PUSH, fd, b"of the thread"), (BYE, 0, None)]
    with pytest.raises(NotServing, match="said goodbye"):
        master.commands.push(fd, "a")


def test_output_is_announced(master: Master) -> None:
    announced: list[int] = []
    master.masters.on_output = lambda: announced.append(1)
    fd = master.connect()
    master.commands.push(fd, "a")
    master.commands.ping(fd)
    master.commands.broadcast("a")
    master.commands.disconnect(fd)
    assert len(announced) == 4


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


@pytest.mark.parametrize("command", ["push", "ping"])
def test_a_command_that_waited_says_whether_the_connection_is_still_there(master: Master, command: str) -> None:
    def close() -> None:
        master.table.set_state(fd, CLOSING)
        master.masters.on_wait = lambda: None
        master.send(credit=10_000)

    fd = master.connect()
    master.link.up_window = 100
    assert master.commands.push(fd, b"x" * 1000)
    master.masters.on_wait = close
    assert not getattr(master.commands, command)(fd, "a")
    assert master.link.credit == 10_000


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
