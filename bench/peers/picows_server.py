"""picows and uvloop. Usage: python picows_server.py PORT MODE."""

import sys
import time

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

MODE = sys.argv[2]
connections: set[WSTransport] = set()


class Listener(WSListener):
    """Handles every frame of a message as the mode says; picows answers pings."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Join."""
        connections.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave."""
        connections.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Handle one frame."""
        if frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            self._answer(transport, frame)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _answer(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_memoryview()
        if MODE == "broadcast":
            for one in connections:
                one.send(frame.msg_type, payload)
            return
        if MODE == "cpu":
            end = time.perf_counter() + 0.001
            while time.perf_counter() < end:
                pass
        transport.send(frame.msg_type, payload)


def listen_to(request: WSUpgradeRequest) -> Listener:
    """Return the listener of a new connection."""
    return Listener()


async def main(port: int) -> None:
    """Serve until the process ends."""
    server = await ws_create_server(listen_to, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
