"""What masters and workers are told about each other, without starting any."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.supervisor.process_parts import TestParts
from zwoole.shared.process.control_messages import NO_MASTER


def test_every_master_knows_how_many_workers_there_are(parts: TestParts) -> None:
    (master,) = parts.masters
    assert parts.told_to(master)[0] == ("worker_num", {"number": 2})
    parts.rollouts.scale(to=1)
    assert parts.told_to(master)[-1] == ("worker_num", {"number": 1})
    parts.rollouts.scale(to=3)
    kinds = [kind for kind, _ in parts.told_to(master)[-3:]]
    assert (kinds, parts.told_to(master)[-3][1]) == (["worker_num", "worker", "worker"], {"number": 3})


@pytest.mark.parametrize("when", ["before the master dies", "while it starts"])
def test_a_new_master_knows_how_many_workers_are_left(parts: TestParts, when: str) -> None:
    if when == "before the master dies":
        parts.rollouts.scale(to=1)
    (master,) = parts.masters
    parts.end(master, -9)
    parts.run_due()
    if when == "while it starts":
        parts.rollouts.scale(to=1)
    (successor,) = parts.masters
    parts.told.clear()
    parts.boots.hello(successor)
    told = parts.told_to(successor)
    assert told[0] == ("worker_num", {"number": 1})
    assert [fields["worker_id"] for kind, fields in told if kind == "worker"] == [0]


@pytest.mark.parametrize("when", ["before the master dies", "while it starts"])
def test_a_worker_that_was_replaced_waits_for_no_master_that_does_not_know_it(tmp_path: Path, when: str) -> None:
    parts = TestParts(tmp_path, reactor_num=2)
    parts.start()
    retiring, serving = parts.worker(1), parts.worker(0)
    if when == "before the master dies":
        parts.rollouts.scale(to=1)
    dead, other = parts.masters
    parts.end(dead, -9)
    parts.run_due()
    if when == "while it starts":
        parts.rollouts.scale(to=1)
    (successor,) = [master for master in parts.masters if master is not other]
    parts.boots.hello(successor)
    told = {identity: fields["incarnations"] for identity, kind, fields in parts.told if kind == "masters"}
    assert told[retiring.identity] == [NO_MASTER, other.incarnation]
    assert told[serving.identity] == [successor.incarnation, other.incarnation]
    parts.close()
