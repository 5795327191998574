"""Latency percentiles from the histograms that loadcore.py counts, merged over processes."""

from array import array
from collections.abc import Iterable


def merge(histograms: Iterable["array[int]"]) -> "array[int]":
    """Return the sum of histograms, at least one."""
    return array("Q", map(sum, zip(*histograms, strict=True)))


def percentile_ns(histogram: "array[int]", fraction: float) -> int:
    """Return a latency in nanoseconds that ``fraction`` of those counted do not exceed; 0 for an empty histogram.

    It is at most 0.8 % above the exact one. The fraction 1 gives the longest latency.
    """
    rank = max(1, -int(-fraction * sum(histogram) // 1))
    below = 0
    for index, count in enumerate(histogram):
        below += count
        if below >= rank:
            return bucket_limit(index)
    return 0


def bucket_limit(index: int) -> int:
    """Return the largest latency in nanoseconds that loadcore.bucket() puts there."""
    shift = max(0, (index >> 7) - 1)
    return ((index - (shift << 7) + 1) << shift) - 1
