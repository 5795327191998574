"""Logging: one line per event, time, process and role first, or one JSON object; lines that repeat are held back.

What zwoole logs, what the app logs if it has not configured logging itself, and warnings go to stderr by its outlet
(`shared/process/outlet.py`), as does what callbacks print: writing holds nobody up.

Nothing that an app does to Python's logging silences zwoole: `dictConfig` disables every logger that it does not name,
`logging.disable` all of them.
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

from zwoole.shared.process import outlet
from zwoole.shared.process.printable import UNPRINTABLE, printable
from zwoole.shared.process.run_files import is_first_failure
from zwoole.shared.process.tracebacks import print_users_part, text_of, users_part

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

REPEATS = 20  # lines of one template that are logged in an interval
INTERVAL_S = 10.0
TEMPLATES = 1000  # that are remembered
ACCESS = "zwoole.access"  # each of its lines tells of another connection: none is a repetition
DRAIN_S = 0.5  # how long the end of a process waits for what is not written yet
as_json = False  # whether this process logs JSON objects
CONTINUED = "\n    "  # a line of a traceback or of the app's own message cannot be taken for a new record


class Logger(logging.Logger):
    """A logger of zwoole: only a level or a handler that is set for it by name changes what it logs."""

    @property
    def disabled(self) -> bool:
        """Return False."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def isEnabledFor(self, level: int) -> bool:
        """Tell whether records of a level are logged, whatever `logging.disable` says."""
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
    """What lines are written to: an outlet.

    Attributes:
        untold: lines that were lost since the log told of it last.
    """

    untold: int

    def write(self, data: bytes) -> bool:
        """Write data; return False if it is lost."""


def setup(handler: logging.Handler, level: str) -> None:
    """Send zwoole's own log to `handler`, from one of the levels that `log_level` names."""
    handler.addFilter(RepeatFilter())
    root = logging.getLogger("zwoole")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def start(role: str, level: str, as_json: bool = False, at_once: bool = True) -> Console:
    """Take over all that this process writes: zwoole's log, the app's, warnings, and what is printed.

    Args:
        role: what stands behind the process id, such as "worker 0".
        level: one of the names of the setting `log_level`.
        as_json: whether each line of the log is a JSON object.
        at_once: whether a line is written before the call returns, if the descriptor takes it; False in a process that
            must not even wait for a disk.

    Returns:
        What ends that again.
    """
    set_format(as_json)
    outlets = [outlet.of(2), outlet.of(1)]
    for one in outlets:
        one.at_once = at_once
    formatter = JSONFormatter(role) if as_json else LineFormatter(role)
    setup(LineHandler(formatter, *outlets), level)
    atexit.register(flush)
    return Console(LineHandler(formatter, *outlets), level)


def set_format(json_wanted: bool) -> None:
    """Say whether this process logs JSON objects."""
    global as_json
    as_json = json_wanted


def trace_of(error: BaseException) -> ExcInfo | None:
    """Show the traceback of an error of the user's code, with their own frames only.

    Returns:
        What `exc_info` is to be of the record that says what has failed: with JSON objects the traceback is a part of
        it. Else it is printed here, so that it stands above the line, and the result is None.
    """
    if as_json:
        return users_part(error)
    print_users_part(error)
    return None


def boot_trace_of(error: BaseException, run_dir: Path) -> tuple[str, ExcInfo | None]:
    """Tell how to log an error of the user's code because of which a worker does not boot.

    Returns:
        What to add to the record's message, and its `exc_info`. Lines of text have a traceback once if several workers
        fail with the same.
    """
    trace = users_part(error)
    text = text_of(*trace)
    if as_json or is_first_failure(run_dir, text):
        return "", trace
    return f", with the same traceback as before: {text.splitlines()[-1]}", None


def flush() -> None:
    """Write what was printed and logged, as far as that goes in DRAIN_S; for a process that is about to end."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # the app may have closed it, or put None there
            stream.flush()
    outlet.drain(DRAIN_S)


class Console:
    """The standard streams and the app's logging, from the beginning until `stop`."""

    def __init__(self, handler: logging.Handler, level: str) -> None:
        """Take them over; the app's records go to `handler` from `level` on."""
        self._streams = sys.stdout, sys.stderr
        sys.stdout = outlet_stream(sys.stdout, 1)
        sys.stderr = outlet_stream(sys.stderr, 2)
        self._app = AppLogging(handler, level)

    def stop(self) -> None:
        """Put back what was there, and write what waits as `flush` does; from then on lines are written at once."""
        flush()
        atexit.unregister(flush)
        self._app.stand_down()
        sys.stdout, sys.stderr = self._streams
        for number in (1, 2):
            outlet.of(number).at_once = True


def outlet_stream(stream: TextIO, number: int) -> TextIO:
    """Return a stream like `stream` that writes to a descriptor's outlet; `stream` itself if it leads elsewhere."""
    if stream is None or stream.closed or stream is not (None, sys.__stdout__, sys.__stderr__)[number]:
        return stream
    stream.flush()
    raw = outlet.OutletStream(outlet.of(number), number, stream.name)
    # Whole lines, for processes share it. PYTHONUNBUFFERED would write each argument of a print by itself.
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, newline="\n", line_buffering=True
    )


class AppLogging:
    """The records of the app and of libraries, which get the form of ours until the app configures logging itself.

    Then they are no longer our business: once the root logger has another handler, ours is silent. `basicConfig` does
    nothing if the root logger has a handler, so ours goes before it looks.
    """

    def __init__(self, handler: logging.Handler, level: str) -> None:
        """Begin, unless the app has configured logging already."""
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
        """Leave logging as it would be without us."""
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
    """Have all that this process, and those that it starts, write to stdout and stderr go to a file, opened anew.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    outlet.follow()


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


class LineHandler(logging.Handler):
    """Writes records to a sink, and says how many lines could not be written before."""

    def __init__(self, formatter: logging.Formatter, sink: Sink, *others: Sink) -> None:
        """Write to `sink`, as `formatter` makes it; tell of what was lost there, and in others."""
        super().__init__()
        self._sink = sink
        self._sinks = (sink, *others)
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            untold = [sink.untold for sink in self._sinks]
            lost = sum(untold)
            if lost:
                lines = f"{lost} lines before it were lost: they could not be written in time"
                record = logging.makeLogRecord(record.__dict__)
                record.msg, record.args = f"{record.getMessage()} (and {lines})", ()
            written = self._sink.write(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
            if lost and written:
                for sink, count in zip(self._sinks, untold, strict=True):
                    sink.untold -= count
        except Exception:
            self.handleError(record)


class Formatter(logging.Formatter):
    """Writes tracebacks as `shared/process/tracebacks.py:text_of` does."""

    def formatException(self, ei: Any) -> str:
        """Return a traceback's lines."""
        return text_of(*ei)


class LineFormatter(Formatter):
    """Writes a record as one line; only a traceback, and what the app has logged, may go on in further lines."""

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
        return UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], json.dumps(fields, ensure_ascii=False))


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
        begun, count = self._seen.pop(template, (now, 0))
        if now - begun >= INTERVAL_S:
            if count > REPEATS:
                record.msg = f"{template} (and {count - REPEATS} more like the last ones)"
            begun, count = now, 0
        if len(self._seen) >= TEMPLATES:
            del self._seen[next(iter(self._seen))]  # the one that was logged longest ago
        self._seen[template] = (begun, count + 1)
        return count < REPEATS
