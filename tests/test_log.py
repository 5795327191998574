"""Logging: the form of a line, levels, and a queue that does not stop the master."""

from __future__ import annotations

import io
import logging
import os
import queue
import re
from collections.abc import Iterator

import pytest

from zwoole.shared.log import DroppingQueueHandler, get_logger, setup, start_queue


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave zwoole's logger as it was."""
    logger = logging.getLogger("zwoole")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def test_a_line_says_when_who_and_what() -> None:
    stream = io.StringIO()
    setup("worker 3", "info", stream)
    get_logger("part").warning("something %d", 5)
    line = rf"\[\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d {os.getpid()} worker 3\] WARNING something 5\n"
    assert re.fullmatch(line, stream.getvalue())


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_the_settings(level: str, count: int) -> None:
    stream = io.StringIO()
    setup("x", level, stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(get_logger("part"), name)("text")
    assert stream.getvalue().count("\n") == count


def test_setting_up_again_replaces_what_was() -> None:
    first, second = io.StringIO(), io.StringIO()
    setup("x", "info", first)
    setup("y", "info", second)
    get_logger("part").info("text")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def test_queued_records_reach_the_stream_from_another_thread() -> None:
    arrived: queue.Queue[str] = queue.Queue()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            arrived.put(f"{record.threadName} {record.getMessage()}")

    setup("x", "info", io.StringIO())
    start_queue(Handler())
    get_logger("part").info("text %d", 5)
    assert arrived.get(timeout=5) == "MainThread text 5"


def test_what_does_not_fit_the_queue_is_dropped_and_counted() -> None:
    records: queue.Queue[logging.LogRecord] = queue.Queue(2)
    handler = DroppingQueueHandler(records)
    for _ in range(5):
        handler.enqueue(logging.makeLogRecord({"msg": "text"}))
    assert (records.qsize(), handler.dropped) == (2, 3)
