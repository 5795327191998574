"""The websockets library and uvloop. Usage: python websockets_server.py PORT MODE."""

import asyncio
import sys
import time

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosedError

MODE = sys.argv[2]


async def serve_one(connection: ServerConnection) -> None:
    """Handle every message as the mode says."""
    try:
        async for message in connection:
            if MODE == "broadcast":
                broadcast(connection.server.connections, message)
                continue
            if MODE == "cpu":
                end = time.perf_counter() + 0.001
                while time.perf_counter() < end:
                    pass
            await connection.send(message)
    except ConnectionClosedError:
        pass  # a client that leaves without a closing handshake is not worth a traceback


async def main(port: int) -> None:
    """Serve until the process ends."""
    compression = "deflate" if MODE == "deflate" else None
    async with serve(serve_one, "127.0.0.1", port, compression=compression, ping_interval=None):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
