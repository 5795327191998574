"""Logging: the form of a line, levels, repeated lines, and apps that configure logging themselves."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zwoole.shared.process import log as logs
from zwoole.shared.process.log import (
    INTERVAL_S,
    REPEATS,
    TEMPLATES,
    AppLogging,
    JSONFormatter,
    LineFormatter,
    LineHandler,
    RepeatFilter,
    get_logger,
    redirect,
    reopen,
)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    loggers = [logging.getLogger("zwoole"), logging.root]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    existing = {
        name: logger.disabled
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    yield
    logging.disable(logging.NOTSET)
    for name, disabled in existing.items():
        logging.getLogger(name).disabled = disabled
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


class Lines:
    """A sink for lines, which are lost while it is `full`."""

    def __init__(self) -> None:
        self.unreported = 0
        self.full = False
        self._written = b""

    def write(self, data: bytes) -> bool:
        if self.full:
            self.unreported += 1
        else:
            self._written += data
        return not self.full

    def getvalue(self) -> str:
        return self._written.decode()


def setup(role: str, level: str, lines: Lines, as_json: bool = False) -> None:
    logs.setup(LineHandler(JSONFormatter(role) if as_json else LineFormatter(role), lines), level)


def test_a_line_says_when_who_and_what() -> None:
    stream = Lines()
    setup("worker 3", "info", stream)
    get_logger("part").warning("something %d", 5)
    line = rf"\[\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d {os.getpid()} worker 3\] WARNING something 5\n"
    assert re.fullmatch(line, stream.getvalue())


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_the_settings(level: str, count: int) -> None:
    stream = Lines()
    setup("x", level, stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(get_logger("part"), name)("text")
    assert stream.getvalue().count("\n") == count


def test_setting_up_again_replaces_what_was() -> None:
    first, second = Lines(), Lines()
    setup("x", "info", first)
    setup("y", "info", second)
    get_logger("part").info("text")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


@pytest.mark.parametrize("where", ["stderr", "stdout"])
def test_the_next_line_says_how_many_were_lost_before(where: str) -> None:
    places = {"stderr": Lines(), "stdout": Lines()}
    logs.setup(LineHandler(LineFormatter("x"), *places.values()), "info")
    log = get_logger("part")
    places["stderr"].full = where == "stderr"
    for _ in range(3):
        log.info("lost") if where == "stderr" else setattr(places["stdout"], "unreported", 3)
    places["stderr"].full = False
    log.info("after %d", 1)
    log.info("then")
    first, second = places["stderr"].getvalue().splitlines()[-2:]
    assert first.endswith("INFO after 1 (and 3 lines before it were lost: they could not be written in time)")
    assert second.endswith("INFO then")


def test_a_line_may_be_a_json_object() -> None:
    stream = Lines()
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
    stream = Lines()
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
    stream = Lines()
    setup("x", "info", stream)
    for number in range(3 * REPEATS):
        get_logger("access").info("open %d", number)
    assert stream.getvalue().count("\n") == 3 * REPEATS


def test_templates_are_forgotten_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    held_back = RepeatFilter()
    first = logging.makeLogRecord({"msg": "first", "levelno": logging.INFO})
    for _ in range(REPEATS + 1):
        passes = held_back.filter(first)
    assert not passes
    for number in range(TEMPLATES - 1):
        assert held_back.filter(logging.makeLogRecord({"msg": f"template {number}", "levelno": logging.INFO}))
    assert not held_back.filter(first)
    for number in range(TEMPLATES):
        assert held_back.filter(logging.makeLogRecord({"msg": f"another {number}", "levelno": logging.INFO}))
    assert len(held_back._seen) == TEMPLATES
    assert held_back.filter(first)


def test_no_line_of_ours_is_two_lines_nor_commands_a_terminal() -> None:
    stream = Lines()
    setup("x", "info", stream)
    get_logger("part").info(
        "at %s", "/\n[2026-01-01 00:00:00 1 master 0] INFO forged \x1b[31m\0\x9b\u2028\u202e\r\udc80"
    )
    (line,) = stream.getvalue().split("\n")[:-1]
    assert line.endswith(
        r"INFO at /\n[2026-01-01 00:00:00 1 master 0] INFO forged \x1b[31m\x00\x9b\u2028\u202e\r\udc80"
    )


def test_lines_of_a_traceback_are_no_records() -> None:
    stream = Lines()
    setup("x", "info", stream)
    try:
        raise ValueError("no\n[2026-01-01 00:00:00 1 master 0] INFO forged \x1b[31m")
    except ValueError:
        get_logger("part").exception("failed")
    first, *others = stream.getvalue().splitlines()
    assert first.endswith("ERROR failed")
    assert all(line.startswith("    ") for line in others)
    assert others[-1] == r"    [2026-01-01 00:00:00 1 master 0] INFO forged \x1b[31m"


def test_a_json_line_has_no_control_characters_and_says_the_same() -> None:
    stream = Lines()
    setup("x", "info", stream, as_json=True)
    text = "\n\x1b\0\x7f\x9b\u2028\u202e\udc80 é \N{CROSS MARK}"
    get_logger("part").info("%s", text)
    line = stream.getvalue().removesuffix("\n")
    assert json.loads(line)["message"] == text
    assert not logs.UNPRINTABLE.search(line)
    assert "é \N{CROSS MARK}" in line


# Apps that configure logging themselves.


def by_file(tmp_path: Path) -> None:
    file = tmp_path / "logging.ini"
    file.write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=one\n[formatters]\nkeys=\n[logger_root]\nhandlers=one\n"
        "[handler_one]\nclass=NullHandler\nargs=()\n"
    )
    logging.config.fileConfig(file)


CONFIGURE: dict[str, Callable[[Path], object]] = {
    "dictConfig": lambda _: logging.config.dictConfig({"version": 1}),
    "dictConfig of the root": lambda _: logging.config.dictConfig(
        {"version": 1, "root": {"handlers": ["one"]}, "handlers": {"one": {"class": "logging.NullHandler"}}}
    ),
    "fileConfig": by_file,
    "disable": lambda _: logging.disable(logging.CRITICAL),
    "basicConfig": lambda _: logging.basicConfig(force=True, level="CRITICAL"),
    "shutdown": lambda _: logging.shutdown(),
    "level of the root": lambda _: logging.root.setLevel(logging.CRITICAL),
}


@pytest.mark.parametrize("configure", CONFIGURE.values(), ids=CONFIGURE)
def test_zwoole_logs_on_whatever_the_app_configures(tmp_path: Path, configure: Callable[[Path], object]) -> None:
    stream = Lines()
    setup("x", "info", stream)
    before = get_logger("part")
    configure(tmp_path)
    before.error("one")
    get_logger("another").exception("two", exc_info=ValueError("mine"))
    assert "ERROR one" in stream.getvalue()
    assert "ERROR two" in stream.getvalue()
    assert "ValueError: mine" in stream.getvalue()


def test_a_level_that_the_app_sets_for_zwoole_counts() -> None:
    stream = Lines()
    setup("x", "info", stream)
    logging.config.dictConfig({"version": 1, "loggers": {"zwoole": {"level": "ERROR"}}})
    get_logger("part").warning("one")
    assert stream.getvalue() == ""


# The app's own records.


def take_away_pytests_handlers() -> None:
    """Leave the root logger as Python makes it; called in the test itself, because pytest adds its handlers after
    fixtures.
    """
    logging.root.handlers[:] = []
    logging.root.setLevel(logging.WARNING)


@contextmanager
def app_logging() -> Iterator[Lines]:
    """Yield the list that receives the app's records."""
    take_away_pytests_handlers()
    lines = Lines()
    logging_of_the_app = AppLogging(LineHandler(LineFormatter("worker 3"), lines), "info")
    try:
        yield lines
    finally:
        logging_of_the_app.stand_down()


