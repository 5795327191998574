"""The thread that notices when the supervisor is gone."""

from __future__ import annotations

import os
import threading
import time

import pytest

from tests.process.waiting import PATIENCE_S, is_readable, wait_for
from zwoole.shared.process import lifeline


@pytest.mark.parametrize("wrote", [b"", b"whatever"])
def test_the_end_of_the_pipe_is_told_and_then_ends_the_process(monkeypatch: pytest.MonkeyPatch, wrote: bytes) -> None:
    order: list[object] = []
    exited = threading.Event()

    def leave(code: int) -> None:
        order.append(code)
        exited.set()

    monkeypatch.setattr(os, "_exit", leave)
    read_end, write_end = os.pipe()
    lifeline.watch(read_end, lambda: order.append("told"), 0.0, last=lambda: order.append("last"))
    for byte in wrote:
        os.write(write_end, bytes([byte]))
        wait_for(lambda: not is_readable(read_end), "it to be read")
    order.append("closed")
    os.close(write_end)
    assert exited.wait(PATIENCE_S)
    assert order == ["closed", "told", "last", lifeline.ORPHANED_EXIT]
    os.close(read_end)


def test_a_process_that_ends_in_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    slept: list[float] = []
    gate = threading.Event()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        gate.wait(PATIENCE_S)

    exited = threading.Event()
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(os, "_exit", lambda code: exited.set())
    read_end, write_end = os.pipe()
    lifeline.watch(read_end, told.set, 3.0)
    os.close(write_end)
    assert told.wait(PATIENCE_S)
    assert not exited.is_set()
    gate.set()
    assert exited.wait(PATIENCE_S)
    assert slept == [3.0]
    os.close(read_end)


def test_a_descriptor_that_somebody_has_closed_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    exited = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: exited.set())
    read_end, write_end = os.pipe()
    os.close(read_end)
    lifeline.watch(read_end, exited.set, 0.0)
    wait_for(lambda: all(thread.name != "lifeline" for thread in threading.enumerate()), "the end of the thread")
    assert not exited.is_set()
    os.close(write_end)
