"""The counts of a load process: correct replies, their bytes, and a histogram of latencies, per interval.

Types come from tally.pxd. Without a compiler the same source runs uncompiled.
"""

from array import array
from collections.abc import Callable

from zwoole.bench.loadtest.content import Contents

BUCKETS = 4352  # the size of an HdrHistogram for latencies below 2**40 ns (18 minutes) with two significant digits
FOREVER_NS = 1 << 62

_LAST_BUCKET = BUCKETS - 1


def bucket(nanoseconds: int) -> int:
    """Return HdrHistogram's bucket of a latency: 128 buckets per power of two, none wider than 0.8 % of its value."""
    shift = 0
    while nanoseconds >> shift >= 256:
        shift += 1
    index = (shift << 7) + (nanoseconds >> shift)
    return index if index < _LAST_BUCKET else _LAST_BUCKET


class Tally:
    """What the connections of one process share: message contents, parameters of the run, and counts.

    Counts are kept per interval of the run: ``messages`` is the number of correct replies, ``payload_bytes`` their
    size, ``latencies`` a histogram (see bucket()). Interval 0 begins at ``opens_ns``. Intervals of the warm-up have
    negative numbers, and the one after the last has no end.
    """

    __slots__ = (
        "_finished",
        "_interval_ns",
        "_intervals",
        "_latencies",
        "clock",
        "contents",
        "depth",
        "gap_ps",
        "interval",
        "interval_end_ns",
        "last_reply_ns",
        "latencies",
        "limit",
        "messages",
        "now_ns",
        "payload_bytes",
        "ring",
        "unanswered",
    )

    def __init__(
        self, contents: Contents, depth: int, gap_ps: int = 0, clock: "Callable[[], int] | None" = None
    ) -> None:
        """Prepare for messages with these contents.

        Args:
            contents: what the messages contain.
            depth: closed loop: outstanding messages per connection.
            gap_ps: open loop: picoseconds between two messages of one connection.
            clock: returns the time in nanoseconds; None for connection.clock_ns(), which compiled code calls directly.
        """
        self.clock = clock
        self.contents = contents
        self.depth = 0 if gap_ps else depth
        self.gap_ps = gap_ps
        self.ring = (1 << max(self.depth - 1, 0).bit_length()) - 1  # sequence & ring is the index of a send time
        self.limit = 0  # messages per connection
        self.now_ns = 0  # time of the last read
        self.last_reply_ns = 0
        self.unanswered = 0  # in all streams whose number of messages is known
        self.begin(0, 0, FOREVER_NS, 1)

    def begin(self, start_ns: int, opens_ns: int, interval_ns: int, intervals: int) -> None:
        """Count from ``start_ns`` in intervals; interval 0 begins at ``opens_ns``."""
        self._interval_ns = interval_ns
        self._intervals = intervals
        self.interval = -((opens_ns - start_ns + interval_ns - 1) // interval_ns)
        self.interval_end_ns = opens_ns + (self.interval + 1) * interval_ns
        self._finished: list[tuple[int, int, int, array[int]]] = []
        self._clear()

    def end_intervals(self, now_ns: int) -> None:
        """Store the counts of the intervals that have ended."""
        while now_ns >= self.interval_end_ns:
            self._finished.append((self.interval, self.messages, self.payload_bytes, self.latencies))
            self._clear()
            self.interval += 1
            last = self.interval == self._intervals
            self.interval_end_ns = FOREVER_NS if last else self.interval_end_ns + self._interval_ns

    def take_finished(self) -> "list[tuple[int, int, int, array[int]]]":
        """Return (interval, messages, payload bytes, latencies) of stored intervals, each once."""
        finished = self._finished
        self._finished = []
        return finished

    def end(self) -> None:
        """Store the counts of the current interval, which is the last."""
        self._finished.append((self.interval, self.messages, self.payload_bytes, self.latencies))
        self._clear()

    def record(self, latency_ns: int, size: int = 0) -> None:
        """Count one correct reply."""
        self.messages += 1
        self.payload_bytes += size
        self._latencies[bucket(latency_ns)] += 1

    def _clear(self) -> None:
        self.messages = 0
        self.payload_bytes = 0
        self.latencies = self._latencies = array("Q", bytes(8 * BUCKETS))
