"""Echo server on picows and uvloop. Usage: python picows_echo.py PORT."""

import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


class Echo(WSListener):
    """Sends back every frame of a message; pings are answered by picows."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Handle one frame."""
        if frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()


def listen_to(request: WSUpgradeRequest) -> Echo:
    """Return the listener of a new connection."""
    return Echo()


async def main(port: int) -> None:
    """Serve until the process is ended."""
    server = await ws_create_server(listen_to, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
