"""The signals that the supervisor acts on, and that masters and workers therefore ignore.

Terminals, service managers and `kill` send them to all processes of a server at once. They must not end a master or
worker, not even before its Python code runs. So both start with these signals blocked, and unblock them once they
ignore them.

What is installed here is for this process alone. A signal that is ignored would stay ignored in programs that the
process starts; a signal that is handled by a function has its default action there. So workers use functions. In
children that the app forks, `restore` brings back the handlers that were there before.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

SUPERVISOR_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGRTMIN,
)

# Raised by terminal reads and writes of a background process group. A function that handles them would be called in an
# endless loop: the interrupted system call is restarted and raises the signal again.
FROM_TERMINAL_IO = (signal.SIGTTIN, signal.SIGTTOU)

Handler = Callable[[int, "FrameType | None"], Any] | int

_installed: dict[int, Any] = {}  # our handlers by signal
_before: dict[int, Any] = {}  # the handlers that they replaced


@contextmanager
def blocked() -> Iterator[None]:
    """Block the signals while a child is started, which inherits that. They are delivered after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISOR_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Ignore the signals from now on. For a master, which starts no programs that would inherit that."""
    for number in (*SUPERVISOR_SIGNALS, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    unblock()


def leave_to_supervisor() -> None:
    """Handle the signals by doing nothing, whatever handlers the worker's script has installed meanwhile."""
    for number in SUPERVISOR_SIGNALS:
        if number not in FROM_TERMINAL_IO:
            install(number, _do_nothing)
    unblock()


def live_in_background() -> None:
    """Make this worker the leader of a new process group, which the programs it starts belong to.

    If the server runs on a terminal, the new group is in the background: signals from the keyboard do not reach it.
    Reads from the terminal then fail, and writes succeed, instead of stopping the process. That also applies to
    programs that the worker starts.
    """
    os.setpgid(0, 0)
    has_terminal = _has_terminal()
    for number in FROM_TERMINAL_IO:
        if has_terminal:
            signal.signal(number, signal.SIG_IGN)
        else:
            install(number, _do_nothing)


def unblock() -> None:
    """Unblock the signals: the supervisor has blocked them for a child, or the parent of the first process may have.

    SIGABRT is unblocked too: it makes a hung process write its stacks.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*SUPERVISOR_SIGNALS, signal.SIGABRT})


def obey_while_starting() -> None:
    """Let SIGTERM and SIGQUIT end this process while it imports the app, which may take long.

    The kernel drops signals without a handler for process 1 of a container, and a parent may have blocked them.
    """
    if os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGQUIT):
            if signal.getsignal(number) == signal.SIG_DFL:
                install(number, _end)
    unblock()


def install(number: int, handler: Handler) -> None:
    """Install a handler, and remember the one it replaces. System calls that it interrupts are restarted."""
    current = signal.getsignal(number)
    if number not in _installed or current != _installed[number]:
        _before[number] = current
    _installed[number] = handler
    signal.signal(number, handler)
    if callable(handler):
        signal.siginterrupt(number, False)


def is_caught(number: int) -> bool:
    """Return whether a signal has a handler in this process, including handlers unknown to Python, such as
    faulthandler's.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return callable(signal.getsignal(number))
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def restore() -> None:
    """Restore the handlers that ours replaced. Handlers that the app has installed since then stay."""
    for number, handler in _installed.items():
        if signal.getsignal(number) == handler:
            before = _before[number]
            signal.signal(number, signal.SIG_DFL if before is None else before)
    _installed.clear()
    _before.clear()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _end(number: int, frame: FrameType | None) -> None:
    """Exit at once, as the default action would, with the exit code that shells report for the signal."""
    os._exit(128 + number)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Ignore a signal without making programs that this process starts ignore it too."""
