"""What zwoole raises, in one tree."""

from __future__ import annotations


class ZwooleError(Exception):
    """The root: catching it catches all that zwoole raises of its own."""


class SettingsError(ZwooleError):
    """A setting, event or option that does not exist or cannot have that value; the message says what can."""


class StartError(ZwooleError):
    """The server cannot start: a port in use, a run directory that cannot be used, a script that has no server."""


class WrongProcess(ZwooleError):
    """A call that this process cannot serve, such as start() in a process that a multiprocessing pool spawned."""


class NotServing(ZwooleError):
    """A command before its worker is connected to the masters, as in `worker_start`, or after its goodbye to them."""


class BackpressureError(ZwooleError):
    """A coroutine pushed far past what the master has taken; `await server.drain()` waits until it has."""


class QueueFull(ZwooleError):
    """What was to be sent to another worker has no room in its queue, or no worker: try again later, or do without."""


class ConcurrencyError(ZwooleError):
    """Two coroutines read one connection at the same time."""


class ConnectionClosed(ZwooleError):
    """The connection of a handler is closed.

    Attributes:
        code: the close code; 1005 where the peer gave none, 1006 where there was no close frame.
        reason: the reason, "" where none was given.
        fd: the connection's id, None where it is not known.
    """

    def __init__(self, code: int, reason: str, fd: int | None = None) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.fd = fd

    def __str__(self) -> str:
        which = "" if self.fd is None else f"fd {self.fd} was "
        return f"{which}closed with code {self.code}" + (f": {self.reason}" if self.reason else "")


class ConnectionClosedOK(ConnectionClosed):
    """Closed with 1000 or 1001, or with no code."""


class ConnectionClosedError(ConnectionClosed):
    """Closed with another code, or without a close frame."""
