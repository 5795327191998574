"""The signals that the supervisor acts on, and that its masters and workers leave to it.

Terminals, service managers and `kill` send them to all processes at once. Masters and workers must not end by them, and
not from their first instruction on: until Python runs, they would. So both are born with the signals held back, and let
them through once they are ignored.

What is installed here is for this process alone. Programs that it starts get the default actions: a signal that is
ignored stays so in them, one that a function handles does not. Children that it forks are given back what was there
before (`give_back`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

SUPERVISORS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGRTMIN,
)

# Reads and writes of a group in the terminal's background raise them. A function that handles them would be called for
# ever: the system call goes on afterwards, and raises them again.
FROM_TERMINAL_IO = (signal.SIGTTIN, signal.SIGTTOU)

Handler = Callable[[int, "FrameType | None"], Any] | int

_taken: dict[int, Any] = {}  # what we have installed, by signal
_before: dict[int, Any] = {}  # what was there before that


@contextmanager
def held_back() -> Iterator[None]:
    """Hold the signals back while a child is started, which inherits that; they are delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISORS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Ignore the signals from now on, in a master: it starts no programs that would inherit that."""
    for number in (*SUPERVISORS, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    let_through()


def leave_to_supervisor() -> None:
    """Do nothing at the signals from now on, in a worker, whatever handlers its script has installed meanwhile."""
    for number in SUPERVISORS:
        if number not in FROM_TERMINAL_IO:
            take(number, _do_nothing)
    let_through()


def live_in_background() -> None:
    """Lead a process group from now on, in a worker, which what it starts will be in.

    If the server was started on a terminal, the group is not the one in its foreground: what the keyboard sends does
    not reach it. Its reads from the terminal fail then and its writes succeed, instead of stopping it. That holds for
    programs which it starts, too.
    """
    os.setpgid(0, 0)
    has_terminal = _has_terminal()
    for number in FROM_TERMINAL_IO:
        if has_terminal:
            signal.signal(number, signal.SIG_IGN)
        else:
            take(number, _do_nothing)


def let_through() -> None:
    """Hear the signals that were held back: by the supervisor, or by what has started the server and held back some.

    SIGABRT is not for the supervisor, but it has a process that hangs write its stacks.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*SUPERVISORS, signal.SIGABRT})


def heed_while_starting() -> None:
    """Let SIGTERM and SIGQUIT end this process while it imports the app, which may take long.

    For process 1 of a container the kernel drops signals that have no handler, and a parent may have held them back.
    """
    if os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGQUIT):
            if signal.getsignal(number) == signal.SIG_DFL:
                take(number, _end)
    let_through()


def take(number: int, handler: Handler) -> None:
    """Install a handler; system calls that it interrupts go on afterwards."""
    current = signal.getsignal(number)
    if number not in _taken or current != _taken[number]:
        _before[number] = current
    _taken[number] = handler
    signal.signal(number, handler)
    if callable(handler):
        signal.siginterrupt(number, False)


def is_caught(number: int) -> bool:
    """Tell whether something handles a signal here, also what Python does not know of, such as faulthandler."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return callable(signal.getsignal(number))
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def give_back() -> None:
    """Install again what was there before ours; what the app has installed since then stays."""
    for number, handler in _taken.items():
        if signal.getsignal(number) == handler:
            before = _before[number]
            signal.signal(number, signal.SIG_DFL if before is None else before)
    _taken.clear()
    _before.clear()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _end(number: int, frame: FrameType | None) -> None:
    """End at once, as the default action would, with the code that shells have for it."""
    os._exit(128 + number)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Ignore a signal in such a way that programs which this process starts do not ignore it too."""
