"""Echo server on the websockets library and uvloop. Usage: python websockets_echo.py PORT."""

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError


async def echo(connection: ServerConnection) -> None:
    """Send back every message."""
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosedError:
        pass  # a client that leaves without a closing handshake is no matter for a traceback


async def main(port: int) -> None:
    """Serve until the process is ended."""
    async with serve(echo, "127.0.0.1", port, compression=None, max_size=2**20, ping_interval=None):
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
