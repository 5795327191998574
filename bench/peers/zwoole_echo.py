"""Echo server on zwoole with one worker. Usage: python zwoole_echo.py PORT."""

import sys

from zwoole import Frame, Server

server = Server("127.0.0.1", int(sys.argv[1]), worker_num=1)


@server.on("message")
def on_message(server: Server, frame: Frame) -> None:
    """Send back every message."""
    server.push(frame.fd, frame.data)


server.start()
