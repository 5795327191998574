"""`on("handshake")` with real workers: which clients may connect, and what they are told."""

from __future__ import annotations

import os
import signal

import pytest
from websockets.exceptions import InvalidStatus

from tests.process.conftest import Serve
from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for

APP = """
    import asyncio
    import os
    import time
    from zwoole import Accept, Refuse, Server

    server = Server(subprotocols=["v1"])

    @server.on("handshake")
    {kind} on_handshake(server, request):
        if request.path == "/refuse":
            return Refuse(401, "who are you?", {{"WWW-Authenticate": "Bearer"}})
        if request.path == "/false":
            return False
        if request.path == "/raise":
            raise RuntimeError("asked to")
        if request.path == "/wrong":
            return "yes"
        if request.path == "/die" and not os.path.exists("died"):
            open("died", "w").close()
            os._exit(1)
        if request.path == "/slow":
            time.sleep(3600)
        if request.path == "/cookie":
            return Accept({{"Set-Cookie": "session=1"}})

    @server.on("open")
    def on_open(server, request):
        print("open", request.path, request.subprotocol)

    @server.on("message")
    def on_message(server, frame):
        server.push(frame.fd, frame.data)

    @server.on("close")
    def on_close(server, fd):
        print("close")

    @server.handler("/handler")
    async def handler(ws):
        async for message in ws:
            await ws.send(f"handler {{ws.subprotocol}} {{message}}")

    server.start()
"""


@pytest.fixture(params=["def", "async def"])
def server(request: pytest.FixtureRequest, serve: Serve) -> ServerProcess:
    return serve(APP.format(kind=request.param))


def status_of(server: ServerProcess, path: str) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        server.connect(path).close()
    return caught.value.response.status_code, bytes(caught.value.response.body or b"").decode().strip()


def test_it_may_refuse(server: ServerProcess) -> None:
    assert status_of(server, "/refuse") == (401, "who are you?")
    assert status_of(server, "/false") == (403, "refused")
    assert status_of(server, "/raise")[0] == 500
    assert status_of(server, "/wrong")[0] == 500
    assert "returns True, False, Accept(...) or Refuse(...), not 'yes'" in server.log()
    assert server.lines() == []


def test_open_follows_an_accepted_one(server: ServerProcess) -> None:
    with server.connect("/cookie", subprotocols=["token", "v1"]) as client:
        assert client.response is not None
        assert client.response.headers["Set-Cookie"] == "session=1"
        assert client.subprotocol == "v1"
        client.send("hello")
        assert client.recv(PATIENCE_S) == "hello"
    server.wait_line("open /cookie v1")
    server.wait_line("close")


def test_handlers_connections_are_asked_about_too(server: ServerProcess) -> None:
    with server.connect("/handler", subprotocols=["v1"]) as client:
        client.send("hello")
        assert client.recv(PATIENCE_S) == "handler v1 hello"


def test_a_worker_that_dies_in_it_is_a_503_and_the_next_client_is_served(server: ServerProcess) -> None:
    assert status_of(server, "/die")[0] == 503
    with server.connect("/die") as client:
        client.send("hello")
        assert client.recv(PATIENCE_S) == "hello"


def test_a_worker_that_dies_before_it_is_replaced_and_asked(serve: Serve) -> None:
    server = serve(APP.format(kind="def"))
    (worker,) = server.pids("worker")
    os.kill(worker, signal.SIGSTOP)
    with server.connect_later() as connecting:
        wait_for(lambda: server.status()["masters"][0]["workers"][0]["outstanding"] == 1, "the worker to be asked")
        os.kill(worker, signal.SIGKILL)
        with connecting.result(PATIENCE_S) as client:
            client.send("hello")
            assert client.recv(PATIENCE_S) == "hello"


def test_no_answer_in_time_is_a_503(serve: Serve) -> None:
    server = serve(APP.format(kind="def"), handshake_timeout=2.0)
    assert status_of(server, "/slow")[0] == 503
    server.process.send_signal(signal.SIGQUIT)
    server.wait()


STATE = """
    import os
    from zwoole import Server

    server = Server()

    @server.on("handshake")
    {kind} on_handshake(server, request):
        if request.path == "/large":
            request.state = "x" * 100_000
        elif request.path == "/attribute":
            request.user = "anna"
        elif request.path != "/nothing":
            request.state = {{"user": request.query["user"]}}

    @server.on("open")
    {kind} on_open(server, request):
        server.push(request.fd, f"open {{request.state}}")

    @server.on("adopt")
    {kind} on_adopt(server, request):
        server.push(request.fd, f"adopt {{request.state}}")

    @server.on("message")
    def on_message(server, frame):
        pass

    @server.handler("/handler")
    async def handler(ws):
        await ws.send(f"handler {{ws.request.state}}")
        await ws.recv()

    server.start()
"""


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_what_the_handshake_found_reaches_the_connection(serve: Serve, kind: str) -> None:
    source = STATE.format(kind=kind)
    if kind == "def":  # without a handler there is no loop
        source = source.replace('@server.handler("/handler")', "")
    server = serve(source)
    with server.connect("/nothing") as client:
        assert client.recv(PATIENCE_S) == "open None"
    if kind == "async def":
        with server.connect("/handler?user=anna") as client:
            assert client.recv(PATIENCE_S) == "handler {'user': 'anna'}"
    for path, words in (
        ("/large", "a connection's state has at most 65536 bytes packed"),
        ("/attribute", "a request has no 'user', and takes no attributes of the app: keep a value in `request.state`"),
    ):
        with pytest.raises(InvalidStatus, match="500"), server.connect(path):
            pass
        assert words in server.log()
    with server.connect("/?user=anna") as client:
        assert client.recv(PATIENCE_S) == "open {'user': 'anna'}"
        server.reload()
        assert client.recv(PATIENCE_S) == "adopt {'user': 'anna'}"
