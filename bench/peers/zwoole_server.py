"""zwoole. Usage: python zwoole_server.py PORT MODE [STYLE [WORKERS]]; STYLE is def, async or handler."""

import sys
import time

from zwoole import Frame, HandlerConnection, Server

PORT, MODE = sys.argv[1:3]
STYLE = sys.argv[3] if len(sys.argv) > 3 else "def"
WORKERS = int(sys.argv[4]) if len(sys.argv) > 4 else 1

server = Server("127.0.0.1", int(PORT), worker_num=WORKERS, websocket_compression=MODE == "deflate")


def on_message(server: Server, frame: Frame) -> None:
    """Handle a message as the mode says."""
    if MODE == "broadcast":
        server.broadcast(frame.data)
        return
    if MODE == "cpu":
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
    server.push(frame.fd, frame.data)


async def on_message_async(server: Server, frame: Frame) -> None:
    """Do the same as a coroutine."""
    on_message(server, frame)


async def handle(ws: HandlerConnection) -> None:
    """Send back every message of one connection."""
    async for message in ws:
        await ws.send(message)


if STYLE == "handler":
    server.handler("/")(handle)
else:
    server.on("message")(on_message_async if STYLE == "async" else on_message)

server.start()
