"""URLs, mixes of sizes, and plans that contradict themselves."""

from __future__ import annotations

from typing import Any

import pytest

from zwoole.bench.loadtest.plan import Plan, Sizes, Target, parse_sizes
from zwoole.bench.loadtest.run import window_of

TARGET = Target("127.0.0.1", 8080, "/")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://example.org", Target("example.org", 80, "/")),
        ("wss://example.org", Target("example.org", 443, "/", secure=True)),
        ("ws://127.0.0.1:8080/a/b?c=d", Target("127.0.0.1", 8080, "/a/b?c=d")),
        ("ws://[::1]:8080", Target("::1", 8080, "/")),
    ],
)
def test_urls(url: str, expected: Target) -> None:
    assert Target.from_url(url) == expected
    assert Target.from_url(str(expected)) == expected


@pytest.mark.parametrize(
    "url",
    ["http://h/", "ws://", "h:80", "ws://h:port/", "ws://h:99999/", "ws://[::1", "ws://me@h/", "ws://h/#part", ""],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ValueError, match="bad URL"):
        Target.from_url(url)


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0), ("64", 64), ("64:1", ((64, 1),)), ("64:80,4096:20", ((64, 80), (4096, 20)))]
)
def test_sizes(text: str, expected: int | Sizes) -> None:
    assert parse_sizes(text) == expected


@pytest.mark.parametrize("text", ["", "x", "64,4096", "64:", ":5", "64:80,", "-1", "64:0", "-1:5", "64:1:2"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=repr(text)):
        parse_sizes(text)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"mode": "idle", "rate": 5.0}, "mode idle sends no messages"),
        ({"mode": "connect", "messages": 5}, "mode connect sends no messages"),
        ({"mode": "idle", "compress": True}, "mode idle sends no messages"),
        ({"rate": 5.0, "messages": 5}, "a rate goes with a duration"),
        ({"mode": "fanout", "senders": 3, "connections": 2}, "3 senders need at least as many connections"),
        ({"mode": "fanout", "size": 15}, "at least 16 bytes"),
        ({"mode": "fanout", "size": ((64, 1), (8, 1))}, "at least 16 bytes"),
    ],
)
def test_plans_that_contradict_themselves(terms: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Plan(TARGET, **terms)


@pytest.mark.parametrize(
    ("duration_s", "intervals"), [(0.1, 1), (0.25, 1), (3, 12), (30, 60), (60, 60), (600, 600), (86_400, 86_400)]
)
def test_a_window_is_cut_into_intervals(duration_s: float, intervals: int) -> None:
    window = window_of(Plan(TARGET, duration_s=duration_s, warmup_s=0.5), 1000)
    assert (window.start_ns, window.opens_ns) == (1000, 500_001_000)
    assert window.intervals == intervals
    assert window.closes_ns - window.opens_ns == pytest.approx(duration_s * 1e9, rel=1e-6)


def test_messages_have_no_end_in_time() -> None:
    window = window_of(Plan(TARGET, messages=5), 1000)
    assert window.opens_ns == 1000
    assert window.closes_ns > 10**18
