"""The signals that a terminal sends to every process of the foreground, and that only the supervisor acts on.

A child ignores them, but not from its first instruction: until Python runs, SIGINT would end it. So it is born with
them blocked, and lets them through once they are ignored.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


@contextmanager
def held_back() -> Iterator[None]:
    """Hold the signals back while a child is started, which inherits that; they are delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FROM_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_supervisor() -> None:
    """Ignore the signals from now on, in a child that was born with them held back."""
    for number in FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FROM_TERMINAL)
