"""Commands from other threads: in order, bounded, and without deadlocks."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.process.waiting import PATIENCE_S, is_readable, wait_for
from zwoole.shared.errors import BackpressureError
from zwoole.workers.links import mailbox
from zwoole.workers.links.mailbox import Mailbox


def always() -> bool:
    return True


def readable(box: Mailbox) -> bool:
    return is_readable(box.descriptor)


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_commands_run_in_order_and_the_descriptor_tells_of_them() -> None:
    box = Mailbox(1000)
    ran: list[int] = []
    assert not readable(box)
    for number in range(3):
        box.put(lambda number=number: ran.append(number), 1)  # type: ignore[misc]
    assert readable(box)
    box.run(always)
    assert ran == [0, 1, 2]
    assert not readable(box)


def test_a_command_that_fails_is_logged_and_the_next_one_runs(log: pytest.LogCaptureFixture) -> None:
    box = Mailbox(1000)
    ran: list[int] = []
    box.put(lambda: 1 // 0, 0)
    box.put(lambda: ran.append(1), 0)
    box.run(always)
    assert ran == [1]
    assert "a command from another thread failed" in log.text


def test_no_command_runs_that_would_have_to_wait() -> None:
    box = Mailbox(10_000)
    ran: list[int] = []
    for number in range(3):
        box.put(lambda number=number: ran.append(number), 1)  # type: ignore[misc]
    box.run(lambda: len(ran) < 2)
    assert ran == [0, 1]
    box.run(always)
    assert ran == [0, 1, 2]


def test_a_thread_waits_while_there_is_no_room() -> None:
    box = Mailbox(10_000)
    put: list[int] = []
    ran: list[int] = []

    def hurry() -> None:
        for number in range(200):
            box.put(lambda: ran.append(1), 1000)
            put.append(number)

    thread = in_thread(hurry)
    wait_for(lambda: len(put) > 1, "commands to be put while none runs")
    highest = 0
    while len(ran) < 200:
        assert is_readable(box.descriptor, PATIENCE_S)
        highest = max(highest, len(put) - len(ran))
        box.run(always)
    thread.join(PATIENCE_S)
    assert 1 < highest <= 10


def test_a_thread_that_waits_in_vain_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the running callback waits for that very thread."""
    monkeypatch.setattr(mailbox, "WAIT_S", 0.05)
    box = Mailbox(1000)
    box.put(lambda: None, 5000)
    with pytest.raises(BackpressureError):
        box.put(lambda: None, 1)


def test_closing_lets_those_who_wait_go() -> None:
    box = Mailbox(1000)
    box.put(lambda: None, 5000)
    thread = in_thread(lambda: box.put(lambda: None, 1))
    thread.join(0.05)
    assert thread.is_alive()
    box.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_it_is_woken_without_a_command() -> None:
    box = Mailbox(1000)
    for _ in range(100_000):  # more than its pipe holds
        box.wake()
    assert readable(box)
