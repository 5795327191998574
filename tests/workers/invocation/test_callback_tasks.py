"""In a callback that is a coroutine, asyncio does what its users expect: tasks, timeouts, groups, contexts, cancelling.

Runners run many callbacks in one task, so most tests run other callbacks before and behind the one that they are about.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from tests.workers.worker_parts import AsyncMaster, by_the_loop, end, in_loop, message, opening, settle
from zwoole.shared.wire.events import FAIL
from zwoole.workers.invocation.runner import MAX_IDLE_RUNNERS

Frame = Any
Task = asyncio.Task[Any]
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def this_task() -> Task:
    task = asyncio.current_task()
    assert task is not None
    return task


async def deliver(master: AsyncMaster, *events: Any) -> None:
    """Deliver events as the worker's loop does, and let it run."""
    await by_the_loop(lambda: master.deliver(*events))


# When a callback runs.


@in_loop
async def test_a_callback_that_does_not_suspend_has_ended_when_its_batch_is_taken() -> None:
    ran: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        ran.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "makes a runner"))

        def now() -> None:
            master.deliver(message(1, "a"), message(2, "b"))
            assert ran[1:] == ["a", "b"]
            master.deliver(message(1, "c"))
            assert ran[1:] == ["a", "b", "c"]
            assert not master.scheduler.busy()

        await by_the_loop(now)
        assert ran[1:] == ["a", "b", "c"]


@in_loop
async def test_the_next_callback_begins_when_one_suspends() -> None:
    ran: list[str] = []
    gate = asyncio.Event()

    async def callback(_: object, frame: Frame) -> None:
        ran.append(frame.data)
        if frame.data == "waits":
            await gate.wait()
            ran.append("goes on")

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "waits"), message(2, "b"), message(1, "behind"), message(3, "c"))
        assert ran == ["waits", "b", "c"]
        gate.set()
        await settle()
        assert ran == ["waits", "b", "c", "goes on", "behind"]
        assert master.sent().acknowledged == [1, 3, 0, 2]


@in_loop
async def test_a_batch_that_is_taken_in_a_task_runs_soon() -> None:
    ran: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        ran.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        for data in "abc":
            master.deliver(message(1, data))
        assert ran == []
        await settle()
        assert ran == ["a", "b", "c"]


@in_loop
async def test_more_callbacks_wait_at_a_time_than_runners_are_kept() -> None:
    count = 3 * MAX_IDLE_RUNNERS
    gates = [asyncio.Event() for _ in range(count)]
    ended: list[int] = []

    async def callback(_: object, frame: Frame) -> None:
        await gates[frame.fd - 1].wait()
        ended.append(frame.fd)

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, *(message(fd, "a") for fd in range(1, count + 1)))
        while sum(bool(gate._waiters) for gate in gates) < count:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        for gate in reversed(gates):
            gate.set()
        await settle()
        assert ended == list(range(count, 0, -1))
        assert sorted(master.sent().acknowledged) == list(range(count))


@in_loop
async def test_in_debug_mode_the_loop_runs_each_step() -> None:
    ran: list[str] = []
    loop = asyncio.get_running_loop()

    async def callback(_: object, frame: Frame) -> None:
        ran.append(frame.data)
        if frame.data == "waits":
            await asyncio.sleep(0)
            ran.append("goes on")

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "first"))
        loop.set_debug(True)
        try:

            def now() -> None:
                master.deliver(message(1, "waits"), message(2, "b"), message(1, "behind"))
                assert ran == ["first"]

            await by_the_loop(now)
        finally:
            loop.set_debug(False)
        assert ran == ["first", "waits", "b", "goes on", "behind"]


# The task of a callback.


@in_loop
async def test_a_callback_has_one_task_from_begin_to_end() -> None:
    names: list[tuple[str, str]] = []

    async def callback(_: object, frame: Frame) -> None:
        names.append((frame.data, this_task().get_name()))
        await asyncio.sleep(0)
        names.append((frame.data, this_task().get_name()))
        await asyncio.sleep(0)
        names.append((frame.data, this_task().get_name()))

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "a"), message(2, "b"))
        assert len(names) == 6
        assert len(set(names)) == 2
        assert len({name for _, name in names}) == 2


