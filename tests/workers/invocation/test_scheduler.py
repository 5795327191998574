"""Coroutines: the order on each connection, interleaving at await, failures, backpressure, the end."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from tests.conftest import Time
from tests.process.waiting import PATIENCE_S
from tests.workers.worker_parts import SLOW_S, AsyncMaster, closing, end, in_loop, message, opening, settle
from zwoole.shared.memory.progress_map import FINISHED, STARTED, WAITING
from zwoole.shared.wire.events import FAIL, PUSH
from zwoole.workers.invocation.runner import MAX_IDLE_RUNNERS

Frame = Any
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Steps:
    """A callback whose runs begin, wait until they are told to continue, and end."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    async def __call__(self, _: object, frame: Frame) -> None:
        self.log.append(f"{frame.data} begins")
        self.gates[frame.data] = asyncio.Event()
        await self.gates[frame.data].wait()
        self.log.append(f"{frame.data} ends")

    async def let(self, *names: str) -> None:
        for name in names:
            self.gates[name].set()
            await settle()


@in_loop
async def test_events_of_one_connection_run_one_at_a_time_in_order() -> None:
    log: list[str] = []

    async def record(name: str) -> None:
        log.append(f"{name} begins")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        log.append(f"{name} ends")

    callbacks = {
        "open": lambda _, request: record("open"),
        "message": lambda _, frame: record(frame.data),
        "close": lambda *_: record("close"),
    }
    with AsyncMaster(callbacks) as master:
        master.deliver(opening(1), message(1, "a"), message(1, "b"))
        master.deliver(closing(1))
        assert log == []
        await settle()
        assert log == [f"{name} {what}" for name in ("open", "a", "b", "close") for what in ("begins", "ends")]
        assert not master.scheduler.busy()
        assert master.sent().acknowledged == [0, 1, 2, 3]


@in_loop
async def test_whatever_a_coroutine_raises_ends_its_connection_only(log: pytest.LogCaptureFixture) -> None:
    kinds: dict[int, type[BaseException]] = {}

    async def on_message(_: object, frame: Frame) -> None:
        raise kinds[frame.fd]

    with AsyncMaster({"message": on_message}) as master:
        for kind in (KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, BaseException):
            kinds[master.connect()] = kind
        master.deliver(*(message(fd, "a") for fd in kinds))
        await settle()
        assert master.sent().others == [(FAIL, fd, end(1011, "callback failed")) for fd in kinds]
    assert len(log.records) == len(kinds)


@in_loop
async def test_connections_interleave_at_await_only() -> None:
    steps = Steps()
    with AsyncMaster({"message": steps}) as master:
        master.deliver(message(1, "a"), message(2, "b"), message(1, "c"), message(3, "d"))
        await settle()
        assert steps.log == ["a begins", "b begins", "d begins"]
        await steps.let("b", "a")
        assert steps.log[3:] == ["b ends", "a ends", "c begins"]
        assert master.scheduler.busy()
        await steps.let("d", "c")
        assert steps.log[6:] == ["d ends", "c ends"]
        assert master.sent().acknowledged == [1, 0, 3, 2]


@in_loop
async def test_callbacks_that_do_not_suspend_share_one_runner() -> None:
    tasks = set()

    async def callback(_: object, frame: Frame) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task.get_name())

    with AsyncMaster({"message": callback}) as master:
        for _ in range(5):
            master.deliver(*(message(fd, "a") for fd in range(1, 50)))
            await settle()
        assert len(tasks) == 1
        assert master.sent().acknowledged == list(range(245))


@in_loop
async def test_runners_are_used_again_and_few_are_kept() -> None:
    steps = Steps()
    with AsyncMaster({"message": steps}) as master:
        before = len(asyncio.all_tasks())
        for round_ in range(3):
            names = [f"{round_}.{fd}" for fd in range(1, 101)]
            master.deliver(*(message(fd, name) for fd, name in enumerate(names, 1)))
            for _ in range(10):
                await settle()
            assert len(steps.gates) == 100 * (round_ + 1)
            for name in names:
                steps.gates[name].set()
            for _ in range(10):
                await settle()
            assert len(asyncio.all_tasks()) <= before + MAX_IDLE_RUNNERS
        assert len(master.sent().acknowledged) == 300


@in_loop
async def test_progress_is_marked_around_the_whole_coroutine() -> None:
    steps = Steps()
    with AsyncMaster({"message": steps}) as master:
        master.deliver(message(1, "a"), message(1, "b"))
        await settle()
        assert [master.progress.read(0), master.progress.read(1)] == [STARTED, WAITING]
        await steps.let("a", "b")
        assert [master.progress.read(0), master.progress.read(1)] == [FINISHED, FINISHED]


@in_loop
async def test_def_callbacks_run_in_the_same_order_and_may_block() -> None:
    log: list[object] = []

    async def on_open(_: object, request: Any) -> None:
        await asyncio.sleep(0)
        log.append(("open", master.masters.may_block))

    def on_message(_: object, frame: Frame) -> None:
        log.append((frame.data, master.masters.may_block))

    with AsyncMaster({"open": on_open, "message": on_message}) as master:
        master.deliver(opening(1), message(1, "a"), message(1, "b"))
        await settle()
        assert log == [("open", False), ("a", True), ("b", True)]
        assert not master.masters.may_block


@in_loop
async def test_context_variables_do_not_leak_to_other_events() -> None:
    seen: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        seen.append(variable.get())
        variable.set(frame.data)
        if frame.data == "b":
            await asyncio.sleep(0)
        seen.append(variable.get())

    with AsyncMaster({"message": callback}) as master:
        master.deliver(*(message(fd, data) for fd, data in enumerate("abcabc", 1)))
        await settle()
        assert sorted(seen) == sorted(["unset"] * 6 + list("abcabc"))
        assert len(master.sent().acknowledged) == 6


