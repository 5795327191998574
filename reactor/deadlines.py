"""Timeouts of equal length, and the clock they run on.

All timeouts of one kind have one length, so the order they were started in is the order they end in: starting,
stopping and looking for the next cost the same with one connection as with 15,000.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

LATE_S = 1.0


class Clock:
    """Monotonic time, less the pauses that were our own.

    After Ctrl+Z, a stopped virtual machine or a debugger all timeouts would fire, though what they wait for lies
    unread in the sockets. A turn that begins more than LATE_S late therefore shifts all of them by its lateness.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lost = 0.0
        self.now = monotonic()

    def turn(self, expected: float) -> None:
        """Read the time, once a turn.

        Args:
            expected: when, on this clock, the turn was to begin at the latest.
        """
        self.now = self._monotonic() - self._lost
        late = self.now - expected
        if late > LATE_S:
            self._lost += late
            self.now -= late


class Deadlines:
    """The connections that one kind of timeout runs for, by fd."""

    def __init__(self, clock: Clock, seconds: float, expired: Callable[[int], None]) -> None:
        """Prepare for timeouts of `seconds`; `expired` is called with the fd of each that ran out."""
        self._clock = clock
        self._seconds = seconds
        self._expired = expired
        self._ends: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def start(self, fd: int) -> None:
        """Start the timeout, again where it runs already."""
        self._ends.pop(fd, None)
        self._ends[fd] = self._clock.now + self._seconds

    def stop(self, fd: int) -> None:
        """Stop the timeout; nothing where it does not run."""
        self._ends.pop(fd, None)

    def next_end(self) -> float | None:
        """Return when the first one runs out, on the clock; None where none runs."""
        return next(iter(self._ends.values())) if self._ends else None

    def run(self) -> None:
        """Call `expired` for each that has run out."""
        while self._ends:
            fd, end = next(iter(self._ends.items()))
            if end > self._clock.now:
                return
            del self._ends[fd]
            self._expired(fd)