@in_loop
async def test_tasks_are_used_again_though_callbacks_suspend() -> None:
    names: set[str] = set()
    waits: list[Callable[[], Awaitable[Any]]] = [
        lambda: asyncio.sleep(0),
        lambda: asyncio.sleep(0.001),
        lambda: asyncio.gather(asyncio.sleep(0), asyncio.sleep(0)),
        lambda: asyncio.wait_for(asyncio.sleep(0), 10),
        lambda: asyncio.shield(asyncio.sleep(0)),
    ]

    async def callback(_: object, frame: Frame) -> None:
        names.add(this_task().get_name())
        for wait in waits:
            await wait()

    with AsyncMaster({"message": callback}) as master:
        for _ in range(20):
            await deliver(master, message(1, "a"))
            while master.scheduler.busy():
                await asyncio.sleep(0.001)
            assert len(master.sent().acknowledged) == 1
        assert len(names) == 1


@pytest.mark.parametrize("suspends", [False, True])
@in_loop
async def test_a_task_that_somebody_has_is_done_when_its_callback_has_ended(suspends: bool) -> None:
    tasks: dict[str, Task] = {}

    async def callback(_: object, frame: Frame) -> None:
        tasks[frame.data] = this_task()
        if suspends:
            await asyncio.sleep(0)

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "a"), message(1, "b"), message(2, "c"))
        await settle()
        assert len(set(tasks.values())) == 3
        assert all(task.done() and not task.cancelled() for task in tasks.values())
        assert sorted(master.sent().acknowledged) == [0, 1, 2]


@pytest.mark.parametrize("suspends", [False, True])
@in_loop
async def test_what_watches_a_task_is_called_when_its_callback_has_ended(suspends: bool) -> None:
    log: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        if frame.data == "watched":
            this_task().add_done_callback(lambda _: log.append("done"))
        if suspends:
            await asyncio.sleep(0)
        log.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "watched"))
        await deliver(master, message(1, "next"))
        assert log == ["watched", "done", "next"]


@in_loop
async def test_cancelling_a_task_whose_callback_has_ended_does_nothing() -> None:
    tasks: list[Task] = []
    ran: list[str] = []
    gate = asyncio.Event()

    async def callback(_: object, frame: Frame) -> None:
        if frame.data == "held":
            tasks.append(this_task())
        else:
            await gate.wait()
        ran.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "held"), message(1, "next"), message(2, "other"))
        assert tasks[0].cancel() is False
        gate.set()
        await settle()
        assert sorted(ran) == ["held", "next", "other"]


@in_loop
async def test_a_callback_that_cancels_its_task_and_ends_costs_no_other_anything() -> None:
    ran: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        if frame.data == "cancels":
            this_task().cancel()
            return
        await asyncio.sleep(0)
        ran.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        fd = master.connect()
        await deliver(master, message(fd, "a"))
        await deliver(master, message(fd, "cancels"), message(fd, "b"), message(fd + 1, "c"))
        assert sorted(ran) == ["a", "b", "c"]
        sent = master.sent()
        assert sorted(sent.acknowledged) == [0, 1, 2, 3]
        assert sent.others == []


@in_loop
async def test_a_cancelled_callback_may_clean_up_or_swallow_it(log: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []
    tasks: dict[str, Task] = {}

    async def callback(_: object, frame: Frame) -> None:
        tasks[frame.data] = this_task()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # cleaning up may await
            ran.append(frame.data)
            if frame.data == "raises":
                raise

    with AsyncMaster({"message": callback}) as master:
        fds = [master.connect(), master.connect()]
        await deliver(master, message(fds[0], "swallows"), message(fds[1], "raises"))
        for task in tasks.values():
            assert task.cancel()
        await settle()
        assert sorted(ran) == ["raises", "swallows"]
        sent = master.sent()
        assert sent.others == [(FAIL, fds[1], end(1011, "callback failed"))]
        assert sorted(sent.acknowledged) == [0, 1]
    assert len(log.records) == 1


@in_loop
async def test_cancelling_an_idle_runner_costs_no_event_anything() -> None:
    ran: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        ran.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "a"))
        mine = asyncio.current_task()
        others = asyncio.all_tasks() - {mine}
        (idle,) = (task for task in others if "idle after message" in repr(task))
        idle.cancel()
        await deliver(master, message(1, "b"))
        assert ran == ["a", "b"]
        assert idle.cancelled()


