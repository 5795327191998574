"""Timeouts, and the clock they run on: starting and stopping one costs the same with one connection as with 15,000.

`Deadlines` are all of one length, so the order they were started in is the order they end in. A `Wheel` has timeouts
of any length, and is less exact.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from heapq import heappop, heappush

LATE_S = 1.0
TICK_S = 0.05
MOST_ENDS = 128  # timeouts of one kind that may run out in a turn; the next turn goes on at once


class Clock:
    """Monotonic time, less the pauses that were our own.

    After Ctrl+Z, a stopped virtual machine or a debugger all timeouts would fire, though what they wait for lies
    unread in the sockets. A turn that begins more than LATE_S late therefore shifts all of them by its lateness.

    Attributes:
        now: the time of this turn.
        latest: the most that a turn began late, in seconds; whoever reads it sets it back.
        woke: the time in monotonic seconds, pauses included.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lost = 0.0
        self.latest = 0.0
        self.now = self.woke = monotonic()

    def turn(self, expected: float) -> None:
        """Read the time, once a turn.

        Args:
            expected: when, on this clock, the turn was to begin at the latest.
        """
        self.woke = self._monotonic()
        self.now = self.woke - self._lost
        late = self.now - expected
        if late > self.latest:
            self.latest = late
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
        """Call `expired` for each that has run out, for MOST_ENDS of them at most."""
        ended = 0
        while self._ends and ended < MOST_ENDS:  # nothing else, where nothing runs: most turns look at every timeout
            fd, end = next(iter(self._ends.items()))
            if end > self._clock.now:
                return
            ended += 1
            del self._ends[fd]
            self._expired(fd)


class Wheel:
    """The connections that timeouts of different lengths run for, by fd: each ends up to TICK_S late, never early.

    Those that end in one tick stand in one set, and the ticks in a heap: what is sorted is ticks, not connections.
    """

    def __init__(self, clock: Clock, expired: Callable[[int], None]) -> None:
        """Prepare for timeouts; `expired` is called with the fd of each that ran out."""
        self._clock = clock
        self._expired = expired
        self._ticks: list[int] = []
        self._ending: dict[int, set[int]] = {}  # fds by tick
        self._set_of: dict[int, set[int]] = {}  # by fd

    def __len__(self) -> int:
        return len(self._set_of)

    def start(self, fd: int, seconds: float) -> None:
        """Start the timeout, again where it runs already."""
        self.stop(fd)
        tick = int((self._clock.now + seconds) / TICK_S) + 1
        ending = self._ending.get(tick)
        if ending is None:
            ending = self._ending[tick] = set()
            heappush(self._ticks, tick)
        ending.add(fd)
        self._set_of[fd] = ending

    def stop(self, fd: int) -> None:
        """Stop the timeout; nothing where it does not run."""
        ending = self._set_of.pop(fd, None)
        if ending is not None:
            ending.discard(fd)

    def next_end(self) -> float | None:
        """Return when to look at the wheel next, on the clock; None where nothing runs."""
        return self._ticks[0] * TICK_S if self._ticks else None

    def run(self) -> None:
        """Call `expired` for each that has run out, for MOST_ENDS of them at most."""
        ended = 0
        while self._ticks and self._ticks[0] * TICK_S <= self._clock.now:
            ending = self._ending[self._ticks[0]]
            while ending:
                if ended == MOST_ENDS:
                    return
                ended += 1
                fd = ending.pop()
                del self._set_of[fd]
                self._expired(fd)
            del self._ending[heappop(self._ticks)]