def test_records_of_the_app_look_like_ours() -> None:
    with app_logging() as app:
        logging.info("one %d", 1)
        logging.getLogger("myapp").info("two")
        logging.getLogger("asyncio").error("three")
        logging.getLogger("myapp").debug("below the level")
        line = rf"\[\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d {os.getpid()} worker 3\] "
        assert re.fullmatch(f"{line}INFO one 1\n{line}INFO two\n{line}ERROR three\n", app.getvalue())


def test_the_app_may_log_more_than_a_line_and_as_often_as_it_likes() -> None:
    with app_logging() as app:
        for _ in range(2 * REPEATS):
            logging.info("one\n\ttwo\x1b")
        assert app.getvalue().count("INFO one\n        two\\x1b\n") == 2 * REPEATS


def test_warnings_look_like_ours() -> None:
    with app_logging() as app:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("mind the gap", stacklevel=1)
        assert re.search(rf"WARNING {re.escape(__file__)}:\d+: UserWarning: mind the gap\n", app.getvalue())


class Kept(logging.Handler):
    """The app's own handler."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


CONFIGURED: dict[str, Callable[[Kept], object]] = {
    "basicConfig": lambda kept: logging.basicConfig(handlers=[kept], format="mine %(message)s", level="DEBUG"),
    "addHandler": logging.root.addHandler,
    "dictConfig": lambda kept: logging.config.dictConfig(
        {"version": 1, "root": {"handlers": ["one"], "level": "DEBUG"}, "handlers": {"one": {"()": lambda: kept}}}
    ),
}


@pytest.mark.parametrize("configure", CONFIGURED.values(), ids=CONFIGURED)
def test_an_app_that_configures_logging_gets_what_it_asked_for(configure: Callable[[Kept], object]) -> None:
    with app_logging() as app:
        kept = Kept()
        configure(kept)
        logging.warning("one")
        assert len(kept.lines) == 1
        assert kept.lines[0].endswith("one")
        assert app.getvalue() == ""


def test_basic_config_of_the_app_is_pythons_own() -> None:
    with app_logging():
        kept = Kept()
        logging.basicConfig(handlers=[kept], format="mine %(message)s")
        logging.info("below Python's own level")
        logging.warning("one")
        assert kept.lines == ["mine one"]


def test_an_app_that_has_configured_logging_before_is_left_alone() -> None:
    take_away_pytests_handlers()
    lines, kept = Lines(), Kept()
    logging.root.addHandler(kept)
    before = logging.basicConfig, warnings.showwarning
    AppLogging(LineHandler(LineFormatter("x"), lines), "info")
    logging.warning("one")
    assert (kept.lines, lines.getvalue()) == (["one"], "")
    assert (logging.basicConfig, warnings.showwarning) == before


def test_afterwards_logging_is_as_it_was() -> None:
    take_away_pytests_handlers()
    before = logging.basicConfig, warnings.showwarning
    app = AppLogging(LineHandler(LineFormatter("x"), Lines()), "debug")
    app.stand_down()
    assert (logging.basicConfig, warnings.showwarning) == before
    assert (logging.root.handlers, logging.root.level) == ([], logging.WARNING)


# The log file.


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
    stream = Lines()
    setup("x", "info", stream)
    path = tmp_path / "missing" / "log"
    assert not reopen(str(path))
    assert f"ERROR cannot reopen the log file {path}, the old one is kept: No such file" in stream.getvalue()