@in_loop
async def test_cancelling_a_runner_that_has_not_begun_costs_no_event_anything() -> None:
    ran: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        ran.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        before = asyncio.all_tasks()

        def now() -> None:
            master.deliver(message(1, "a"))
            (made,) = asyncio.all_tasks(loop) - before
            made.cancel()

        loop = asyncio.get_running_loop()
        await by_the_loop(now)
        assert ran == ["a"]


@in_loop
async def test_a_suspended_callback_is_named_and_has_a_stack() -> None:
    tasks: list[Task] = []

    async def innermost() -> None:
        await asyncio.Event().wait()

    async def callback(_: object, frame: Frame) -> None:
        tasks.append(this_task())
        await innermost()

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "a"))
        (task,) = tasks
        assert "callback" in repr(task)
        assert "callback" in repr(task.get_coro())
        (frame,) = task.get_stack()
        assert frame.f_code.co_name == "callback"
        coroutine: Any = task.get_coro()
        assert coroutine.cr_code.co_name == "callback"
        assert coroutine.cr_await.__name__ == "innermost"
        assert not coroutine.cr_running
        with pytest.raises(AttributeError):
            _ = coroutine.nothing
        await master.scheduler.stop()
        assert "idle" in repr(task.get_coro())
        assert task.get_stack() == []


@in_loop
async def test_a_runner_is_a_coroutine_and_can_be_closed() -> None:
    log: list[str] = []
    tasks: list[Task] = []

    async def callback(_: object, frame: Frame) -> None:
        tasks.append(this_task())
        try:
            await asyncio.Event().wait()
        finally:
            log.append("closed")

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "a"))
        coroutine: Any = tasks[0].get_coro()
        assert asyncio.iscoroutine(coroutine)
        coroutine.close()
        assert log == ["closed"]
        coroutine.close()
        await master.scheduler.stop()


# Timeouts and groups.


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 lacks asyncio.timeout")
@in_loop
async def test_a_timeout_ends_what_it_is_around_and_nothing_else() -> None:
    log: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        if frame.data == "quick":
            await asyncio.sleep(0)
            log.append("quick")
            return
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            assert this_task().cancelling() == 0
            await asyncio.sleep(0)
            log.append("timeout")

    with AsyncMaster({"message": callback}) as master:
        for _ in range(5):
            await deliver(master, message(1, "slow"), message(2, "quick"), message(1, "quick"))
            while master.scheduler.busy():
                await asyncio.sleep(0.001)
            assert log == ["quick", "timeout", "quick"]
            log.clear()
        assert sorted(master.sent().acknowledged) == list(range(15))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 lacks asyncio.timeout")
@in_loop
async def test_a_timeout_around_what_does_not_suspend_leaves_nothing() -> None:
    ran: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        async with asyncio.timeout(0.001):
            ran.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, *(message(fd, "a") for fd in range(1, 50)))
        await asyncio.sleep(0.005)
        await deliver(master, *(message(fd, "b") for fd in range(1, 50)))
        assert ran == ["a"] * 49 + ["b"] * 49