@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, KeyboardInterrupt, asyncio.TimeoutError])
@in_loop
async def test_a_failure_ends_its_connection_with_1011_and_the_others_go_on(
    log: pytest.LogCaptureFixture, error: type[BaseException], when: str
) -> None:
    ran: list[int] = []

    async def callback(_: object, frame: Frame) -> None:
        if when == "behind":
            await asyncio.sleep(0)
        if frame.fd == fds[0]:
            raise error
        ran.append(frame.fd)

    with AsyncMaster({"message": callback}) as master:
        fds = [master.connect(), master.connect()]
        master.deliver(*(message(fd, "a") for fd in (fds[0], fds[1], fds[0], fds[1])))
        await settle()
        assert ran == [fds[1]] * 2
        sent = master.sent()
        assert sent.others == [(FAIL, fds[0], end(1011, "callback failed"))]
        assert sorted(sent.acknowledged) == [0, 1, 2, 3]
    assert len(log.records) == 1


@in_loop
async def test_a_callback_that_cancels_its_own_task_costs_nobody_else(log: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        if frame.data == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        ran.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        fd = master.connect()
        master.deliver(message(fd, "cancel"), message(fd + 1, "a"), message(fd + 2, "b"))
        await settle()
        assert ran == ["a", "b"]
        assert sorted(master.sent().acknowledged) == [0, 1, 2]


@in_loop
async def test_system_exit_asks_for_the_end_of_the_worker(log: pytest.LogCaptureFixture) -> None:
    async def callback(*_: object) -> None:
        await asyncio.sleep(0)
        raise SystemExit

    with AsyncMaster({"message": callback}) as master:
        master.deliver(message(master.connect(), "a"))
        await settle()
        assert master.invoker.exit_requested
        assert master.sent().others == []


@in_loop
async def test_no_event_begins_while_too_much_is_on_its_way() -> None:
    ran: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        ran.append(frame.data)
        master.commands.push(frame.fd, b"x" * 1000)

    with AsyncMaster({"message": callback}, up_window=1500) as master:
        fds = [master.connect() for _ in range(5)]
        master.deliver(*(message(fd, str(fd)) for fd in fds))
        await settle()
        assert ran == ["1", "2"]
        master.scheduler.resume()
        await settle()
        assert ran == ["1", "2"]
        assert len(master.sent().others) == 2
        master.deliver(credit=master.link.sent)
        master.scheduler.resume()
        await settle()
        assert ran == ["1", "2", "3", "4"]


@in_loop
async def test_a_stop_cancels_what_runs_and_acknowledges_it_not() -> None:
    steps = Steps()
    with AsyncMaster({"message": steps}) as master:
        master.deliver(message(1, "a"), message(2, "b"))
        await settle()
        await master.scheduler.stop()
        assert steps.log == ["a begins", "b begins"]
        assert master.sent().acknowledged == []


@in_loop
async def test_a_stop_ends_though_a_callback_swallows_its_cancellation() -> None:
    ran: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ran.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        master.deliver(message(1, "a"), message(1, "behind"), message(2, "b"))
        await settle()
        await asyncio.wait_for(master.scheduler.stop(), PATIENCE_S)
        assert sorted(ran) == ["a", "b"]
        assert sorted(master.sent().acknowledged) == [0, 2]


@in_loop
@pytest.mark.parametrize("raises", [False, True])
async def test_a_slow_def_callback_is_reported_once_even_if_it_raises(
    log: pytest.LogCaptureFixture, time: Time, raises: bool
) -> None:
    def slow(_: object, frame: Frame) -> None:
        if frame.data == "slow":
            time.now += SLOW_S + 1
        if raises:
            raise ValueError("mine")

    with AsyncMaster({"message": slow}) as master:
        master.deliver(message(1, "a"), message(2, "slow"), message(3, "a"))
        await settle()
    said = [record.getMessage() for record in log.records if "nothing else ran" in record.getMessage()]
    assert len(said) == 1
    assert "fd 2" in said[0]


@in_loop
@pytest.mark.parametrize("raises", [False, True])
async def test_a_coroutine_that_awaits_for_long_is_not_reported_as_slow(
    log: pytest.LogCaptureFixture, time: Time, raises: bool
) -> None:
    gate = asyncio.Event()

    async def waits(*_: object) -> None:
        await gate.wait()
        if raises:
            raise ValueError("mine")

    with AsyncMaster({"message": waits}) as master:
        master.deliver(message(1, "a"))
        await settle()
        time.now += SLOW_S + 1
        gate.set()
        await settle()
        assert not master.scheduler.busy()
    assert [record for record in log.records if "nothing else ran" in record.getMessage()] == []
    assert len(log.records) == raises


@in_loop
async def test_replies_leave_before_their_acknowledgements() -> None:
    async def callback(_: object, frame: Frame) -> None:
        await asyncio.sleep(0)
        master.commands.push(frame.fd, frame.data)

    with AsyncMaster({"message": callback}) as master:
        fd = master.connect()
        master.deliver(*(message(fd, str(i)) for i in range(30)))
        for _ in range(10):
            await settle()
        sent = master.sent()
        assert sent.others == [(PUSH, fd, str(i)) for i in range(30)]
        pushed = 0
        for kind, number, body in sent.commands:
            if kind == PUSH:
                pushed += 1
            else:
                assert number + body <= pushed
