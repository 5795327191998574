"""Tornado. Usage: python tornado_server.py PORT MODE."""

import asyncio
import sys
import time

from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler

MODE = sys.argv[2]
connections: set["Socket"] = set()


class Socket(WebSocketHandler):
    """One connection."""

    def open(self) -> None:
        """Join."""
        connections.add(self)

    def on_close(self) -> None:
        """Leave."""
        connections.discard(self)

    async def on_message(self, message: str | bytes) -> None:
        """Handle a message as the mode says."""
        binary = isinstance(message, bytes)
        try:
            if MODE == "broadcast":
                for one in list(connections):
                    await one.write_message(message, binary)
                return
            if MODE == "cpu":
                end = time.perf_counter() + 0.001
                while time.perf_counter() < end:
                    pass
            await self.write_message(message, binary)
        except WebSocketClosedError:
            pass


async def main() -> None:
    """Serve until the process ends."""
    Application([("/", Socket)], websocket_max_message_size=16 << 20).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
