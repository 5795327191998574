"""zwoole: a Swoole-style WebSocket server. Reactor in a master process, callbacks in worker processes.

from zwoole import Server

server = Server("127.0.0.1", 8080)

@server.on("message")
def on_message(server, frame):
    server.push(frame.fd, "Hello from zwoole server!")

server.start()
"""

import sys

if sys.platform != "linux":
    raise ImportError(f"zwoole runs on Linux only (it needs epoll and pidfd), not on {sys.platform}")

from zwoole import excepthook as _excepthook
from zwoole.control import Control
from zwoole.control_client import ControlFailed
from zwoole.shared.answers import Accept, Refuse
from zwoole.shared.errors import (
    BackpressureError,
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    NotServing,
    QueueFull,
    SettingsError,
    StartError,
    WrongProcess,
    ZwooleError,
)
from zwoole.shared.process import descriptors as _descriptors
from zwoole.shared.request import Headers, Request
from zwoole.shared.websocket.frames import OP_BINARY, OP_TEXT
from zwoole.version import VERSION as __version__
from zwoole.workers import role as _role
from zwoole.workers.invocation.handlers import HandlerConnection
from zwoole.workers.invocation.received_frame import Frame
from zwoole.workers.server import Server

__all__ = [
    "OP_BINARY",
    "OP_TEXT",
    "Accept",
    "BackpressureError",
    "ConcurrencyError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Control",
    "ControlFailed",
    "Frame",
    "HandlerConnection",
    "Headers",
    "NotServing",
    "QueueFull",
    "Refuse",
    "Request",
    "Server",
    "SettingsError",
    "StartError",
    "WrongProcess",
    "ZwooleError",
    "__version__",
]


def _supervise(server: Server) -> None:
    """Become the supervisor, which is imported here since masters and workers do not need it."""
    from zwoole.supervisor.start.launch import supervise

    supervise(server)


_descriptors.open_missing()  # before another file takes one of their numbers
_role.set_starter(_supervise)
_excepthook.install()
