"""What callbacks see of a client, and what they can do with it: requests, frames, and the commands of a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.process.conftest import Serve
from tests.process.raw_client import TEXT, RawClient
from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for

# Each client is sent what `open` saw. A message "command argument" runs the function of that name.
APP = """
    import json
    import threading

    from zwoole import OP_BINARY, OP_TEXT, Server

    server = Server()

    @server.on("open")
    def on_open(server, request):
        seen = {
            "fd": request.fd,
            "path": request.path,
            "raw_path": request.raw_path,
            "query_string": request.query_string,
            "query": request.query,
            "shout": request.headers["X-SHOUT"] if "x-shout" in request.headers else None,
            "names": sorted(request.headers),
            "cookies": request.cookies,
            "remote": [request.remote_addr, request.remote_port],
            "subprotocols": list(request.subprotocols),
            "exists": server.exists(request.fd),
            "worker": server.worker_id,
        }
        server.push(request.fd, json.dumps(seen))

    def describe(server, frame, argument):
        server.push(frame.fd, f"{type(frame.data).__name__} {frame.opcode} {len(frame.data)}")

    def push_text(server, frame, argument):
        server.push(frame.fd, argument.encode(), opcode=OP_TEXT)

    def push_binary(server, frame, argument):
        server.push(frame.fd, argument, opcode=OP_BINARY)

    def push_kinds(server, frame, argument):
        for data in (bytearray(b"bytearray"), memoryview(b"memoryview"), b"", ""):
            server.push(frame.fd, data)

    def push_to(server, frame, argument):
        fd, text = argument.split(" ", 1)
        server.push(frame.fd, str(server.push(int(fd), text)))

    def push_wrong(server, frame, argument):
        for data, opcode in (({}, None), (None, None), (7, None), (b"\\xff", OP_TEXT), ("text", 9)):
            try:
                server.push(frame.fd, data, opcode=opcode)
            except (TypeError, ValueError) as error:
                server.push(frame.fd, f"{type(error).__name__}: {error}")

    def push_from_thread(server, frame, argument):
        def work():
            results.append(server.push(frame.fd, "from a thread"))
            results.append(server.push(1 << 40, "to nobody"))

        results = []
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        server.push(frame.fd, str(results))

    def broadcast(server, frame, argument):
        server.broadcast(argument)

    def disconnect(server, frame, argument):
        code, reason = argument.split(" ", 1)
        server.push(frame.fd, "last words")
        server.disconnect(frame.fd, int(code), reason)

    def disconnect_other(server, frame, argument):
        results = [server.disconnect(int(argument), 4001, "for you"), server.disconnect(1 << 40)]
        server.push(frame.fd, str(results))

    def disconnect_wrong(server, frame, argument):
        for code, reason in ((1005, ""), (999, ""), (5000, ""), (1000, "x" * 124)):
            try:
                server.disconnect(frame.fd, code, reason)
            except ValueError as error:
                server.push(frame.fd, str(error))

    def look(server, frame, argument):
        fd = int(argument)
        seen = [server.exists(fd), server.is_established(fd), server.buffered_amount(fd)]
        server.push(frame.fd, json.dumps(seen))

    @server.on("message")
    def on_message(server, frame):
        if isinstance(frame.data, bytes):
            return describe(server, frame, "")
        command, _, argument = frame.data.partition(" ")
        globals()[command](server, frame, argument)

    server.start()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(APP, workers=2) as server:
        yield server.serve()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[ClientConnection]:
    with server.connect() as client:
        client.recv(PATIENCE_S)
        yield client


def opened(client: ClientConnection) -> dict[str, Any]:
    """Return what the `open` callback saw."""
    seen: dict[str, Any] = json.loads(client.recv(PATIENCE_S))
    return seen


def ask(client: ClientConnection, message: str | bytes) -> str | bytes:
    client.send(message)
    return client.recv(PATIENCE_S)


# The request.


def test_request(server: ServerProcess) -> None:
    headers = {"X-Shout": "hey", "Cookie": 'a=1; b="two"; =; c='}
    protocols = ["chat.v2", "chat.v1"]
    path = "/room/gr%C3%BCn?who=J%C3%B6rg&tag=1&tag=2&empty="
    with server.connect(path, additional_headers=headers, subprotocols=protocols) as client:
        seen = opened(client)
        address, port = client.local_address[:2]
    assert seen["path"] == "/room/grün"
    assert seen["raw_path"] == "/room/gr%C3%BCn"
    assert seen["query_string"] == "who=J%C3%B6rg&tag=1&tag=2&empty="
    assert seen["query"] == {"who": "Jörg", "tag": "2", "empty": ""}
    assert seen["shout"] == "hey"
    assert {"Host", "Upgrade", "Sec-WebSocket-Key"} <= set(seen["names"])
    assert seen["cookies"] == {"a": "1", "b": "two", "c": ""}
    assert seen["remote"] == [address, port]
    assert seen["subprotocols"] == protocols
    assert seen["exists"] is True


def test_numbers_are_unique_and_connections_spread(server: ServerProcess) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(6)]
        seen = [opened(client) for client in clients]
    assert len({one["fd"] for one in seen}) == 6
    assert sorted(one["worker"] for one in seen).count(0) == 3


# Frames and push.


