"""From a batch to callbacks, in an app without coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest

from tests.conftest import Time
from tests.workers.worker_parts import SERVER, SLOW_S, Master, asking, closing, end, message, opening
from zwoole.shared.memory.progress_map import FINISHED, STARTED, WAITING
from zwoole.shared.wire.batches import ACCEPT, DRAIN, FAIL, PUSH, REFUSE, SET_STATE, WireError
from zwoole.workers.frame import Frame

Calls = list[tuple[Any, ...]]


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


@pytest.mark.parametrize("error", [ValueError("v"), KeyboardInterrupt(), RecursionError()])
@pytest.mark.parametrize("event", ["open", "message"])
def test_an_exception_ends_its_connection_with_1011_and_nothing_else(
    log: pytest.LogCaptureFixture, event: str, error: BaseException
) -> None:
    messages: list[int] = []

    def callback(_: object, body: Any) -> None:
        if body.fd == 1:
            raise error
        messages.append(body.fd)

    with Master({event: callback}) as master:
        fds = [master.connect() for _ in range(2)]
        make = opening if event == "open" else lambda fd: message(fd, "a")
        master.deliver(make(fds[0]), make(fds[1]), message(fds[0], "never run"))
        sent = master.sent()
        assert sent.others == [(FAIL, 1, end(1011, "callback failed"))]
        assert sent.acknowledged == [0, 1, 2]
        assert messages == [2]
        assert not master.invoker.exit_requested
    (record,) = log.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "fd 1" in record.getMessage()


def test_an_exception_in_close_is_only_logged(log: pytest.LogCaptureFixture) -> None:
    with Master({"close": lambda *_: 1 / 0}) as master:
        master.deliver(closing(1))
        assert master.sent().commands == [(33, 0, 1)]
    assert len(log.records) == 1


def test_messages_of_a_connection_that_this_worker_ended_are_acknowledged_and_not_run(
    master: Master, calls: Calls
) -> None:
    fd = master.connect()
    master.commands.disconnect(fd)
    master.deliver(message(fd, "a"), closing(fd, 1000))
    assert [call[0] for call in calls] == ["close"]
    assert master.sent().acknowledged == [0, 1]
    assert fd not in master.commands.ended


def test_system_exit_asks_for_the_end_of_the_worker_and_closes_nobody(log: pytest.LogCaptureFixture) -> None:
    def leave(*_: object) -> None:
        raise SystemExit(1)

    with Master({"message": leave}) as master:
        fd = master.connect()
        master.deliver(message(fd, "a"))
        assert master.invoker.exit_requested
        sent = master.sent()
        assert sent.acknowledged == [0]
        assert sent.others == []


def test_a_slow_callback_is_reported(log: pytest.LogCaptureFixture, time: Time) -> None:
    def slow(_: object, frame: Frame) -> None:
        if frame.data == "slow":
            time.now += SLOW_S + 1

    with Master({"message": slow}) as master:
        master.deliver(message(1, "a"), message(2, "slow"), message(3, "a"))
    assert [("fd 2" in record.getMessage()) for record in log.records] == [True]


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


def test_credit_never_goes_back(master: Master) -> None:
    old = master.batch(credit=100)
    master.deliver(credit=200)
    master.dispatcher.take_batch(master.link, old)
    assert master.link.credit == 200


@pytest.mark.parametrize("batch", [[b""], [b"\xdd"], [b"\xdd\0\0\0\1\0"], [b"not a batch"]])
def test_what_is_no_batch_is_an_error(master: Master, batch: list[bytes]) -> None:
    with pytest.raises(WireError):
        master.dispatcher.take_batch(master.link, batch)


# Return values of plain callbacks.


def test_a_close_callback_that_fails_closes_nothing_more(log: pytest.LogCaptureFixture) -> None:
    with Master({"close": lambda *_: 1 // 0}) as master:
        master.deliver(closing(fd := master.connect()))
        sent = master.sent()
        assert (sent.others, sent.acknowledged) == ([], [0])
    assert [record.getMessage() for record in log.records] == [
        f"the 'close' callback failed for fd {fd}, which is gone"
    ]


async def answer(*_: Any) -> None: ...


@pytest.mark.parametrize("event", ["open", "message", "close"])
def test_a_callback_that_returns_a_coroutine_fails_and_says_once_what_to_do(
    event: str, log: pytest.LogCaptureFixture
) -> None:
    with Master({event: lambda *arguments: answer(*arguments)}) as master:
        fd = master.connect()
        for _ in range(3):
            master.deliver(opening(fd), message(fd, "a"), closing(fd))
        assert master.counts.failures == {event: 3}
        failed = [(FAIL, fd, end(1011, "callback failed"))] * 3
        assert master.sent().others == ([] if event == "close" else failed)
    (record,) = log.records
    assert f"the '{event}' callback returned a coroutine" in record.getMessage()
    assert "write this one as `async def`" in record.getMessage()


@pytest.mark.parametrize("result", [True, False, 0, "text", object()])
def test_other_results_mean_nothing(result: object, log: pytest.LogCaptureFixture) -> None:
    with Master({name: lambda *_: result for name in ("open", "message", "close")}) as master:
        fd = master.connect()
        master.deliver(opening(fd), message(fd, "a"), closing(fd))
        assert master.counts.failures == {}
    assert log.records == []


def test_a_callback_that_needs_a_loop_is_told_who_has_one(log: pytest.LogCaptureFixture) -> None:
    def on_message(*_: Any) -> None:
        asyncio.get_running_loop()  # as create_task does

    with Master({"message": on_message}) as master:
        master.deliver(message(master.connect(), "a"))
    (record,) = log.records
    assert "closed with 1011: the worker has an asyncio loop only if" in record.getMessage()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, BaseException])
def test_whatever_a_callback_raises_ends_its_connection_only(
    kind: type[BaseException], log: pytest.LogCaptureFixture
) -> None:
    def on_message(*_: Any) -> None:
        raise kind

    with Master({"message": on_message}) as master:
        fd = master.connect()
        master.deliver(message(fd, "a"))
        assert master.sent().others == [(FAIL, fd, end(1011, "callback failed"))]
    assert len(log.records) == 1


def test_the_state_that_a_handshake_leaves_goes_before_its_answer() -> None:
    def on_handshake(_: object, request: Any) -> bool:
        request.state = {"user": 7}
        return bool(request.path == "/let in")

    with Master({"handshake": on_handshake}) as master:
        fds = [master.connect() for _ in range(2)]
        master.deliver(asking(fds[0], "/let%20in"), asking(fds[1], "/other"))
        kinds = [(kind, fd) for kind, fd, _ in master.sent().others]
        assert kinds == [(SET_STATE, fds[0]), (ACCEPT, fds[0]), (REFUSE, fds[1])]


def test_open_is_given_the_state(master: Master, calls: Calls) -> None:
    master.deliver(opening(1, state=msgpack.packb({"user": 7})), opening(2))
    assert [call[2].state for call in calls] == [{"user": 7}, None]
