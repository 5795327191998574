"""What the supervisor does at each signal, without processes."""

from __future__ import annotations

import signal

import pytest

from tests.supervisor.process_parts import TestParts
from zwoole.shared.process.signals import SUPERVISOR_SIGNALS
from zwoole.supervisor.control.signal_handlers import handlers
from zwoole.supervisor.core.roles import WORKER


def send(parts: TestParts, number: int) -> None:
    handlers(parts.shutdown, parts.rollouts, lambda: None)[number]()


def test_every_signal_that_others_leave_to_the_supervisor_has_a_handler(parts: TestParts) -> None:
    assert handlers(parts.shutdown, parts.rollouts, lambda: None).keys() == {*SUPERVISOR_SIGNALS, signal.SIGUSR2}


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_two_signals_reload(parts: TestParts, number: int) -> None:
    send(parts, number)
    assert parts.rollouts.reloading


def test_two_signals_change_the_number_of_workers_but_leave_one(
    parts: TestParts, log: pytest.LogCaptureFixture
) -> None:
    send(parts, signal.SIGTTIN)
    assert parts.processes.wanted[WORKER] == 3
    for _ in range(3):
        send(parts, signal.SIGTTOU)
    assert parts.processes.wanted[WORKER] == 1
    assert "the number of workers is unchanged: there are 1 worker(s), and a server needs one" in log.text


@pytest.mark.parametrize(("number", "kills"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGQUIT, True)])
def test_three_signals_stop(parts: TestParts, number: int, kills: bool) -> None:
    send(parts, number)
    assert parts.processes.stopping
    assert {process.killed != "" for process in parts.processes.all()} == {kills}
