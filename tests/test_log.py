"""Logging: the form of a line, levels, and a queue that does not stop the master."""

from __future__ import annotations

import io
import json
import logging
import os
import queue
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from zwoole.shared import log as logs
from zwoole.shared.log import (
    INTERVAL_S,
    REPEATS,
    DroppingQueueHandler,
    RepeatFilter,
    get_logger,
    redirect,
    reopen,
    setup,
    start_queue,
)


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
    assert arrived.get(timeout=60) == "MainThread text 5"


def test_what_does_not_fit_the_queue_is_dropped_and_counted() -> None:
    records: queue.Queue[logging.LogRecord] = queue.Queue(2)
    handler = DroppingQueueHandler(records)
    for _ in range(5):
        handler.enqueue(logging.makeLogRecord({"msg": "text"}))
    assert (records.qsize(), handler.dropped) == (2, 3)
    records.get()
    handler.handle(logging.makeLogRecord({"msg": "after"}))
    records.get()
    told = records.get().getMessage()
    assert told == "after (and 3 lines before it were lost: the log was not written in time)"
    assert handler.dropped == 0


def test_a_line_may_be_a_json_object() -> None:
    stream = io.StringIO()
    setup("worker 3", "info", stream, as_json=True)
    try:
        raise ValueError("mine")
    except ValueError:
        get_logger("part").exception("something %d\nand more", 5)
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert "ValueError: mine" in found.pop("exception")
    assert found.pop("time") > 1.7e9
    message = "something 5\nand more"
    assert found == {"level": "error", "pid": os.getpid(), "role": "worker 3", "part": "part", "message": message}


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_what_repeats_is_held_back_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    stream = io.StringIO()
    setup("x", "info", stream)
    log = get_logger("part")
    for number in range(1000):
        log.info("line %d", number)
    log.info("another")
    lines = stream.getvalue().splitlines()
    assert len(lines) == REPEATS + 1
    assert lines[-1].endswith("INFO another")
    clock.now += INTERVAL_S
    log.info("line %d", 1000)
    log.info("line %d", 1001)
    held = 1000 - REPEATS
    lines = stream.getvalue().splitlines()[-2:]
    assert lines[0].endswith(f"line 1000 (and {held} more like the last ones)")
    assert lines[1].endswith("line 1001")


def test_lines_about_connections_are_no_repetitions() -> None:
    stream = io.StringIO()
    setup("x", "info", stream)
    for number in range(3 * REPEATS):
        get_logger("access").info("open %d", number)
    assert stream.getvalue().count("\n") == 3 * REPEATS


def test_what_is_held_back_takes_no_place_in_the_queue() -> None:
    handler = setup("x", "info", io.StringIO())
    queued = start_queue(handler)
    assert [type(found) for found in queued.filters] == [RepeatFilter]
    assert handler.filters == []


def test_a_file_takes_what_is_written_to_both_streams_and_is_opened_anew(tmp_path: Path) -> None:
    kept = os.dup(1), os.dup(2)
    try:
        redirect(str(tmp_path / "log"))
        os.write(1, b"one ")
        os.write(2, b"two ")
        (tmp_path / "log").rename(tmp_path / "log.1")
        os.write(1, b"three")
        redirect(str(tmp_path / "log"))
        os.write(2, b"four")
    finally:
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
    assert (tmp_path / "log.1").read_text() == "one two three"
    assert (tmp_path / "log").read_text() == "four"


def test_a_file_that_cannot_be_opened_anew_is_kept_and_says_so(tmp_path: Path) -> None:
    stream = io.StringIO()
    setup("x", "info", stream)
    path = tmp_path / "missing" / "log"
    assert not reopen(str(path))
    assert f"ERROR cannot open the log file {path} anew, the old one is kept: No such file" in stream.getvalue()
