"""Logging: one line per event, time, process and role first; repeated lines are held back by whoever repeats them.

The master must not stop because a terminal does: `start_queue` puts a bounded queue and a thread between it and
the stream, and counts what did not fit.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
from typing import TextIO

QUEUED_RECORDS = 10_000


def get_logger(name: str) -> logging.Logger:
    """Return the logger of one part of zwoole."""
    return logging.getLogger(f"zwoole.{name}")


def setup(role: str, level: str, stream: TextIO | None = None) -> logging.Handler:
    """Send zwoole's log to `stream` (stderr).

    Args:
        role: what stands behind the process id, such as "worker 0".
        level: one of the names of the setting `log_level`.
        stream: where to; stderr where it is None.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    text = f"[%(asctime)s %(process)d {role}] %(levelname)s %(message)s"
    handler.setFormatter(logging.Formatter(text, "%Y-%m-%d %H:%M:%S"))
    root = logging.getLogger("zwoole")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
    return handler


class DroppingQueueHandler(logging.handlers.QueueHandler):
    """Queues records and drops, counted, what does not fit."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record, or count it as dropped."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


def start_queue(handler: logging.Handler) -> DroppingQueueHandler:
    """Put a bounded queue and a thread between zwoole's loggers and `handler`."""
    records: queue.Queue[logging.LogRecord] = queue.Queue(QUEUED_RECORDS)
    queued = DroppingQueueHandler(records)
    listener = logging.handlers.QueueListener(records, handler)
    logging.getLogger("zwoole").handlers[:] = [queued]
    listener.start()  # its thread is a daemon: a blocked stream does not keep the process from ending
    return queued
