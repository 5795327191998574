"""Children that the app forks in a process of the server: what they may not keep of it, and where they end.

A forked child has all of its parent's memory and descriptors, but only the thread that forked. What is the server's own
is taken from it before the app's code goes on there; when that code comes back to where zwoole called it, the child
ends: there must be no second worker. Programs that subprocess starts, and multiprocessing's spawn, begin anew and need
none of this.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from zwoole.shared.errors import WrongProcess
from zwoole.shared.process.log import flush, get_logger, trace_of
from zwoole.shared.process.signals import SUPERVISORS

MAX_NAME_BYTES = 128  # a Unix socket's address has at most 110

forked = False  # whether this process is such a child

_calls: list[Callable[[], None]] = []
_libc = ctypes.CDLL(None)
_thread = threading.local()  # mask: the signals that a thread lets through again when it has forked


def in_child(call: Callable[[], None]) -> None:
    """Have `call` run in every child that is forked from now on, before the app's code goes on there."""
    _calls.append(call)


def forget(call: Callable[[], None]) -> None:
    """Take back what `in_child` was given."""
    _calls.remove(call)


def _hold_signals() -> None:
    """Before a fork: a signal that the child is sent at once must find the handlers that it is to have, not ours."""
    if _calls:
        _thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISORS)


def _let_signals_through() -> None:
    mask, _thread.mask = getattr(_thread, "mask", None), None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begin_child() -> None:
    global forked
    if _calls:
        forked = True
        calls = _calls[:]
        _calls.clear()  # a child of this child has nothing of the server's any more
        try:
            for call in calls:
                call()
        finally:
            _let_signals_through()


os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_through, after_in_child=_begin_child)


def leave(error: BaseException | None = None) -> None:
    """End this process if it is a forked child whose code has come to its end; in every other process do nothing.

    The standard streams are flushed; functions registered with atexit are not called, as in multiprocessing's children.

    Args:
        error: what the child's code has raised. SystemExit gives its code; the traceback of any other error is printed
            and the exit code is 1. None: the code is 0.
    """
    if not forked:
        return
    code = 0
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            code = (error.code or 0) & 0xFF
        else:
            print(error.code, file=sys.stderr)
            code = 1
    elif error is not None:
        trace = trace_of(error)
        if trace is not None:
            get_logger("forks").error("a process that the app has forked failed", exc_info=trace)
        code = 1
    flush()
    os._exit(code)


def refuse(command: str, *_: object, **__: object) -> NoReturn:
    """Stand in for a command in a forked child.

    Raises:
        WrongProcess: always.
    """
    raise WrongProcess(
        f"{command}() does not work in a process that a callback has forked: give the result back to the worker, as"
        " pools do, and call it there; or use zwoole.Control"
    )


def refuse_if_forked(command: str) -> None:
    """Do nothing but in a forked child.

    Raises:
        WrongProcess: this is one.
    """
    if forked:
        refuse(command)


@contextmanager
def child_ends_here() -> Iterator[None]:
    """Run code of the app; a child that it forks, and that does not end by itself, ends where the block ends."""
    try:
        yield
    except BaseException as error:
        leave(error)
        raise
    leave()


def close_descriptors(*descriptors: int) -> None:
    """Close what this child shares with its parent; what is closed already stays so."""
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError:
            pass


def close_connections(run_dir: Path) -> None:
    """Close this child's share of the connections between the server's processes.

    As long as it held them open, the other end would not see that the parent has died.
    """
    inside = os.fsencode(run_dir) + b"/"
    for entry in list(Path("/proc/self/fd").iterdir()):
        descriptor = int(entry.name)
        if any(name.startswith(inside) for name in unix_names(descriptor)):
            close_descriptors(descriptor)


def unix_names(descriptor: int) -> list[bytes]:
    """Return the paths of a Unix socket and of its peer; none where it has none, or is something else.

    The socket module would do, but it may set the descriptor to non-blocking, in the parent too.
    """
    names = []
    address = ctypes.create_string_buffer(MAX_NAME_BYTES)
    for ask in (_libc.getsockname, _libc.getpeername):
        length = ctypes.c_uint(MAX_NAME_BYTES)
        if ask(descriptor, address, ctypes.byref(length)) == 0:
            family = int.from_bytes(address.raw[:2], sys.byteorder)
            if family == socket.AF_UNIX:
                names.append(address.raw[2 : length.value].partition(b"\0")[0])
    return names
