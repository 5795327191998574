"""Handlers: a coroutine for each connection, with the conventions of the `websockets` library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.process.raw_client import TEXT, RawClient
from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for

APP = """
    import asyncio
    import os
    import zwoole
    from zwoole import Server

    server = Server()

    @server.handler("/iterate")
    async def iterate(ws):
        async for message in ws:
            await ws.send(message)
        print("iterate ended", ws.fd, ws.close_code, ws.close_reason)

    @server.handler("/recv")
    async def receive(ws):
        try:
            while True:
                await ws.send(await ws.recv())
        except zwoole.ConnectionClosedOK as closed:
            print("recv OK", ws.fd, closed.code, closed.reason)
        except zwoole.ConnectionClosedError as closed:
            print("recv Error", ws.fd, closed.code, closed.reason)

    @server.handler("/uncaught")
    async def uncaught(ws):
        while True:
            await ws.recv()

    members = []

    @server.handler("/member")
    async def member(ws):
        members.append(ws)
        await ws.send("joined")
        async for message in ws:
            for other in members:
                await other.send(message)

    @server.handler("/patience")
    async def patience(ws):
        answers = []
        while len(answers) < 3:
            try:
                answers.append(await asyncio.wait_for(ws.recv(), 0.001))
            except asyncio.TimeoutError:
                pass
        await ws.send(" ".join(answers))

    @server.handler("/pieces")
    async def pieces(ws):
        async def slowly():
            for part in (b"by", b"te", b"s"):
                await asyncio.sleep(0)
                yield part

        await ws.send(["te", "x", "t"])
        await ws.send(slowly())
        await ws.send(b"text of bytes", text=True)
        await ws.send("bytes of text", text=False)
        for wrong in ({"a": 1}, ["a", b"b"], 7):
            try:
                await ws.send(wrong)
            except TypeError as error:
                await ws.send(f"TypeError: {error}")

    @server.handler("/close")
    async def close(ws):
        await ws.send("the last")
        await ws.close(4321, "as agreed")
        print("closed", ws.fd, ws.close_code, ws.close_reason)
        try:
            await ws.send("too late")
        except zwoole.ConnectionClosed as closed:
            print("send", ws.fd, type(closed).__name__)

    @server.handler("/close/wrong")
    async def close_wrong(ws):
        try:
            await ws.close(1005)
        except ValueError as error:
            await ws.send(str(error))

    @server.handler("/fail")
    async def fail(ws):
        raise ValueError(await ws.recv())

    @server.handler("/return")
    async def leave(ws):
        await ws.recv()

    @server.handler("/two")
    async def two(ws):
        first = asyncio.ensure_future(ws.recv())
        await asyncio.sleep(0)
        await ws.send("receiving")  # a message that came before would leave nothing for the first to wait for
        try:
            await ws.recv()
        except zwoole.ConcurrencyError as error:
            await ws.send(f"{type(error).__name__} {await first}")

    @server.handler("/wait")
    async def wait(ws):
        await ws.wait_closed()
        print("waited", ws.fd, ws.close_code)

    @server.handler("/works")
    async def works(ws):
        await ws.recv()
        print("works")
        while ws.close_code is None:
            await asyncio.sleep(0.01)
        print("works on", server.exists(ws.fd), ws.close_code, ws.close_reason)
        for call in (ws.recv, lambda: ws.send("too late")):
            try:
                await call()
            except zwoole.ConnectionClosedError as closed:
                print("works on", closed.code, closed.reason)
        await ws.close()
        await ws.wait_closed()
        print("works to its end")

    @server.handler("/about")
    async def about(ws):
        await ws.recv()
        host, port = ws.remote_address
        await ws.send(f"{ws.request.path} {ws.request.query['who']} {host}:{port} {ws.subprotocol} {ws.close_code}")

    @server.on("open")
    def on_open(server, request):
        print("open", request.fd, request.path)

    @server.on("message")
    async def on_message(server, frame):
        server.push(frame.fd, f"callback got {frame.data}")

    @server.on("close")
    def on_close(server, fd, code):
        print("close", fd, code)

    server.start()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(APP) as server:
        yield server.serve()


def end_of(client: ClientConnection) -> tuple[int, str]:
    """Return code and reason with which the server closes a connection, without another message before."""
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(PATIENCE_S)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


# Receiving.


@pytest.mark.parametrize("path", ["/iterate", "/recv"])
def test_echo(server: ServerProcess, path: str) -> None:
    with server.connect(path) as client:
        messages = ["text", b"bytes", "", b"", "x" * 100_000]
        for message in messages:
            client.send(message)
        assert [client.recv(PATIENCE_S) for _ in messages] == messages


@pytest.mark.parametrize("code", [1000, 1001])
def test_iteration_ends_quietly(server: ServerProcess, code: int) -> None:
    with server.connect("/iterate") as client:
        client.send("hello")
        client.recv(PATIENCE_S)
        client.close(code, "bye")
    wait_line_end(server, f" {code} bye", "iterate ended")


@pytest.mark.parametrize(
    ("code", "line"), [(1000, "recv OK"), (1001, "recv OK"), (4000, "recv Error"), (1011, "recv Error")]
)
def test_what_recv_raises(server: ServerProcess, code: int, line: str) -> None:
    with server.connect("/recv") as client:
        client.close(code, "why not")
    wait_line_end(server, f" {code} why not", line)


