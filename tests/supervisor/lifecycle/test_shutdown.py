"""How a server stops, without processes."""

from __future__ import annotations

from collections.abc import Callable

from tests.supervisor.process_parts import TestParts

Make = Callable[..., TestParts]


def test_a_stop_does_not_wait_for_workers_that_have_never_been_ready(make: Make) -> None:
    parts = make()
    serving, in_worker_start = parts.worker(0), parts.worker(1)
    parts.ready(serving)
    parts.boots.hello(in_worker_start)
    parts.shutdown.begin()
    (master,) = parts.masters
    parts.shutdown.go_on()
    assert not in_worker_start.killed  # there may be a message for the worker that it replaces
    parts.shutdown.stopped(master)
    parts.shutdown.go_on()
    assert in_worker_start.killed == "the server stops"
    assert not serving.killed
    assert (serving.identity, "stop", {}) in parts.told
    assert parts.shutdown.exit_code == 0
