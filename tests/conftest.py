"""What every test runs under."""

from __future__ import annotations

import gc
import logging
import signal

import pytest
import zmq
from hypothesis import settings

# No deadline: shared cores are slow at times, which proves nothing. The same examples every time, so that a change is
# blamed only for what it did; `pytest --hypothesis-profile=explore` tries others.
settings.register_profile("zwoole", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("zwoole")

# A shell makes background programs ignore the first two, nohup the third. Programs that tests start would inherit that.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_unconfigure() -> None:
    """End the tests' process even if a failed test has left sockets open with unsent data."""
    for context in [found for found in gc.get_objects() if issubclass(type(found), zmq.Context)]:
        context.destroy(linger=0)


class Time:
    """Monotonic time that advances only when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Return the clock by which callbacks are timed."""
    time = Time()
    for module in ("dispatch", "invocation", "runner", "scheduler"):
        monkeypatch.setattr(f"zwoole.workers.invocation.{module}.monotonic", time)
    return time


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Return zwoole's log records, even if an earlier test has configured logging."""
    logger = logging.getLogger("zwoole")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])
    caplog.set_level(logging.INFO, "zwoole")
    return caplog
