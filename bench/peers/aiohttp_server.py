"""aiohttp and uvloop. Usage: python aiohttp_server.py PORT MODE."""

import asyncio
import sys
import time

import uvloop
from aiohttp import WSMsgType, web

MODE = sys.argv[2]
connections: set[web.WebSocketResponse] = set()


async def serve(request: web.Request) -> web.WebSocketResponse:
    """Serve one connection."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    connections.add(socket)
    try:
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                await answer(socket, message.data)
            elif message.type == WSMsgType.BINARY:
                await socket.send_bytes(message.data)
    finally:
        connections.discard(socket)
    return socket


async def answer(socket: web.WebSocketResponse, text: str) -> None:
    """Handle a text as the mode says."""
    if MODE == "broadcast":
        for one in list(connections):
            await one.send_str(text)
        return
    if MODE == "cpu":
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
    await socket.send_str(text)


async def main() -> None:
    """Serve until the process ends."""
    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main())
