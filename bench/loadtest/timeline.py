"""The combined counts of all processes: the intervals of a run in order, and their sum."""

from dataclasses import dataclass

from zwoole.bench.loadtest import histogram
from zwoole.bench.loadtest.client import Window
from zwoole.bench.loadtest.process import Sample


@dataclass(frozen=True)
class Row:
    """One interval of a run."""

    ends_s: float
    """Its end in seconds after counting began; 0 or less in the warm-up."""
    messages: int
    rate: float
    """Messages per second."""
    latency_us: dict[str, float]
    """By the names of histogram.PERCENTILES."""
    errors: int
    """Errors of all kinds since the start."""
    connections: int
    """Connections open at its end."""


class Timeline:
    """Collects the samples of all processes.

    Attributes:
        rows: the intervals that count, without the warm-up.
        messages: total of these.
        payload_bytes: total of these.
        latencies: their HdrHistogram.
    """

    def __init__(self, window: Window, processes: int, count_tail: bool) -> None:
        """Expect samples.

        Args:
            window: the intervals.
            processes: number of processes.
            count_tail: whether latencies of replies after the last interval count as well.
        """
        self.rows: list[Row] = []
        self.messages = 0
        self.payload_bytes = 0
        self.latencies = histogram.empty()
        self._window = window
        self._count_tail = count_tail
        self._errors = [0] * processes
        self._present: list[float] = [float("-inf")] * processes  # the current interval of each process
        self._waiting: dict[int, list[Sample]] = {}

    def add(self, process: int, sample: Sample) -> list[Row]:
        """Add a sample; return the rows of intervals that all processes have now finished, including the warm-up."""
        self._errors[process] = sample.errors
        self._present[process] = sample.interval
        self._waiting.setdefault(sample.interval, []).append(sample)
        behind = sorted(interval for interval in self._waiting if interval < min(self._present))
        return [self._row(interval, self._window.interval_ns) for interval in behind]

    def end_process(self, process: int) -> None:
        """Record that a process sends no more samples."""
        self._present[process] = float("inf")

    def finish(self, ended_ns: int) -> None:
        """Turn the remaining samples into rows after all processes have ended; the last row is as long as the run
        went on.
        """
        for interval in sorted(self._waiting):
            began_ns = self._window.opens_ns + interval * self._window.interval_ns
            self._row(interval, max(1, min(self._window.interval_ns, ended_ns - began_ns)))

    def _row(self, interval: int, length_ns: int) -> Row:
        samples = self._waiting.pop(interval)
        latencies = histogram.empty()
        for sample in samples:
            histogram.add_counts(latencies, sample.latencies)
        messages = sum(sample.messages for sample in samples)
        row = Row(
            ends_s=(interval * self._window.interval_ns + length_ns) / 1e9,
            messages=messages,
            rate=messages / length_ns * 1e9,
            latency_us=histogram.percentiles_us(latencies),
            errors=sum(self._errors),
            connections=sum(sample.connections for sample in samples),
        )
        counts = 0 <= interval < self._window.intervals
        if counts:
            self.rows.append(row)
            self.messages += messages
            self.payload_bytes += sum(sample.payload_bytes for sample in samples)
        if counts or (self._count_tail and interval >= self._window.intervals):
            self.latencies.add(latencies)
        return row
