"""From a batch to callbacks, in an app without coroutines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest

from tests.conftest import Time
from tests.workers.worker_parts import SERVER, Master, closing, end, message, opening
from zwoole.shared.memory.progress_map import FINISHED, STARTED, WAITING
from zwoole.shared.wire.batches import WireError
from zwoole.shared.wire.events import ADOPT, CALLBACKS, DRAIN, FAIL, MOVED, OPEN, PUSH
from zwoole.workers.invocation.received_frame import Frame

Calls = list[tuple[Any, ...]]
NEW_KIND = 12  # of no event


@pytest.fixture
def calls() -> Calls:
    return []


@pytest.fixture
def master(calls: Calls) -> Iterator[Master]:
    def recorder(name: str) -> Callable[..., None]:
        return lambda *arguments: calls.append((name, *arguments))

    with Master({name: recorder(name) for name in ("open", "message", "close")}) as master:
        yield master


def test_callbacks_run_in_the_order_of_the_batch(master: Master, calls: Calls) -> None:
    master.deliver(opening(1, "/path?a=b"), message(1, "text"), message(2, b"bytes"), closing(1, 1001, "why", "server"))
    assert [call[:2] for call in calls] == [(name, SERVER) for name in ("open", "message", "message", "close")]
    request = calls[0][2]
    assert (request.fd, request.path, request.query_string) == (1, "/path", "a=b")
    frames: list[Frame] = [call[2] for call in calls[1:3]]
    assert [(frame.fd, frame.data, frame.opcode) for frame in frames] == [(1, "text", 1), (2, b"bytes", 2)]
    assert calls[3][2:] == (1, 1001, "why", "server")
    assert master.counts.finished == 4


@pytest.mark.parametrize("data", ["", b"", "é" * 40_000, b"\0" * 32768, "x" * 300])
def test_text_arrives_as_str_and_binary_as_bytes_whatever_the_size(
    master: Master, calls: Calls, data: str | bytes
) -> None:
    master.deliver(message(1, data), message(1, b"next"))
    assert [call[2].data for call in calls] == [data, b"next"]
    assert type(calls[0][2].data) is type(data)


def test_events_are_acknowledged_in_one_range_behind_the_pushes_of_their_callbacks() -> None:
    with Master({"message": lambda _, frame: master.commands.push(frame.fd, frame.data)}) as master:
        fd = master.connect()
        master.deliver(message(fd, "a"), message(fd, "b"), closing(fd))
        sent = master.sent()
        assert sent.others == [(PUSH, fd, "a"), (PUSH, fd, "b")]
        assert sent.acknowledged == [0, 1, 2]
        assert sent.commands[-1][0] != PUSH
        assert len(sent.commands) == 3


def test_events_without_a_callback_are_acknowledged() -> None:
    with Master() as master:
        master.deliver(opening(1), message(1, "a"), closing(1), (DRAIN, 0, None))
        assert master.sent().acknowledged == [0, 1, 2, 3]


def test_progress_is_marked_before_and_after_a_callback() -> None:
    seen: list[list[int]] = []

    def look(*_: object) -> None:
        seen.append([master.progress.read(sequence) for sequence in range(3)])

    with Master({"open": look, "message": look, "close": look}) as master:
        master.deliver(opening(1), message(1, "a"), closing(1))
        assert seen == [
            [STARTED, WAITING, WAITING],
            [FINISHED, STARTED, WAITING],
            [FINISHED, FINISHED, STARTED],
        ]
        assert [master.progress.read(sequence) for sequence in range(3)] == [FINISHED] * 3


def test_messages_of_a_connection_that_this_worker_ended_are_acknowledged_and_not_run(
    master: Master, calls: Calls
) -> None:
    fd = master.connect()
    master.commands.disconnect(fd)
    master.deliver(message(fd, "a"), closing(fd, 1000))
    assert [call[0] for call in calls] == ["close"]
    assert master.sent().acknowledged == [0, 1]
    assert fd not in master.commands.ended


def test_replies_leave_during_a_batch_when_they_are_much() -> None:
    with Master({"message": lambda _, frame: master.commands.push(frame.fd, b"x" * 20_000)}) as master:
        fd = master.connect()
        master.deliver(*(message(fd, "a") for _ in range(10)))
        sent = master.sent()
        assert sent.batches >= 3
        assert sent.acknowledged == list(range(10))


def test_replies_leave_during_a_batch_when_they_are_old(time: Time) -> None:
    def slow(_: object, frame: Frame) -> None:
        master.commands.push(frame.fd, "a")
        time.now += 0.002

    with Master({"message": slow}) as master:
        fd = master.connect()
        master.deliver(*(message(fd, "a") for _ in range(6)))
        assert master.sent().batches == 6


def test_what_is_no_callbacks_goes_to_the_runtime_and_the_unknown_is_counted(
    master: Master, log: pytest.LogCaptureFixture
) -> None:
    master.deliver((DRAIN, 0, None), (30, 5, b"body"), (100, 1, b""))
    assert master.rare == [(DRAIN, 0, b""), (30, 5, b"body"), (100, 1, b"")]
    assert master.dispatcher.unknown == 1
    assert master.sent().acknowledged == [0, 1, 2]


def test_close_does_not_run_here_for_a_connection_that_another_worker_has(master: Master, calls: Calls) -> None:
    master.deliver(opening(1), opening(2), opening(3), (MOVED, 0, msgpack.packb([1, 3])))
    calls.clear()
    master.dispatcher.master_died(master.link)
    assert [call[2:] for call in calls] == [(2, 1006, "the master process died", "server")]


@pytest.mark.parametrize("kind", [OPEN, ADOPT])
def test_a_state_that_cannot_be_unpacked_fails_its_own_connection_only(
    kind: int, log: pytest.LogCaptureFixture, calls: Calls, master: Master
) -> None:
    fd = master.connect()
    _, _, bad = opening(fd, state=msgpack.packb({(1, 2): 3}))
    master.deliver((kind, fd, bad), message(2, "of another connection"))
    sent = master.sent()
    assert sent.others == [(FAIL, fd, end(1011, "callback failed"))]
    assert sent.acknowledged == [0, 1]
    assert [call[0] for call in calls] == ["message"]
    assert f"the {CALLBACKS[kind]!r} callback failed for fd {fd}, which is closed with 1011" in log.text


def test_credit_never_goes_back(master: Master) -> None:
    old = master.batch(credit=100)
    master.deliver(credit=200)
    master.dispatcher.take_batch(master.link, old)
    assert master.link.credit == 200


@pytest.mark.parametrize("batch", [[b""], [b"\xdd"], [b"\xdd\0\0\0\1\0"], [b"not a batch"]])
def test_what_is_no_batch_is_an_error(master: Master, batch: list[bytes]) -> None:
    with pytest.raises(WireError):
        master.dispatcher.take_batch(master.link, batch)


def test_open_is_given_the_state(master: Master, calls: Calls) -> None:
    master.deliver(opening(1, state=msgpack.packb({"user": 7})), opening(2))
    assert [call[2].state for call in calls] == [{"user": 7}, None]


def test_an_event_that_only_the_table_knows_calls_its_callback(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    """So that a new kind of event needs a row in the table, a sender, and a name that users register, and no more."""
    monkeypatch.setitem(CALLBACKS, NEW_KIND, "ripple")
    with Master({"ripple": lambda *arguments: calls.append(arguments)}) as master:
        master.deliver((NEW_KIND, 5, None), (NEW_KIND, 5, msgpack.packb({"height": 3})))
        assert calls == [(SERVER, 5), (SERVER, {"height": 3})]
