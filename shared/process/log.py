"""Logging: one line of text or one JSON object per record, with time, process and role; repetitions are suppressed.

Everything goes to stderr through its `StdioWriter` (`shared/process/stdio.py`), which never blocks: zwoole's own
records, warnings, and the app's records unless the app has configured logging itself. What callbacks print goes through
the writers too.

An app cannot silence zwoole's log by accident: `dictConfig` disables every logger that it does not name, and
`logging.disable` disables all of them, but zwoole's loggers ignore both.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from zwoole.shared.process import stdio
from zwoole.shared.process.printable import UNPRINTABLE, printable
from zwoole.shared.process.run_files import is_first_failure
from zwoole.shared.process.tracebacks import print_users_part, text_of, users_part

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

REPEATS = 20  # lines with the same template that are logged per interval
INTERVAL_S = 10.0
TEMPLATES = 1000  # templates that are remembered
ACCESS = "zwoole.access"  # never suppressed: each of its lines is about another connection
DRAIN_S = 0.5  # seconds that an ending process waits for queued output
as_json = False  # whether this process logs JSON objects
CONTINUED = "\n    "  # indents further lines of a record, so that nobody takes them for a new record


class Logger(logging.Logger):
    """A logger of zwoole. Only a level or a handler that is set for it by name changes what it logs."""

    @property
    def disabled(self) -> bool:
        """Return False."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def isEnabledFor(self, level: int) -> bool:
        """Return whether records of a level are logged. `logging.disable` has no effect."""
        return level >= self.getEffectiveLevel()


def get_logger(name: str) -> logging.Logger:
    """Return the logger of one part of zwoole."""
    before = logging.getLoggerClass()
    logging.setLoggerClass(Logger)
    try:
        return logging.getLogger(f"zwoole.{name}")
    finally:
        logging.setLoggerClass(before)


class Sink(Protocol):
    """Where log lines are written to, such as a StdioWriter.

    Attributes:
        unreported: lost lines that the log has not mentioned yet.
    """

    unreported: int

    def write(self, data: bytes) -> bool:
        """Write data; return False if it is lost."""


def setup(handler: logging.Handler, level: str) -> None:
    """Send zwoole's own records to `handler`, from `level` up (one of the names that `log_level` takes)."""
    handler.addFilter(RepeatFilter())
    root = logging.getLogger("zwoole")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def start(role: str, level: str, as_json: bool = False, at_once: bool = True) -> Console:
    """Take over everything that this process writes: zwoole's log, the app's log, warnings, and printed text.

    Args:
        role: shown behind the process id, such as "worker 0".
        level: one of the names that the setting `log_level` takes.
        as_json: whether each log line is a JSON object.
        at_once: whether a line is written before the call returns, if the descriptor accepts it. False for a process
            that must not even wait for a disk.

    Returns:
        An object whose `stop` undoes this.
    """
    set_format(as_json)
    writers = [stdio.writer(2), stdio.writer(1)]
    for writer in writers:
        writer.at_once = at_once
    formatter = JSONFormatter(role) if as_json else LineFormatter(role)
    setup(LineHandler(formatter, *writers), level)
    atexit.register(flush)
    return Console(LineHandler(formatter, *writers), level)


def set_format(json_wanted: bool) -> None:
    """Set whether this process logs JSON objects."""
    global as_json
    as_json = json_wanted


def trace_of(error: BaseException) -> ExcInfo | None:
    """Report the traceback of an error in the user's code, reduced to the user's own frames.

    Returns:
        `exc_info` for the log record that reports the failure. With JSON the traceback becomes a part of the record;
        otherwise it is printed here, above the record's line, and the result is None.
    """
    if as_json:
        return users_part(error)
    print_users_part(error)
    return None


def boot_trace_of(error: BaseException, run_dir: Path) -> tuple[str, ExcInfo | None]:
    """Return how to log an error in the user's code that prevents a worker from booting.

    Returns:
        Text to append to the record's message, and the record's `exc_info`. In the text format a traceback is logged
        only once, even if several workers fail with it.
    """
    trace = users_part(error)
    text = text_of(*trace)
    if as_json or is_first_failure(run_dir, text):
        return "", trace
    return f", with the same traceback as before: {text.splitlines()[-1]}", None


def flush() -> None:
    """Write everything that was printed and logged, waiting DRAIN_S at most. For a process that is about to exit."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # the app may have closed it or set it to None
            stream.flush()
    stdio.drain(DRAIN_S)


class Console:
    """Control over the standard streams and the app's logging, until `stop`."""

    def __init__(self, handler: logging.Handler, level: str) -> None:
        """Replace the streams, and send the app's records from `level` up to `handler`."""
        self._streams = sys.stdout, sys.stderr
        sys.stdout = writer_stream(sys.stdout, 1)
        sys.stderr = writer_stream(sys.stderr, 2)
        self._app = AppLogging(handler, level)

    def stop(self) -> None:
        """Restore the streams and logging, and `flush`. From then on, lines are written before the call returns."""
        flush()
        atexit.unregister(flush)
        self._app.stand_down()
        sys.stdout, sys.stderr = self._streams
        for number in (1, 2):
            stdio.writer(number).at_once = True


