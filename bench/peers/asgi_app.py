"""The ASGI app for uvicorn and granian. MODE in the environment says what it does with a message."""

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

MODE = os.environ.get("MODE", "echo")
Send = Callable[[dict[str, Any]], Awaitable[None]]
connections: set[Send] = set()


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:
    """Serve one connection."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    connections.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            await answer(send, event)
    finally:
        connections.discard(send)


async def answer(send: Send, event: dict[str, Any]) -> None:
    """Handle a message as the mode says."""
    reply = {"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")}
    if MODE == "broadcast":
        for one in list(connections):
            await one(reply)
        return
    if MODE == "cpu":
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
    await send(reply)
