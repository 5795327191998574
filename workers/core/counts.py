"""The counters of a worker: events, the times of their callbacks, failures. They cost a few nanoseconds per event."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any

from zwoole.shared.memory.stats import TIME_BOUNDS
from zwoole.shared.wire.events import CALLBACKS

KINDS = 16  # every kind of event is below this


class Counts:
    """The counters of one worker.

    Attributes:
        total: events taken from the wire.
        finished: events whose callbacks have ended, or that needed none.
        seconds: the sum of the times that callbacks took.
        failures: callbacks that raised, by event.
        record_at: when the counters are to be written where other processes can read them, in monotonic seconds.
        on_record: writes them, and sets `record_at` to the next time.
    """

    __slots__ = (
        "_bounds",
        "_events",
        "_times",
        "failures",
        "finished",
        "on_record",
        "record_at",
        "seconds",
        "total",
    )

    def __init__(self) -> None:
        self.total = 0
        self.finished = 0
        self.seconds = 0.0
        self.failures: Counter[str] = Counter()
        self.record_at = float("inf")
        self.on_record: Callable[[], None]
        self._bounds = memoryview(array("d", (*TIME_BOUNDS, float("inf"))))
        self._times = memoryview(array("Q", [0] * len(self._bounds)))
        self._events = memoryview(array("Q", [0] * KINDS))

    def taken(self, kind: int) -> None:
        """Count an event that was taken from the wire, of one of the kinds that call a callback."""
        self.total += 1
        self._events[kind] += 1

    def ran(self, seconds: float) -> None:
        """Count a callback that has ended.

        Args:
            seconds: the time that it took.
        """
        bucket = 0
        while seconds > self._bounds[bucket]:
            bucket += 1
        self._times[bucket] += 1
        self.seconds += seconds

    def as_dict(self) -> dict[str, Any]:
        """Return all counters, as they stand in a snapshot."""
        return {
            "events": {name: self._events[kind] for kind, name in CALLBACKS.items()},
            "callback_times": list(self._times),
            "callback_seconds": round(self.seconds, 6),
            "failures": dict(self.failures),
        }
