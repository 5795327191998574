"""permessage-deflate end to end, with the `websockets` library as the client."""

from __future__ import annotations

import os
import random

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

from tests.process.conftest import Serve
from tests.process.waiting import PATIENCE_S

APP = """
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        if frame.data == "everybody":
            server.broadcast("hello " * 100)
        else:
            server.push(frame.fd, frame.data)

    @server.handler("/handler")
    async def handler(ws):
        async for message in ws:
            await ws.send(message)

    server.start()
"""
OFFERS = [
    {},
    {"server_no_context_takeover": True},
    {"client_no_context_takeover": True},
    {"server_max_window_bits": 9, "client_max_window_bits": 9},
]


@pytest.mark.parametrize("offer", OFFERS, ids=str)
@pytest.mark.parametrize("takeover", [False, True])
def test_every_message_comes_back_as_it_was(serve: Serve, takeover: bool, offer: dict[str, int]) -> None:
    server = serve(APP, websocket_compression="true", compression_context_takeover=str(takeover).lower())
    extensions = [ClientPerMessageDeflateFactory(**{"client_max_window_bits": True, **offer})]
    chosen = random.Random(7)
    for path in ("/", "/handler"):
        with connect(server.url(path), compression=None, extensions=extensions) as client:
            assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
            for size in (0, 1, 10, 255, 256, 5000, 40_000, 300_000):
                for message in (chosen.randbytes(size), "é" * (size // 2), os.urandom(10).hex() * (size // 20)):
                    client.send(message)
                    assert client.recv(PATIENCE_S) == message
    assert server.status()["masters"][0]["opened_compressed"] == 2


def test_a_broadcast_reaches_those_with_and_without(serve: Serve) -> None:
    server = serve(APP, websocket_compression="true", compression_context_takeover="true")
    with server.connect() as plain, connect(server.url()) as one, connect(server.url()) as two:
        for _ in range(3):
            one.send("own message " * 50)
            assert one.recv(PATIENCE_S) == "own message " * 50
            two.send("everybody")
            for client in (plain, one, two):
                assert client.recv(PATIENCE_S) == "hello " * 100


def test_it_is_off_unless_asked_for(serve: Serve) -> None:
    server = serve(APP)
    with connect(server.url()) as client:
        assert client.protocol.extensions == []
        client.send("plain")
        assert client.recv(PATIENCE_S) == "plain"
