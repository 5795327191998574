"""The contract of callbacks, in an app without coroutines: failures, results, time, the answer of a handshake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Time
from tests.workers.worker_parts import SLOW_S, Master, asking, closing, end, message, opening
from zwoole.shared.wire.events import ACCEPT, FAIL, REFUSE, SET_STATE
from zwoole.workers.invocation.received_frame import Frame


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


def test_a_close_callback_that_fails_closes_nothing_more(log: pytest.LogCaptureFixture) -> None:
    with Master({"close": lambda *_: 1 // 0}) as master:
        master.deliver(closing(fd := master.connect()))
        sent = master.sent()
        assert (sent.others, sent.acknowledged) == ([], [0])
    assert [record.getMessage() for record in log.records] == [
        f"the 'close' callback failed for fd {fd}, which is gone"
    ]


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


def test_the_state_that_a_handshake_leaves_goes_before_its_answer() -> None:
    def on_handshake(_: object, request: Any) -> bool:
        request.state = {"user": 7}
        return bool(request.path == "/let in")

    with Master({"handshake": on_handshake}) as master:
        fds = [master.connect() for _ in range(2)]
        master.deliver(asking(fds[0], "/let%20in"), asking(fds[1], "/other"))
        kinds = [(kind, fd) for kind, fd, _ in master.sent().others]
        assert kinds == [(SET_STATE, fds[0]), (ACCEPT, fds[0]), (REFUSE, fds[1])]
