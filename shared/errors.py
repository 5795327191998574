"""The exceptions that zwoole raises, in one tree."""

from __future__ import annotations


class ZwooleError(Exception):
    """The base class of all exceptions that zwoole defines."""


class SettingsError(ZwooleError):
    """A setting, event or option that does not exist or has an invalid value; the message says what is valid."""


class StartError(ZwooleError):
    """The server cannot start, for example because the port is in use, the run directory is unusable, or the script
    has no server.
    """


class WrongProcess(ZwooleError):
    """A call that does not work in this process, such as start() in a process that a multiprocessing pool spawned."""


class NotServing(ZwooleError):
    """A command before its worker is connected to the masters, as in `worker_start`, or after it has said goodbye
    to them.
    """


class BackpressureError(ZwooleError):
    """A coroutine has pushed far more than the master has accepted: `await server.drain()` waits until it has caught
    up. Or another thread has waited for long in a push, because the callback that runs kept it from going on.
    """


class QueueFull(ZwooleError):
    """A message to another worker does not fit its queue, or no master is there to pass it on: try again later, or
    drop the message.
    """


class ConcurrencyError(ZwooleError):
    """Two coroutines read from one connection at the same time."""


class ConnectionClosed(ZwooleError):
    """A handler's connection is closed.

    Attributes:
        code: the close code; 1005 if the close frame had none, 1006 if there was no close frame.
        reason: the reason; "" if there is none.
        fd: the connection's id; None if unknown.
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
    """Closed with code 1000 or 1001, or without a code."""


class ConnectionClosedError(ConnectionClosed):
    """Closed with any other code, or without a close frame."""


def only_says_closed(error: BaseException | None, fd: int | None = None) -> bool:
    """Tell whether an error says that a connection was closed, and nothing else.

    That is a ConnectionClosed, an error that was raised from one, or a group of such errors.

    Args:
        error: the error.
        fd: the connection; None for any.
    """
    if isinstance(error, ConnectionClosed):
        return fd is None or error.fd == fd
    parts = getattr(error, "exceptions", None)  # of an ExceptionGroup, which Python 3.10 has from a package only
    if isinstance(parts, tuple) and parts:
        return all(isinstance(part, BaseException) and only_says_closed(part, fd) for part in parts)
    return error is not None and error.__cause__ is not None and only_says_closed(error.__cause__, fd)
