"""The connection of a coroutine handler, compared with what the websockets library documents for its own."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest

from tests.workers.handler_parts import begin, commands, end_connection, say
from tests.workers.worker_parts import AsyncMaster, by_the_loop, closing, end, in_loop, message, opening, settle
from zwoole.shared.errors import ConcurrencyError, ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from zwoole.shared.memory.connection_table import CLOSING
from zwoole.shared.wire.events import DISCONNECT, PUSH, SYNC
from zwoole.workers.invocation.handlers import HandlerConnection

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@in_loop
async def test_the_connection_knows_its_request() -> None:
    known: list[object] = []

    async def handler(ws: HandlerConnection) -> None:
        known.extend([ws.fd, ws.request.path, ws.remote_address, ws.subprotocol, ws.close_code, ws.close_reason])
        known.append(repr(ws))

    master, fd = await begin(handler)
    with master:
        assert known[:-1] == [fd, "/ws", ("192.0.2.1", 4000), None, None, None]
        assert known[-1] == f"<HandlerConnection fd={fd} path='/ws' close_code=None>"


@in_loop
async def test_messages_arrive_in_order_as_what_they_were_sent() -> None:
    received: list[str | bytes] = []

    async def handler(ws: HandlerConnection) -> None:
        async for data in ws:
            received.append(data)
            await ws.send(data)

    master, fd = await begin(handler)
    with master:
        await say(master, message(fd, "a"), message(fd, b"b"), message(fd, ""))
        assert received == ["a", b"b", ""]
        assert commands(master) == [(PUSH, fd, "a"), (PUSH, fd, b"b"), (PUSH, fd, "")]


@in_loop
async def test_a_messages_credit_returns_when_the_next_is_asked_for() -> None:
    gate = asyncio.Event()

    async def handler(ws: HandlerConnection) -> None:
        await ws.recv()
        await gate.wait()
        await ws.recv()

    master, fd = await begin(handler)
    with master:
        await say(master, message(fd, "a"), message(fd, "b"), message(fd, "c"))
        assert master.sent().acknowledged == [0]
        gate.set()
        await settle()
        assert master.sent().acknowledged == [1, 2, 3]  # the handler returned: it will not read the rest


@pytest.mark.parametrize("code", [1000, 1001, 1005])
@in_loop
async def test_iteration_ends_quietly_when_the_connection_ends_well(code: int) -> None:
    after: list[object] = []

    async def handler(ws: HandlerConnection) -> None:
        async for data in ws:
            after.append(data)
        after.append((ws.close_code, ws.close_reason))
        with pytest.raises(ConnectionClosedOK) as info:
            await ws.recv()
        after.append((info.value.code, info.value.reason))

    master, fd = await begin(handler)
    with master:
        await say(master, message(fd, "a"))
        await end_connection(master, fd, code, "why")
        assert after == ["a", (code, "why"), (code, "why")]
        assert commands(master) == []


@pytest.mark.parametrize("code", [1002, 1006, 1009, 1011, 1012, 3000, 4999])
@in_loop
async def test_iteration_raises_when_the_connection_ends_otherwise(code: int, log: pytest.LogCaptureFixture) -> None:
    raised: list[ConnectionClosed] = []

    async def handler(ws: HandlerConnection) -> None:
        try:
            async for _ in ws:
                pass
        except ConnectionClosedError as error:
            raised.append(error)
            raise

    master, fd = await begin(handler)
    with master:
        await end_connection(master, fd, code, "why")
        assert [(error.code, error.reason) for error in raised] == [(code, "why")]
        assert str(code) in str(raised[0])
    assert log.records == []  # a client that leaves is not a failure of the handler


@in_loop
async def test_messages_that_came_before_the_end_can_still_be_read() -> None:
    gate = asyncio.Event()
    received: list[str | bytes] = []

    async def handler(ws: HandlerConnection) -> None:
        await gate.wait()
        received.extend([data async for data in ws])

    master, fd = await begin(handler)
    with master:
        await say(master, message(fd, "a"), message(fd, "b"))
        await end_connection(master, fd)
        gate.set()
        await settle()
        assert received == ["a", "b"]
        assert sorted(master.sent().acknowledged) == [0, 1, 2, 3]


@in_loop
async def test_a_cancelled_recv_loses_no_message() -> None:
    received: list[Any] = []

    async def handler(ws: HandlerConnection) -> None:
        for _ in range(2):
            waits = asyncio.ensure_future(ws.recv())
            await asyncio.sleep(0)
            if not received:  # cancelled in the very turn in which the message arrives
                master.deliver(message(fd, "a"))
            waits.cancel()
            received.append(await asyncio.gather(waits, return_exceptions=True))
        received.append(await ws.recv())

    with AsyncMaster(handlers={"/ws": handler}) as master:
        fd = master.connect()
        await say(master, opening(fd, "/ws"))
        await say(master, message(fd, "b"))
        assert received[-1] in ("a", "b")
        cancelled = [result for (result,) in received[:-1] if isinstance(result, asyncio.CancelledError)]
        read = [result for (result,) in received[:-1] if isinstance(result, str)] + [received[-1]]
        assert len(cancelled) + len(read) == 3
        assert read == ["a", "b"][: len(read)]


@in_loop
async def test_recv_with_a_timeout_can_be_tried_again() -> None:
    received: list[object] = []

    async def handler(ws: HandlerConnection) -> None:
        try:
            await asyncio.wait_for(ws.recv(), 0.01)
        except asyncio.TimeoutError:
            received.append("timeout")
        received.append(await ws.recv())

    master, fd = await begin(handler)
    with master:
        while not received:
            await asyncio.sleep(0.01)
        await say(master, message(fd, "a"))
        assert received == ["timeout", "a"]


async def iterate(ws: HandlerConnection) -> None:
    async for _ in ws:
        pass


@pytest.mark.parametrize("second", [HandlerConnection.recv, iterate], ids=["recv", "async for"])
@in_loop
async def test_two_may_not_wait_for_a_message(second: Callable[[HandlerConnection], Awaitable[Any]]) -> None:
    raised: list[BaseException] = []

    async def handler(ws: HandlerConnection) -> None:
        first = asyncio.ensure_future(ws.recv())
        await asyncio.sleep(0)
        try:
            await second(ws)
        except ConcurrencyError as error:
            raised.append(error)
        assert await first == "a"

    master, fd = await begin(handler)
    with master:
        await say(master, message(fd, "a"))
        assert len(raised) == 1


async def pieces(parts: Iterable[Any]) -> AsyncIterator[Any]:
    for part in parts:
        await asyncio.sleep(0)
        yield part


@pytest.mark.parametrize(
    ("make", "text", "sent"),
    [
        (lambda: "text", None, ["text"]),
        (lambda: b"bytes", None, [b"bytes"]),
        (lambda: bytearray(b"array"), None, [b"array"]),
        (lambda: memoryview(b"view"), None, [b"view"]),
        (lambda: b"text", True, ["text"]),
        (lambda: "bytes", False, [b"bytes"]),
        (lambda: ["a", "b"], None, ["ab"]),
        (lambda: (part for part in (b"a", bytearray(b"b"))), None, [b"ab"]),
        (lambda: [b"a", b"b"], True, ["ab"]),
        (lambda: pieces(["a", "b"]), None, ["ab"]),
        (lambda: [""], None, [""]),
        (list, None, []),
        (lambda: pieces([]), None, []),
    ],
)
@in_loop
async def test_send_takes_text_bytes_and_pieces_of_one_kind(
    make: Callable[[], Any], text: bool | None, sent: list[str | bytes]
) -> None:
    async def handler(ws: HandlerConnection) -> None:
        await ws.send(make(), text)
        await asyncio.Event().wait()

    master, fd = await begin(handler)
    with master:
        assert commands(master) == [(PUSH, fd, body) for body in sent]
        await master.scheduler.stop()


async def forgotten() -> str:
    """Return a message to the coroutine that awaits it."""
    return "a message"


NO_MESSAGES = {
    "int": (lambda: 5, "a message must be str or bytes, not int: encode it first"),
    "None": (lambda: None, "a message must be str or bytes, not NoneType: encode it first"),
    "dict": (lambda: {"a": 1}, "a message must be str or bytes, not dict: encode it first"),
    "coroutine": (forgotten, "a message must be str or bytes, not a coroutine: await it first"),
    "text, bytes": (lambda: ["a", b"b"], "the pieces of a message must be all str or all bytes"),
    "bytes, text": (lambda: [b"a", "b"], "the pieces of a message must be all str or all bytes"),
    "numbers": (lambda: [1], "the pieces of a message must be all str or all bytes"),
}


@pytest.mark.parametrize(("make", "words"), NO_MESSAGES.values(), ids=NO_MESSAGES)
@in_loop
async def test_send_refuses_what_is_no_message(make: Callable[[], Any], words: str) -> None:
    async def handler(ws: HandlerConnection) -> None:
        with pytest.raises(TypeError, match=words):
            await ws.send(make())
        await ws.send("still open")

    master, fd = await begin(handler)
    with master:
        assert commands(master)[0] == (PUSH, fd, "still open")


@in_loop
async def test_send_suspends_while_too_much_is_on_its_way() -> None:
    sent: list[int] = []

    async def handler(ws: HandlerConnection) -> None:
        master.link.up_window = 2500
        for i in range(5):
            await ws.send(b"x" * 1000)
            sent.append(i)

    master = AsyncMaster(handlers={"/ws": handler})
    with master:
        fd = master.connect()
        await say(master, opening(fd, "/ws"))
        assert sent == [0, 1, 2]
        master.sent()
        master.deliver(credit=master.link.sent)
        master.scheduler.resume()
        await settle()
        assert sent == [0, 1, 2, 3, 4]


@in_loop
async def test_send_suspends_while_more_than_its_share_is_on_its_way() -> None:
    """Its share is an eighth of what may be queued for the client."""
    sent: list[int] = []

    async def handler(ws: HandlerConnection) -> None:
        for i in range(30):
            await ws.send(b"x" * 1000)
            sent.append(i)

    master = AsyncMaster(handlers={"/ws": handler}, output_limit=80_000)
    with master:
        fd = master.connect()
        await say(master, opening(fd, "/ws"))
        for count in (10, 20):
            assert len(sent) == count
            assert master.sent().others == [(PUSH, fd, b"x" * 1000)] * 10 + [(SYNC, 0, None)]
            master.deliver(credit=master.link.sent - 1)
            master.scheduler.resume()
            await settle()
            assert len(sent) == count
            if count == 10:
                master.deliver(credit=master.link.sent)
                master.scheduler.resume()
                await settle()
        master.link.close(0)
        master.scheduler.master_died(master.link)
        await settle()
        assert len(sent) == 20, "a master that is gone lets nobody wait for it"
        assert not master.scheduler.connections


@in_loop
async def test_send_on_a_closed_connection_waits_for_the_code_and_raises_it() -> None:
    raised: list[ConnectionClosed] = []

    async def handler(ws: HandlerConnection) -> None:
        await ws.recv()
        for _ in range(2):
            try:
                await ws.send("a")
            except ConnectionClosed as error:
                raised.append(error)

    master, fd = await begin(handler)
    with master:
        master.table.set_state(fd, CLOSING)
        await say(master, message(fd, "go"))
        assert raised == []
        await say(master, closing(fd, 4000, "why"))
        assert [(type(error), error.code, error.reason) for error in raised] == [
            (ConnectionClosedError, 4000, "why")
        ] * 2


@in_loop
async def test_close_waits_for_the_end_of_the_handshake_and_may_be_repeated() -> None:
    log: list[object] = []

    async def handler(ws: HandlerConnection) -> None:
        with pytest.raises(ValueError, match="close code"):
            await ws.close(1006)
        log.append("closing")
        await ws.close(4000, "why")
        log.append((ws.close_code, ws.close_reason))
        await ws.close()
        await ws.wait_closed()
        with pytest.raises(ConnectionClosedError):
            await ws.send("a")
        log.append("done")

    master, fd = await begin(handler)
    with master:
        assert log == ["closing"]
        await say(master, message(fd, "too late"))
        await end_connection(master, fd, 4000, "why")
        assert log == ["closing", (4000, "why"), "done"]
        sent = master.sent()
        assert sent.others == [(DISCONNECT, fd, end(4000, "why"))]
        assert sorted(sent.acknowledged) == [0, 1, 2]


@in_loop
async def test_who_waits_in_recv_is_told_of_the_close_by_another_task() -> None:
    ended: list[object] = []

    async def handler(ws: HandlerConnection) -> None:
        reads = asyncio.ensure_future(ws.recv())
        await asyncio.sleep(0)
        await ws.close()
        ended.extend(await asyncio.gather(reads, return_exceptions=True))

    master, fd = await begin(handler)
    with master:
        await end_connection(master, fd, 1000)
        assert [type(error) for error in ended] == [ConnectionClosedOK]


async def repeat(ws: HandlerConnection) -> None:
    """Send back every message of one connection, then a word when all are read."""
    async for data in ws:
        await ws.send(data)


@in_loop
async def test_a_handler_that_waits_has_answered_when_the_batch_is_taken() -> None:
    async def by_recv(ws: HandlerConnection) -> None:
        while True:
            await ws.send(await ws.recv())

    with AsyncMaster(handlers={"/iterates": repeat, "/receives": by_recv}) as master:
        fds = [master.connect(), master.connect()]
        await say(master, opening(fds[0], "/iterates"), opening(fds[1], "/receives"))
        assert commands(master) == []

        def now() -> None:
            master.deliver(message(fds[0], "a"), message(fds[1], "b"), message(fds[0], "c"), message(fds[1], "d"))
            assert [body for kind, _, body in commands(master) if kind == PUSH] == ["a", "c", "b", "d"]

        await by_the_loop(now)
        assert sorted(master.sent().acknowledged) == []


@in_loop
async def test_a_handler_that_goes_on_by_itself_is_not_woken_twice() -> None:
    received: list[Any] = []
    gate = asyncio.Event()

    async def handler(ws: HandlerConnection) -> None:
        received.append(await ws.recv())
        await gate.wait()
        received.append(await ws.recv())
        received.append(await ws.recv())

    master, fd = await begin(handler)
    with master:
        await by_the_loop(lambda: master.deliver(message(fd, "a")))
        await by_the_loop(lambda: master.deliver(message(fd, "b")))
        assert received == ["a"]
        gate.set()
        await settle()
        assert received == ["a", "b"]
        await by_the_loop(lambda: master.deliver(message(fd, "c")))
        assert received == ["a", "b", "c"]


@in_loop
async def test_in_debug_mode_the_loop_wakes_the_handler() -> None:
    loop = asyncio.get_running_loop()
    master, fd = await begin(repeat)
    with master:
        loop.set_debug(True)
        try:

            def now() -> None:
                master.deliver(message(fd, "a"))
                assert commands(master) == []

            await by_the_loop(now)
        finally:
            loop.set_debug(False)
        assert commands(master) == [(PUSH, fd, "a")]


@in_loop
async def test_any_task_may_receive() -> None:
    received: list[tuple[str, str | bytes]] = []

    async def reads(ws: HandlerConnection, name: str) -> None:
        received.append((name, await ws.recv()))

    async def handler(ws: HandlerConnection) -> None:
        await asyncio.create_task(reads(ws, "a task"))
        await asyncio.wait_for(reads(ws, "wait_for"), 60)
        await asyncio.gather(reads(ws, "gather"))
        await reads(ws, "the handler")
        received.append(("async for", await ws.__aiter__().__anext__()))

    master, fd = await begin(handler)
    with master:
        for data in "abcde":
            await by_the_loop(lambda data=data: master.deliver(message(fd, data)))  # type: ignore[misc]
        assert received == list(zip(["a task", "wait_for", "gather", "the handler", "async for"], "abcde", strict=True))


@in_loop
async def test_a_loop_over_messages_can_be_left_and_begun_again() -> None:
    received: list[str | bytes] = []

    async def handler(ws: HandlerConnection) -> None:
        for _ in range(3):
            async for data in ws:
                received.append(data)
                break
        iterator = ws.__aiter__()
        waits = asyncio.ensure_future(iterator.__anext__())
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        received.append(await ws.recv())
        received.append("end")

    master, fd = await begin(handler)
    with master:
        await by_the_loop(lambda: master.deliver(*(message(fd, data) for data in "abc")))
        await by_the_loop(lambda: master.deliver(message(fd, "d")))
        assert received == ["a", "b", "c", "d", "end"]


@pytest.mark.parametrize("how", ["recv", "async for"])
@in_loop
async def test_a_cancelled_wait_in_the_turn_of_a_message_loses_nothing(how: str) -> None:
    received: list[Any] = []

    async def waits(ws: HandlerConnection) -> Any:
        return await (ws.recv() if how == "recv" else ws.__aiter__().__anext__())

    async def handler(ws: HandlerConnection) -> None:
        task = asyncio.ensure_future(waits(ws))
        tasks.append(task)
        received.append(await asyncio.gather(task, return_exceptions=True))
        received.append(await ws.recv())

    tasks: list[asyncio.Task[Any]] = []
    master, fd = await begin(handler)
    with master:

        def now() -> None:
            tasks[0].cancel()
            master.deliver(message(fd, "a"))

        await by_the_loop(now)
        assert [type(error) for error in received[0]] == [asyncio.CancelledError]
        assert received[1] == "a"


@in_loop
async def test_a_handler_has_a_context_and_a_task_of_its_own() -> None:
    seen: list[Any] = []

    async def handler(ws: HandlerConnection) -> None:
        async for data in ws:
            seen.append((ws.fd, ws._task is asyncio.current_task(), variable.get()))
            variable.set(str(data))

    with AsyncMaster(handlers={"/ws": handler}) as master:
        fds = [master.connect(), master.connect()]
        await say(master, *(opening(fd, "/ws") for fd in fds))
        for _ in range(2):
            await by_the_loop(lambda: master.deliver(*(message(fd, f"of {fd}") for fd in fds)))
        assert seen == [(fd, True, "unset") for fd in fds] + [(fd, True, f"of {fd}") for fd in fds]


@in_loop
async def test_a_connection_takes_attributes_and_references() -> None:
    alive: list[weakref.ref[Any]] = []

    async def handler(ws: HandlerConnection) -> None:
        ws.user = "somebody"  # type: ignore[attr-defined]
        assert ws.user == "somebody"  # type: ignore[attr-defined]
        assert {ws: 1}[ws] == 1
        alive.append(weakref.ref(ws))
        ws.itself = ws  # type: ignore[attr-defined]

    master, fd = await begin(handler)
    with master:
        await end_connection(master, fd)
        await settle()
        gc.collect()
        assert [reference() for reference in alive] == [None]


@in_loop
async def test_a_coroutine_that_is_never_awaited_is_reported() -> None:
    master, _ = await begin(repeat)
    with master:
        (connection,) = master.scheduler.connections.values()
        with pytest.warns(RuntimeWarning, match="never awaited"):
            connection.send("a")
            gc.collect()
        with pytest.warns(RuntimeWarning, match="never awaited"):
            connection.recv()
            gc.collect()
        assert commands(master) == []


@in_loop
async def test_replies_of_handlers_leave_when_they_are_much() -> None:
    master, fd = await begin(repeat)
    with master:
        await by_the_loop(lambda: master.deliver(*(message(fd, b"x" * 20_000) for _ in range(8))))
        sent = master.sent()
        assert len(sent.others) == 8
        assert sent.batches >= 2
