"""The worker's end of the link: acknowledgements, when a batch is sent, and what is in flight."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.worker_parts import Master, message, next_batch
from zwoole.shared.memory.mapping import anonymous, reserve
from zwoole.shared.memory.progress_map import FINISHED, STARTED
from zwoole.shared.memory.turn_counter import TURNS_BYTES, TurnCounter
from zwoole.shared.process.run_files import endpoint_path
from zwoole.shared.wire.events import ACK, PUSH
from zwoole.shared.wire.zmtp import ZmtpError
from zwoole.shared.wire.zmtp_socket import ZmtpSocket
from zwoole.workers.links import master_link
from zwoole.workers.links.flusher import AGED_S, Flusher


@pytest.fixture
def master() -> Iterator[Master]:
    with Master() as master:
        yield master


@pytest.mark.parametrize(
    ("finished", "ranges"),
    [
        ([], []),
        ([0], [(0, 1)]),
        ([5, 6, 7], [(5, 3)]),
        ([0, 2, 3, 1], [(0, 1), (2, 2), (1, 1)]),
        ([3, 2, 1, 0], [(3, 1), (2, 1), (1, 1), (0, 1)]),
    ],
)
def test_finished_events_in_a_row_are_acknowledged_as_one_range(
    master: Master, finished: list[int], ranges: list[tuple[int, int]]
) -> None:
    for sequence in finished:
        master.link.finished(sequence)
    assert master.sent().commands == [(ACK, first, count) for first, count in ranges]


@settings(max_examples=30)
@given(order=st.permutations(range(12)), flushes=st.sets(st.integers(0, 11)))
def test_every_event_is_acknowledged_once_in_the_order_of_its_end(order: list[int], flushes: set[int]) -> None:
    with Master() as master:
        for at, sequence in enumerate(order):
            master.link.finished(sequence)
            if at in flushes:
                master.link.flush()
        assert master.sent().acknowledged == order


def test_an_acknowledgement_never_leaves_before_the_pushes_of_its_callback(master: Master) -> None:
    for sequence in (0, 1, 5, 6, 2):
        master.link.writer.add_integer(PUSH, 1, sequence)
        master.link.finished(sequence)
    done: list[int] = []
    for kind, number, body in master.sent().commands:
        if kind == PUSH:
            done.append(body)
        else:
            assert set(range(number, number + body)) <= set(done)


class Alarm(Exception):
    """Raised by the app's signal handler."""


class Ended(BaseException):
    """Stands for the exit of this process."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the exit of this process raise Ended."""

    def end(code: int) -> None:
        assert code == master_link.INTERRUPTED
        raise Ended

    monkeypatch.setattr(os, "_exit", end)


@pytest.mark.skipif(
    master_link.__file__.endswith(".so"), reason="compiled code runs no handler in the middle of a batch"
)
@pytest.mark.parametrize("operation", ["send", "receive"])
def test_a_worker_ends_if_a_signals_handler_raises_in_the_middle_of_a_batch(
    master: Master, ends: None, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, operation: str
) -> None:
    def fail(*_: object) -> None:
        raise Alarm

    monkeypatch.setattr(ZmtpSocket, operation, fail)
    master.link.writer.add_bytes(PUSH, 1, b"a")
    with pytest.raises(Ended):
        master.link.flush() if operation == "send" else master.link.receive_new()
    assert "this worker ends: a signal handler of the app raised" in log.text


def test_a_master_that_breaks_the_protocol_is_an_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(endpoint_path(tmp_path, 1, 1)))
        listener.listen()
        link = master_link.MasterLink(tmp_path, 1, 1, Flusher())
        assert link.connect()
        with listener.accept()[0] as accepted, pytest.raises(ZmtpError, match="a greeting"):
            accepted.send(b"no ZMTP")
            link.receive_new()
        link.close(0)


def test_a_link_connects_as_soon_as_the_master_listens(tmp_path: Path) -> None:
    link = master_link.MasterLink(tmp_path, 1, 1, Flusher())
    assert not link.connect()
    link.wait(0.0)
    assert link.wire is None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(endpoint_path(tmp_path, 1, 1)))
        listener.listen()
        link.wait(0.0)
        assert link.wire is not None
        assert link.connect()
        link.close(0)
        assert not link.connect(), "a link that was closed stays closed"


def test_progress_is_marked(master: Master) -> None:
    master.link.started(3)
    assert master.progress.read(3) == STARTED
    master.link.finished(3)
    assert master.progress.read(3) == FINISHED


def test_the_end_of_an_event_is_a_turn_of_the_process(master: Master, tmp_path: Path) -> None:
    """A batch of slow callbacks is not a hang, even if the flusher has sent what each of them pushed."""
    memory = anonymous("turns", tmp_path)
    reserve(memory, 0, TURNS_BYTES)
    master.link.turns = TurnCounter(memory)
    os.close(memory)
    for sequence in range(3):
        master.link.finished(sequence)
    assert master.link.turns.read() == 3


def test_nothing_to_send_is_no_batch(master: Master) -> None:
    assert not master.link.flush_due(0.0, 1e9)
    assert master.sent().batches == 0


def test_a_batch_is_due_when_its_oldest_content_is_old(master: Master) -> None:
    """Its age counts from the start of the callback that wrote it: output of a slow one is not held back for the
    next one.
    """
    link = master.link
    for now in (100.0, 200.0):
        link.finished(0)
        assert not link.flush_due(now, now + AGED_S / 2)
        link.writer.add_text(PUSH, 1, b"a")
        assert not link.flush_due(now + AGED_S / 2, now + AGED_S * 0.9)
        assert link.flush_due(now + AGED_S * 0.9, now + AGED_S * 1.1)
        master.masters.flush()
        assert not link.flush_due(now + 1, now + 2)
    link.finished(1)
    assert link.flush_due(300.0, 300.0 + AGED_S * 2)


def test_a_batch_of_64_kib_is_due_at_once(master: Master) -> None:
    for _ in range(3):
        assert not master.link.flush_due(100.0, 100.0)
        master.link.writer.add_bytes(PUSH, 1, b"x" * 30_000)
    assert master.link.flush_due(100.0, 100.0)


def test_what_was_pushed_is_in_flight_until_the_master_has_taken_it(master: Master) -> None:
    link = master.link
    link.writer.add_bytes(PUSH, 1, b"x" * 1000)
    link.writer.add_bytes(PUSH, 1, b"x" * 40_000)
    assert 41_000 <= link.in_flight() <= 41_100
    master.sent()
    assert link.in_flight() == link.sent == master.received
    link.credit = link.sent
    assert link.in_flight() == 0


def test_batches_are_taken_in_order_and_the_inbox_first(master: Master) -> None:
    link = master.link
    master.send(message(1, "first"))
    master.send(message(1, b"x" * 40_000), message(1, "y"))
    first = next_batch(link)
    link.inbox.append(first)
    assert link.has_batches()
    assert link.receive() is first
    second = next_batch(link)
    assert len(second) == 2
    assert second[1] == b"x" * 40_000
    assert link.received == sum(len(part) for part in first + second)
    assert link.receive() is None
    assert not link.has_batches()


def test_a_closed_link_neither_takes_nor_sends(master: Master) -> None:
    link = master.link
    link.finished(0)
    link.close(0)
    assert link.closed
    assert not link.ready
    link.flush()
    assert link.receive() is None
    assert not link.has_batches()
    link.close(0)
