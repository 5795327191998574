"""Timeouts, and the clock that they run on. To start or stop one costs the same with 1 connection as with 15,000.

`Deadlines` have one length, so they expire in the order in which they were started. A `Wheel` has timeouts of any
length, and is less exact.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush

LATE_S = 1.0
TICK_S = 0.05
SPARE_TICKS = 64
MOST_ENDS = 128  # timeouts of one kind that may expire in a turn; the next turn continues without sleeping
NEVER = float("inf")
_SPARE_TICKS = SPARE_TICKS
_MOST_ENDS = MOST_ENDS  # these are C numbers in the compiled module
_LATE_S = LATE_S
_TICK_S = TICK_S
_NEVER = NEVER


class Clock:
    """Monotonic time without the pauses of this process.

    After Ctrl+Z, a paused virtual machine or a debugger every timeout would expire, although the data that it waits for
    may lie unread in a socket. So if a turn begins more than LATE_S late, the clock leaves out the delay, which
    postpones all timeouts by it.

    Attributes:
        now: the time of this turn in seconds, without pauses.
        latest: the largest delay with which a turn began, in seconds. The reader resets it.
        woke: the time of this turn in seconds of the monotonic clock, pauses included.
    """

    __slots__ = ("_lost", "_monotonic", "latest", "now", "woke")

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lost = 0.0
        self.latest = 0.0
        self.now = self.woke = monotonic()

    def turn(self, expected: float) -> None:
        """Read the time, once a turn.

        Args:
            expected: the latest time, on this clock, at which the turn should have begun.
        """
        self.woke = self._monotonic()
        self.now = self.woke - self._lost
        late = self.now - expected
        if late > self.latest:
            self.latest = late
        if late > _LATE_S:
            self._lost += late
            self.now -= late


class Timeouts:
    """Timeouts of one kind, as the loop sees them."""

    __slots__ = ()

    def next_end(self) -> float:
        """Return when to call `run` next, on the clock; NEVER if no timeout is running."""
        raise NotImplementedError

    def run(self) -> None:
        """Call `expired` for the timeouts that have expired, at most MOST_ENDS of them."""
        raise NotImplementedError


class Deadlines(Timeouts):
    """Timeouts of one length, one for each fd."""

    __slots__ = ("_clock", "_ends", "_expired", "_seconds")

    def __init__(self, clock: Clock, seconds: float, expired: Callable[[int], None]) -> None:
        """Create without timeouts.

        Args:
            clock: the clock that they run on.
            seconds: the length of each.
            expired: called with the fd of each timeout that expires.
        """
        self._clock = clock
        self._seconds = seconds
        self._expired = expired
        self._ends: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def start(self, fd: int) -> None:
        """Start the timeout of an fd; restart it if it is running."""
        self._ends.pop(fd, None)
        self._ends[fd] = self._clock.now + self._seconds

    def stop(self, fd: int) -> None:
        """Stop the timeout of an fd, if it is running."""
        self._ends.pop(fd, None)

    def next_end(self) -> float:
        """See Timeouts.next_end."""
        if not self._ends:
            return _NEVER
        return next(iter(self._ends.values()))

    def run(self) -> None:
        """See Timeouts.run."""
        ended = 0
        while self._ends and ended < _MOST_ENDS:
            fd, end = next(iter(self._ends.items()))
            if end > self._clock.now:
                return
            ended += 1
            del self._ends[fd]
            self._expired(fd)


class Wheel(Timeouts):
    """Timeouts of different lengths, one for each fd. Each expires up to TICK_S late, never early.

    All timeouts that end in one tick are in one set, and the ticks are in a heap: only ticks are sorted, not
    connections. A tick whose timeouts were all stopped stays until it ends, or until there are SPARE_TICKS more than
    twice as many ticks as timeouts.
    """

    __slots__ = ("_clock", "_ending", "_expired", "_set_of", "_ticks")

    def __init__(self, clock: Clock, expired: Callable[[int], None]) -> None:
        """Create without timeouts.

        Args:
            clock: the clock that they run on.
            expired: called with the fd of each timeout that expires.
        """
        self._clock = clock
        self._expired = expired
        self._ticks: list[int] = []
        self._ending: dict[int, set[int]] = {}  # fds by tick
        self._set_of: dict[int, set[int]] = {}  # by fd, the set that it is in

    def __len__(self) -> int:
        return len(self._set_of)

    def start(self, fd: int, seconds: float) -> None:
        """Start the timeout of an fd, `seconds` long; restart it if it is running."""
        self.stop(fd)
        tick = int((self._clock.now + seconds) / _TICK_S) + 1
        ending = self._ending.get(tick)
        if ending is None:
            if len(self._ticks) > 2 * len(self._set_of) + _SPARE_TICKS:
                self._forget_empty_ticks()
            ending = self._ending[tick] = set()
            heappush(self._ticks, tick)
        ending.add(fd)
        self._set_of[fd] = ending

    def stop(self, fd: int) -> None:
        """Stop the timeout of an fd, if it is running."""
        ending = self._set_of.pop(fd, None)
        if ending is not None:
            ending.discard(fd)

    def _forget_empty_ticks(self) -> None:
        self._ending = {tick: ending for tick, ending in self._ending.items() if ending}
        self._ticks = list(self._ending)
        heapify(self._ticks)

    def next_end(self) -> float:
        """See Timeouts.next_end."""
        return self._ticks[0] * _TICK_S if self._ticks else _NEVER

    def run(self) -> None:
        """See Timeouts.run."""
        ended = 0
        while self._ticks and self._ticks[0] * _TICK_S <= self._clock.now:
            tick = self._ticks[0]
            ending = self._ending[tick]
            while ending:
                if ended == _MOST_ENDS:
                    return
                ended += 1
                fd = ending.pop()
                del self._set_of[fd]
                self._expired(fd)
            if self._ticks and self._ticks[0] == tick:  # else a new timeout has made the wheel forget this tick
                del self._ending[heappop(self._ticks)]
