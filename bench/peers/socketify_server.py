"""socketify, which wraps uWebSockets. Usage: python socketify_server.py PORT MODE."""

import sys
import time

from socketify import App, AppListenOptions, CompressOptions, OpCode, WebSocket

MODE = sys.argv[2]


def on_open(socket: WebSocket) -> None:
    """Join."""
    if MODE == "broadcast":
        socket.subscribe("all")


def on_message(socket: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    """Handle a message as the mode says."""
    if MODE == "broadcast":
        app.publish("all", message, opcode)
        return
    if MODE == "cpu":
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
    socket.send(message, opcode)


app = App()
app.ws(
    "/",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 16 << 20,
        "open": on_open,
        "message": on_message,
    },
)

if __name__ == "__main__":
    app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
    app.run()
