"""HdrHistograms of latencies, filled from the buckets of tally.py."""

import math
from array import array

from zwoole.bench.loadtest.tally import BUCKETS
from zwoole.shared.errors import ZwooleError

try:
    from hdrh.histogram import HdrHistogram
except ImportError:
    raise ZwooleError("the load tester needs hdrhistogram: pip install 'zwoole[bench]'") from None

LONGEST_NS = (1 << 40) - 1
DIGITS = 2  # significant digits: values read from it are at most 0.8 % too high
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}

_POINTS_TO_A_NINE = 20


def empty() -> HdrHistogram:
    """Return a histogram of nanoseconds with the buckets of tally.bucket()."""
    return HdrHistogram(1, LONGEST_NS, DIGITS)


def add_counts(histogram: HdrHistogram, counts: "array[int]") -> None:
    """Add the counts of tally.py, one number per bucket."""
    for index in range(BUCKETS):
        if counts[index]:
            histogram.record_value(histogram.get_value_from_index(index), counts[index])


def percentiles_us(histogram: HdrHistogram) -> dict[str, float]:
    """Return the percentiles named in PERCENTILES, in microseconds; 0 for an empty histogram."""
    if not histogram.get_total_count():
        return dict.fromkeys(PERCENTILES, 0.0)
    found = histogram.get_percentile_to_value_dict(list(PERCENTILES.values()))
    return {name: found[percentile] / 1e3 for name, percentile in PERCENTILES.items()}


def curve_us(histogram: HdrHistogram) -> list[tuple[float, float]]:
    """Return (percentile, microseconds) along the distribution, with _POINTS_TO_A_NINE points per further nine."""
    total = histogram.get_total_count()
    steps = int(math.log10(total) * _POINTS_TO_A_NINE) if total else -1
    levels = [100 * (1 - 10 ** (-step / _POINTS_TO_A_NINE)) for step in range(steps + 1)]
    found = histogram.get_percentile_to_value_dict([*levels, 50.0, 100.0] if total else [])
    return [(level, value / 1e3) for level, value in sorted(found.items())]