def test_what_recv_raises_without_a_close_frame(server: ServerProcess) -> None:
    with RawClient(server.port) as client:
        client.upgrade("/recv")
    wait_line_end(server, " 1006 ", "recv Error")


@pytest.mark.parametrize("code", [1000, 4000])
def test_not_catching_the_end_is_no_failure(server: ServerProcess, code: int) -> None:
    with server.connect("/uncaught") as client:
        client.close(code)
    with server.connect("/iterate") as client:
        client.send("has it been logged?")
        client.recv(PATIENCE_S)
    assert "ConnectionClosed" not in server.log()


def test_a_handler_that_sends_to_another_connection_which_is_gone(server: ServerProcess) -> None:
    with server.connect("/member") as gone, server.connect("/member") as stays:
        assert gone.recv(PATIENCE_S) == stays.recv(PATIENCE_S) == "joined"
        gone.close(4000, "bye")
        stays.send("hello")
        with pytest.raises(ConnectionClosed):
            stays.recv(PATIENCE_S)
        assert stays.protocol.close_code == 1011
    server.wait_log("was closed with code 4000: bye")


def test_messages_before_the_end_are_read(server: ServerProcess) -> None:
    with RawClient(server.port) as client:
        client.upgrade("/recv")
        for text in (b"1", b"2", b"3"):
            client.send_frame(TEXT, text)
        client.send_frame(0x8, b"\x03\xe8")
        assert [frame.payload for frame in client.read_frames()] == [b"1", b"2", b"3", b"\x03\xe8"]


def test_cancelling_recv_loses_nothing(server: ServerProcess) -> None:
    with server.connect("/patience") as client:
        for text in ("a", "b", "c"):
            client.send(text)
        assert client.recv(PATIENCE_S) == "a b c"


def test_two_receivers_are_one_too_many(server: ServerProcess) -> None:
    with server.connect("/two") as client:
        assert client.recv(PATIENCE_S) == "receiving"
        client.send("mine")
        assert client.recv(PATIENCE_S) == "ConcurrencyError mine"


def test_a_handler_is_not_cancelled_when_its_client_leaves(server: ServerProcess) -> None:
    """It learns of the end from the attributes and from its next call, and runs on for as long as it likes."""
    with server.connect("/works") as client:
        client.send("work")
        server.wait_line("works")
        client.close(4000, "had enough")
    server.wait_line("works to its end")
    lines = server.lines()
    assert lines.count("works on 4000 had enough") == 2, "recv and send say why"
    assert any(line.startswith("works on ") and line.endswith(" 4000 had enough") for line in lines)


# Sending and ending.


def test_send(server: ServerProcess) -> None:
    with server.connect("/pieces") as client:
        assert [client.recv(PATIENCE_S) for _ in range(4)] == ["text", b"bytes", "text of bytes", b"bytes of text"]
        assert all(str(client.recv(PATIENCE_S)).startswith("TypeError: ") for _ in range(3))
        assert end_of(client) == (1000, "")


def test_close(server: ServerProcess) -> None:
    with server.connect("/close") as client:
        assert client.recv(PATIENCE_S) == "the last"
        assert end_of(client) == (4321, "as agreed")
    wait_line_end(server, " 4321 as agreed", "closed")
    wait_line_end(server, " ConnectionClosedError", "send")


def test_close_with_a_code_that_is_none(server: ServerProcess) -> None:
    with server.connect("/close/wrong") as client:
        assert "1005 is no close code that may be sent" in str(client.recv(PATIENCE_S))
        assert end_of(client) == (1000, "")


def test_returning_closes(server: ServerProcess) -> None:
    with server.connect("/return") as client:
        client.send("go")
        assert end_of(client) == (1000, "")


def test_failing_closes_with_1011(server: ServerProcess) -> None:
    with server.connect("/iterate") as other, server.connect("/fail") as client:
        client.send("on purpose")
        assert end_of(client) == (1011, "handler failed")
        other.send("unaffected")
        assert other.recv(PATIENCE_S) == "unaffected"
    log = server.wait_log("ValueError: on purpose")
    assert "the handler failed for fd " in log


def test_wait_closed(server: ServerProcess) -> None:
    with server.connect("/wait") as client:
        client.close(4009)
    wait_line_end(server, " 4009", "waited")


def test_what_a_handler_knows(server: ServerProcess) -> None:
    with server.connect("/about?who=me") as client:
        host, port = client.local_address[:2]
        client.send("tell me")
        assert client.recv(PATIENCE_S) == f"/about me {host}:{port} None None"


# Both styles in one server.


def test_callbacks_serve_all_other_paths(server: ServerProcess) -> None:
    with server.connect("/elsewhere") as client, server.connect("/iterate") as handled:
        client.send("hello")
        assert client.recv(PATIENCE_S) == "callback got hello"
        handled.send("hello")
        assert handled.recv(PATIENCE_S) == "hello"
        client.close(4777)
    wait_line_end(server, " 4777", "close")
    assert sum(line.startswith("open ") for line in server.lines()) == 1, "open is not for handlers"
    assert sum(line.startswith("close ") for line in server.lines()) == 1, "nor is close"


def wait_line_end(server: ServerProcess, end: str, beginning: str) -> None:
    """Wait for a printed line with this beginning and end, around the connection's number."""

    def printed() -> bool:
        return any(line.startswith(beginning) and line.endswith(end) for line in server.lines())

    wait_for(printed, f"a line {beginning!r} ... {end!r}")