def writer_stream(stream: TextIO, number: int) -> TextIO:
    """Return a stream like `stream` that writes through its StdioWriter; `stream` itself if it is not the process's
    original one.
    """
    if stream is None or stream.closed or stream is not (None, sys.__stdout__, sys.__stderr__)[number]:
        return stream
    stream.flush()
    raw = stdio.StdioStream(stdio.writer(number), number, stream.name)
    # Buffered by line: several processes write to the same place, and with PYTHONUNBUFFERED each argument of a print
    # would be a write of its own.
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, newline="\n", line_buffering=True
    )


class AppLogging:
    """Formats the records of the app and of libraries like ours, until the app configures logging itself.

    As soon as the root logger has another handler, ours does nothing. `logging.basicConfig` does nothing if the root
    logger has a handler, so our handler is removed before it runs.
    """

    def __init__(self, handler: logging.Handler, level: str) -> None:
        """Install the handler, unless the app has configured logging already."""
        self._handler = handler
        self._level = logging.root.level
        self._basic_config = logging.basicConfig
        self._showwarning = warnings.showwarning
        if logging.root.handlers:
            return
        handler.addFilter(lambda record: self._in_force())
        logging.root.addHandler(handler)
        logging.root.setLevel(level.upper())

        @functools.wraps(logging.basicConfig)
        def basic_config(**arguments: Any) -> None:
            self.stand_down()
            logging.basicConfig(**arguments)

        logging.basicConfig = basic_config
        warnings.showwarning = self._show_warning

    def stand_down(self) -> None:
        """Restore logging to what it would be without us."""
        if self._handler in logging.root.handlers:
            logging.root.removeHandler(self._handler)
            logging.root.setLevel(self._level)
        logging.basicConfig = self._basic_config
        if warnings.showwarning == self._show_warning:
            warnings.showwarning = self._showwarning

    def _in_force(self) -> bool:
        return logging.root.handlers == [self._handler]

    def _show_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is None and self._in_force():
            text = "%s:%d: %s: %s"
            logging.getLogger("py.warnings").warning(text, filename, lineno, category.__name__, message)
        else:
            self._showwarning(message, category, filename, lineno, file, line)


def redirect(path: str) -> None:
    """Open a file and make it stdout and stderr of this process and of the processes that it starts.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    stdio.update_targets()


def reopen(path: str) -> bool:
    """Open the log file again after it was moved away. If that fails, log an error and keep the old file.

    Returns:
        Whether the file was opened.
    """
    try:
        redirect(path)
    except OSError as error:
        get_logger("log").error("cannot reopen the log file %s, the old one is kept: %s", path, error.strerror)
        return False
    return True


class LineHandler(logging.Handler):
    """Writes records to a sink, and reports how many earlier lines were lost."""

    def __init__(self, formatter: logging.Formatter, sink: Sink, *others: Sink) -> None:
        """Write records in the format of `formatter` to `sink`; report lines lost in any of the sinks."""
        super().__init__()
        self._sink = sink
        self._sinks = (sink, *others)
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            unreported = [sink.unreported for sink in self._sinks]
            lost = sum(unreported)
            if lost:
                lines = f"{lost} lines before it were lost: they could not be written in time"
                record = logging.makeLogRecord(record.__dict__)
                record.msg, record.args = f"{record.getMessage()} (and {lines})", ()
            written = self._sink.write(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
            if lost and written:
                for sink, count in zip(self._sinks, unreported, strict=True):
                    sink.unreported -= count
        except Exception:
            self.handleError(record)


class Formatter(logging.Formatter):
    """Formats tracebacks with `shared/process/tracebacks.py:text_of`."""

    def formatException(self, ei: Any) -> str:
        """Return the lines of a traceback."""
        return text_of(*ei)


class LineFormatter(Formatter):
    """Formats a record as one line. Only tracebacks and the app's messages may have further lines."""

    def __init__(self, role: str) -> None:
        super().__init__(f"[%(asctime)s %(process)d {role}] %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without the traceback."""
        if record.name.startswith("zwoole."):
            record.message = printable(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines, without a newline at the end."""
        parts = (part.replace("\t", "    ") for part in super().format(record).split("\n"))
        return CONTINUED.join(map(printable, parts))


class JSONFormatter(Formatter):
    """Formats a record as one JSON object."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the object on one line."""
        fields = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "pid": record.process,
            "role": self._role,
            "part": record.name.removeprefix("zwoole."),
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], json.dumps(fields, ensure_ascii=False))


class RepeatFilter(logging.Filter):
    """Passes REPEATS lines per template and interval. The next line after the interval reports how many were
    suppressed. Lines of level debug and of the access log always pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}  # template: start of its interval, lines since then

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record."""
        if record.name == ACCESS or record.levelno <= logging.DEBUG:
            return True
        now = time.monotonic()
        template = str(record.msg)
        begun, count = self._seen.pop(template, (now, 0))
        if now - begun >= INTERVAL_S:
            if count > REPEATS:
                record.msg = f"{template} (and {count - REPEATS} more like the last ones)"
            begun, count = now, 0
        if len(self._seen) >= TEMPLATES:
            del self._seen[next(iter(self._seen))]  # the template that was logged least recently
        self._seen[template] = (begun, count + 1)
        return count < REPEATS
