"""Child processes that the app forks from a process of the server: what they must give up, and where they end.

A forked child has all of its parent's memory and descriptors, but only the thread that forked. Before the app's code
continues in the child, zwoole takes away everything that belongs to the server. When that code returns to zwoole, the
child exits: it must not become a second worker. Programs that are started with subprocess, and multiprocessing's spawn,
start with a new interpreter and need none of this.
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
from zwoole.shared.process.signals import SUPERVISOR_SIGNALS

MAX_NAME_BYTES = 128  # more than the largest address of a Unix socket (110 bytes)

forked = False  # whether this process is a child that the app forked

_calls: list[Callable[[], None]] = []
_libc = ctypes.CDLL(None)
_thread = threading.local()  # attribute `mask`: the thread's signal mask before the fork


def in_child(call: Callable[[], None]) -> None:
    """Make every child that is forked from now on call `call` before the app's code continues there."""
    _calls.append(call)


def forget(call: Callable[[], None]) -> None:
    """Cancel a call that was registered with `in_child`."""
    _calls.remove(call)


def _hold_signals() -> None:
    """Block signals before a fork, so that a signal sent to the child at once does not reach our handlers."""
    if _calls:
        _thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISOR_SIGNALS)


def _let_signals_through() -> None:
    mask, _thread.mask = getattr(_thread, "mask", None), None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begin_child() -> None:
    global forked
    if _calls:
        forked = True
        calls = _calls[:]
        _calls.clear()  # a grandchild has nothing of the server's left to give up
        try:
            for call in calls:
                call()
        finally:
            _let_signals_through()


os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_through, after_in_child=_begin_child)


def leave(error: BaseException | None = None) -> None:
    """Exit this process if it is a forked child whose code has finished; do nothing in any other process.

    The standard streams are flushed. Functions registered with atexit are not called, as in multiprocessing's children.

    Args:
        error: what the child's code raised. SystemExit sets the exit code; for any other error the traceback is printed
            and the exit code is 1. None: the exit code is 0.
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
    """Replace a command of the server in a forked child.

    Raises:
        WrongProcess: always.
    """
    raise WrongProcess(
        f"{command}() does not work in a process that a callback has forked: give the result back to the worker, as"
        " pools do, and call it there; or use zwoole.Control"
    )


def refuse_if_forked(command: str) -> None:
    """Refuse a command if this process is a forked child.

    Raises:
        WrongProcess: this process is a forked child.
    """
    if forked:
        refuse(command)


@contextmanager
def child_ends_here() -> Iterator[None]:
    """Run code of the app in a `with` block; a child that it forks exits at the end of the block if not before."""
    try:
        yield
    except BaseException as error:
        leave(error)
        raise
    leave()


def close_descriptors(*descriptors: int) -> None:
    """Close descriptors that this child shares with its parent; ignore those that are closed already."""
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError:
            pass


def close_connections(run_dir: Path) -> None:
    """Close this child's copies of the connections between the server's processes.

    While the child holds them open, the other end does not notice that the parent has died.
    """
    inside = os.fsencode(run_dir) + b"/"
    for entry in list(Path("/proc/self/fd").iterdir()):
        descriptor = int(entry.name)
        if any(name.startswith(inside) for name in unix_names(descriptor)):
            close_descriptors(descriptor)


def unix_names(descriptor: int) -> list[bytes]:
    """Return the paths of a Unix socket and of its peer; empty if the descriptor has none or is not a Unix socket.

    The socket module could do this, but it may make the descriptor non-blocking, in the parent too.
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