def test_kinds_of_messages(client: ClientConnection) -> None:
    assert ask(client, "describe ü") == "str 1 10"
    assert ask(client, b"\x00\xff") == "bytes 2 2"
    assert ask(client, b"") == "bytes 2 0"
    assert ask(client, bytes(100_000)) == "bytes 2 100000"
    assert ask(client, "describe " + "x" * 99_991) == "str 1 100000"


def test_push_with_an_opcode(client: ClientConnection) -> None:
    assert ask(client, "push_text grün") == "grün"
    assert ask(client, "push_binary grün") == "grün".encode()


def test_push_of_every_kind_of_bytes(client: ClientConnection) -> None:
    client.send("push_kinds")
    assert [client.recv(PATIENCE_S) for _ in range(4)] == [b"bytearray", b"memoryview", b"", ""]


def test_push_of_what_is_no_message(client: ClientConnection) -> None:
    client.send("push_wrong")
    errors = [str(client.recv(PATIENCE_S)) for _ in range(5)]
    assert (
        errors[0] == "TypeError: a message must be str or bytes, not dict: encode it first, for example with json.dumps"
    )
    assert [error.partition(":")[0] for error in errors] == ["TypeError"] * 3 + ["ValueError"] * 2


def test_push_to_another(server: ServerProcess, client: ClientConnection) -> None:
    with server.connect() as other, server.connect() as third:
        for receiver in (other, third):  # one of them belongs to the other worker
            fd = opened(receiver)["fd"]
            assert ask(client, f"push_to {fd} hello there") == "True"
            assert receiver.recv(PATIENCE_S) == "hello there"


def test_push_to_one_who_is_gone(server: ServerProcess, client: ClientConnection) -> None:
    with server.connect() as other:
        fd = opened(other)["fd"]
    for number in (fd, 0, -1, 1 << 40, 1 << 60):
        assert ask(client, f"push_to {number} anybody?") == "False"


def test_push_from_a_thread(client: ClientConnection) -> None:
    assert {ask(client, "push_from_thread"), client.recv(PATIENCE_S)} == {"[True, False]", "from a thread"}


def test_broadcast_reaches_everybody_once(server: ServerProcess) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(50)]
        workers = [opened(client)["worker"] for client in clients]
        assert set(workers) == {0, 1}
        clients[0].send("broadcast first")
        for client in clients:
            assert client.recv(PATIENCE_S) == "first"
        clients[1].send("broadcast second")
        for client in clients:
            assert client.recv(PATIENCE_S) == "second", "no copy of the first came twice"


# Closing connections, and querying them.


def test_disconnect(client: ClientConnection) -> None:
    assert ask(client, "disconnect 4123 enough of you") == "last words"
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(PATIENCE_S)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4123, "enough of you")


def test_disconnect_another(server: ServerProcess, client: ClientConnection) -> None:
    with server.connect() as other:
        fd = opened(other)["fd"]
        assert ask(client, f"disconnect_other {fd}") == "[True, False]"
        with pytest.raises(ConnectionClosed, match="4001"):
            other.recv(PATIENCE_S)


def test_disconnect_with_a_code_that_is_none(client: ClientConnection) -> None:
    client.send("disconnect_wrong")
    errors = [str(client.recv(PATIENCE_S)) for _ in range(4)]
    assert all("is no close code that may be sent" in error for error in errors[:3])
    assert "at most 123 bytes" in errors[3]


def test_looking_at_connections(server: ServerProcess, client: ClientConnection) -> None:
    with server.connect() as other:
        fd = opened(other)["fd"]
        assert ask(client, f"look {fd}") == "[true, true, 0]"
    wait_for(lambda: ask(client, f"look {fd}") == "[false, false, 0]", "the table to forget the connection")
    assert ask(client, f"look {1 << 40}") == "[false, false, 0]"


def test_buffered_amount_of_one_who_does_not_read(server: ServerProcess, client: ClientConnection) -> None:
    with RawClient(server.port, receive_buffer=4096) as idle:
        fd = json.loads(idle.upgrade().read_frame().payload)["fd"]
        for _ in range(20):
            assert ask(client, f"push_to {fd} " + "x" * 200_000) in ("True", "False")
        exists, established, buffered = json.loads(ask(client, f"look {fd}"))
        assert exists
        assert buffered > 0 or not established


# Paths.


@pytest.mark.parametrize(("path", "status"), [("/served", 101), ("/other", 404), ("/served/below", 404), ("/", 404)])
def test_paths_of_an_app_of_handlers(serve: Serve, path: str, status: int) -> None:
    with RawClient(handlers_only(serve).port) as raw:
        raw.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode())
        raw.send(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        assert raw.read_head().startswith(f"HTTP/1.1 {status} ")
        if status == 101:
            raw.send_frame(TEXT, b"hello")
            assert raw.read_frame().payload == b"hello"


def test_404_as_a_client_library_sees_it(serve: Serve) -> None:
    with pytest.raises(InvalidStatus) as refused:
        handlers_only(serve).connect("/nowhere")
    assert refused.value.response.status_code == 404


def handlers_only(serve: Serve) -> ServerProcess:
    return serve(
        """
        from zwoole import Server

        server = Server()

        @server.handler("/served")
        async def echo(ws):
            async for message in ws:
                await ws.send(message)

        server.start()
        """
    )
