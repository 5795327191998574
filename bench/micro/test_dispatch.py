"""A worker's dispatch: from a batch of a hundred messages to callbacks, replies and acknowledgements."""

from __future__ import annotations

from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture

from tests.workers.worker_parts import Master, message
from zwoole.workers.invocation.received_frame import Frame

MESSAGES = 100
SIZE = 64
ENDLESS = 1 << 40  # bytes: no push ever waits for the master


def test_callbacks(benchmark: BenchmarkFixture) -> None:
    """A callback that does nothing."""
    with Master({"message": lambda server, frame: None}, ENDLESS) as master:
        assert benchmark(dispatching(master, 1)) < SIZE  # only acknowledgements


def test_echo(benchmark: BenchmarkFixture) -> None:
    """A callback that pushes each message back."""

    def on_message(_: object, frame: Frame) -> None:
        master.commands.push(frame.fd, frame.data)

    with Master({"message": on_message}, ENDLESS) as master:
        assert benchmark(dispatching(master, master.connect())) > MESSAGES * SIZE


def dispatching(master: Master, fd: int) -> Callable[[], int]:
    """Return a function that dispatches a batch, drops the output, and returns its size in bytes."""
    parts = master.batch(*[message(fd, "x" * SIZE)] * MESSAGES)
    link, dispatcher = master.link, master.dispatcher

    def dispatch() -> int:
        before = link.in_flight()
        dispatcher.take_batch(link, parts)
        written = link.in_flight() - before
        link.writer.take(0, 0)
        return written

    return dispatch
