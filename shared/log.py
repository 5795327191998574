"""Logging: one line per event, time, process and role first, or one JSON object; lines that repeat are held back.

The master must not stop because a terminal does: `start_queue` puts a bounded queue and a thread between it and
the stream, and counts what did not fit.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import queue
import sys
import time
from typing import TextIO

QUEUED_RECORDS = 10_000
REPEATS = 20  # lines of one template that are logged in an interval
INTERVAL_S = 10.0
ACCESS = "zwoole.access"  # each of its lines tells of another connection: none is a repetition


def get_logger(name: str) -> logging.Logger:
    """Return the logger of one part of zwoole."""
    return logging.getLogger(f"zwoole.{name}")


def setup(role: str, level: str, stream: TextIO | None = None, as_json: bool = False) -> logging.Handler:
    """Send zwoole's log to `stream` (stderr).

    Args:
        role: what stands behind the process id, such as "worker 0".
        level: one of the names of the setting `log_level`.
        stream: where to; stderr where it is None.
        as_json: whether each line is a JSON object.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    text = f"[%(asctime)s %(process)d {role}] %(levelname)s %(message)s"
    handler.setFormatter(JSONFormatter(role) if as_json else logging.Formatter(text, "%Y-%m-%d %H:%M:%S"))
    handler.addFilter(RepeatFilter())
    root = logging.getLogger("zwoole")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
    return handler


def redirect(path: str) -> None:
    """Have all that this process, and those that it starts, write to stdout and stderr go to a file, opened anew.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def reopen(path: str) -> bool:
    """Open the log file anew, which somebody has moved away; where that fails the log says so, in the old one.

    Returns:
        Whether it was opened.
    """
    try:
        redirect(path)
    except OSError as error:
        get_logger("log").error("cannot open the log file %s anew, the old one is kept: %s", path, error.strerror)
        return False
    return True


class JSONFormatter(logging.Formatter):
    """Writes a record as one JSON object."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "pid": record.process,
            "role": self._role,
            "part": record.name.removeprefix("zwoole."),
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class RepeatFilter(logging.Filter):
    """Lets so many lines of one template pass in an interval; the first one after it says how many were held back."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}  # template: when its interval began, lines since then

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log the record."""
        if record.name == ACCESS:
            return True
        now = time.monotonic()
        template = str(record.msg)
        begun, count = self._seen.get(template, (now, 0))
        if now - begun >= INTERVAL_S:
            if count > REPEATS:
                record.msg = f"{template} (and {count - REPEATS} more like the last ones)"
            begun, count = now, 0
        self._seen[template] = (begun, count + 1)
        return count < REPEATS


class DroppingQueueHandler(logging.handlers.QueueHandler):
    """Queues records and drops what does not fit; the first one after it says how many that were."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record, or count it as dropped."""
        if self.dropped:
            record.msg = f"{record.msg} (and {self.dropped} lines before it were lost: the log was not written in time)"
        try:
            self.queue.put_nowait(record)
            self.dropped = 0
        except queue.Full:
            self.dropped += 1


def start_queue(handler: logging.Handler) -> DroppingQueueHandler:
    """Put a bounded queue and a thread between zwoole's loggers and `handler`."""
    records: queue.Queue[logging.LogRecord] = queue.Queue(QUEUED_RECORDS)
    queued = DroppingQueueHandler(records)
    for repeats in handler.filters[:]:  # what is held back needs no place in the queue
        handler.removeFilter(repeats)
        queued.addFilter(repeats)
    listener = logging.handlers.QueueListener(records, handler)
    logging.getLogger("zwoole").handlers[:] = [queued]
    listener.start()  # its thread is a daemon: a blocked stream does not keep the process from ending
    return queued
