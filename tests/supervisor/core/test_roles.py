"""The roles of processes: that a descriptor is all that the supervisor needs of a new one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.process_parts import TestParts
from zwoole.shared.memory import stats
from zwoole.shared.settings import Settings
from zwoole.supervisor.admin.metrics import METRICS
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.roles import MASTER, ROLES, WORKER, Boot

BUS = dataclasses.replace(
    MASTER,
    name="bus",
    module="zwoole.bus",
    setting="reactor_num",
    stops_first=False,
    says=frozenset(("hello",)),
    leaves="",
)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[TestParts]:
    parts = TestParts(tmp_path, roles=(*ROLES, BUS))
    parts.start()
    yield parts
    parts.close()


def bus(parts: TestParts) -> Process:
    (process,) = parts.processes.of(BUS)
    return process


def test_every_role_has_counters_and_metrics() -> None:
    assert [role.name for role in ROLES] == list(stats.EMPTY) == list(METRICS)


def test_every_role_has_its_setting() -> None:
    assert [getattr(Settings(), role.setting) for role in ROLES] == [1, Settings().worker_num]


def test_each_process_is_told_what_it_needs() -> None:
    boot = Boot(1, 17, [11, 12], [21, 22], [[31], [32, 33]])
    arguments, descriptors = MASTER.command(boot)
    assert " ".join(arguments) == "--incarnation 17 --id 1 --table 22 --listen 32 33"
    assert descriptors == [22, 32, 33]
    arguments, descriptors = WORKER.command(boot)
    assert " ".join(arguments) == "--worker-id 1 --incarnation 17 --masters 11 12 --tables 21 22"
    assert descriptors == [21, 22]


def test_a_start_waits_for_a_new_role_too(parts: TestParts) -> None:
    parts.all_ready()
    assert not parts.readiness.complete
    assert [str(missing) for missing in parts.readiness.missing()] == ["bus 0: starting"]
    parts.boots.hello(bus(parts))
    assert parts.readiness.complete
    assert parts.readiness.missing() == []


def test_a_process_of_a_new_role_is_replaced(parts: TestParts, log: pytest.LogCaptureFixture) -> None:
    dead = bus(parts)
    parts.end(dead, 1)
    assert f"{dead} exited with code 1" in log.text
    assert parts.events == [], "it does not run the app"
    parts.run_due()
    assert bus(parts) is not dead
    assert parts.processes.history(BUS, 0).restarts == 1


def test_a_new_role_stops_after_the_masters(parts: TestParts) -> None:
    parts.all_ready()
    parts.boots.hello(bus(parts))
    parts.shutdown.begin()
    parts.shutdown.go_on()
    told = (bus(parts).identity, "stop", {})
    assert told not in parts.told
    for master in parts.masters:
        parts.shutdown.stopped(master)
    parts.shutdown.go_on()
    assert told in parts.told