@in_loop
async def test_wait_for_works_in_a_callback() -> None:
    log: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        except asyncio.TimeoutError:
            log.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "a"), message(1, "b"), message(2, "c"))
        while master.scheduler.busy():
            await asyncio.sleep(0.001)
        assert sorted(log) == ["a", "b", "c"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 lacks task groups")
@pytest.mark.parametrize("fails", [False, True])
@in_loop
async def test_task_groups_work_in_a_callback(fails: bool, log: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []

    async def child(name: str) -> None:
        await asyncio.sleep(0)
        if fails and name.endswith("1"):
            raise ValueError(name)
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            ran.append(f"{name} is cancelled")
            raise
        ran.append(name)

    async def callback(_: object, frame: Frame) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(child(f"{frame.data}{number}"))
        ran.append(f"{frame.data} ends")

    with AsyncMaster({"message": callback}) as master:
        fd = master.connect()
        await deliver(master, message(fd, "a"))
        await deliver(master, message(fd, "b"))
        sent = master.sent()
        assert sent.acknowledged == [0, 1] if not fails else [0]
        if fails:
            assert sorted(ran) == ["a0 is cancelled", "a2 is cancelled"]
            assert sent.others == [(FAIL, fd, end(1011, "callback failed"))]
        else:
            assert ran == ["a0", "a1", "a2", "a ends", "b0", "b1", "b2", "b ends"]
    assert len(log.records) == fails


# Context variables.


@in_loop
async def test_a_callback_keeps_its_context_over_its_awaits_and_gives_it_to_its_tasks() -> None:
    seen: list[tuple[str, str]] = []

    async def child(name: str) -> None:
        seen.append((f"child of {name}", variable.get()))

    async def callback(_: object, frame: Frame) -> None:
        assert variable.get() == "of the worker"
        variable.set(frame.data)
        await asyncio.sleep(0)
        seen.append((frame.data, variable.get()))
        await asyncio.gather(child(frame.data), asyncio.create_task(child(frame.data)))
        seen.append((frame.data, variable.get()))

    variable.set("of the worker")
    with AsyncMaster({"message": callback}) as master:
        for _ in range(3):
            await deliver(master, *(message(fd, f"fd {fd}") for fd in range(1, 4)))
            assert len(seen) == 12
            assert {(name.removeprefix("child of "), value) for name, value in seen} == {
                (f"fd {fd}", f"fd {fd}") for fd in range(1, 4)
            }
            seen.clear()
    assert variable.get() == "of the worker"


@in_loop
async def test_def_callbacks_have_contexts_of_their_own_too() -> None:
    seen: list[str] = []

    def callback(_: object, frame: Frame) -> None:
        seen.append(variable.get())
        variable.set(frame.data)

    async def on_open(_: object, request: object) -> None:
        seen.append(variable.get())
        variable.set("open")

    with AsyncMaster({"message": callback, "open": on_open}) as master:
        await deliver(master, opening(1), message(1, "a"), message(1, "b"))
        assert seen == ["unset"] * 3


@in_loop
async def test_a_token_resets_its_variable_in_the_same_callback() -> None:
    seen: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        token = variable.set(frame.data)
        await asyncio.sleep(0)
        variable.reset(token)
        seen.append(variable.get())

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "a"), message(2, "b"))
        assert seen == ["unset"] * 2
        assert master.invoker.counts.failures == {}


# What a callback may return, await and raise.


class Answer:
    """Something that can be awaited and is no coroutine."""

    def __init__(self, ran: list[str], name: str) -> None:
        self.ran = ran
        self.name = name

    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(0).__await__()
        self.ran.append(self.name)
        return self.name


@in_loop
async def test_any_awaitable_is_awaited() -> None:
    ran: list[str] = []
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def callback(_: object, frame: Frame) -> Any:
        return future if frame.data == "future" else Answer(ran, frame.data)

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "a"), message(1, "future"), message(1, "b"))
        assert ran == ["a"]
        future.set_result(None)
        await settle()
        assert ran == ["a", "b"]
        assert master.sent().acknowledged == [0, 1, 2]


class Wrong:
    """An awaitable that yields what no task can wait for."""

    def __await__(self) -> Generator[Any, None, None]:
        yield "nothing to wait for"


@in_loop
async def test_awaiting_what_is_no_future_fails_the_callback_only(log: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []

    async def callback(_: object, frame: Frame) -> None:
        if frame.data == "wrong":
            await Wrong()
        ran.append(frame.data)

    with AsyncMaster({"message": callback}) as master:
        fd = master.connect()
        await deliver(master, message(fd, "wrong"), message(fd + 1, "a"))
        assert ran == ["a"]
        assert master.sent().others == [(FAIL, fd, end(1011, "callback failed"))]
    assert "bad yield" in log.text


@in_loop
async def test_an_exception_shows_where_it_was_raised(log: pytest.LogCaptureFixture) -> None:
    async def innermost() -> None:
        await asyncio.sleep(0)
        raise ValueError("mine")

    async def callback(*_: object) -> None:
        await innermost()

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(master.connect(), "a"))
    assert "in innermost" in log.text
    assert "in callback" in log.text


@in_loop
async def test_a_runner_refers_to_nothing_of_a_callback_that_has_ended() -> None:
    class Big:
        pass

    references: list[Any] = []

    async def callback(_: object, frame: Frame) -> None:
        big = Big()
        references.append(gc.is_tracked(big))
        variable.set(big)  # type: ignore[arg-type]
        if frame.data == "suspends":
            await asyncio.sleep(0)

    with AsyncMaster({"message": callback}) as master:
        await deliver(master, message(1, "a"), message(1, "suspends"))
        await settle()
        gc.collect()
        assert [each for each in gc.get_objects() if isinstance(each, Big)] == []
        assert len(references) == 2
