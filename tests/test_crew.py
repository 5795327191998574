"""The processes of a server, without processes: what each is told, and when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crew_parts import Parts


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Parts]:
    parts = Parts(monkeypatch, tmp_path)
    parts.start()
    for slot in range(2):
        parts.ready(parts.worker(slot))
    yield parts
    parts.close()


def told_to(parts: Parts, epoch: int) -> list[tuple[str, dict[str, Any]]]:
    """Return what a master was told: kind and fields."""
    return [(kind, fields) for identity, kind, fields in parts.told if identity == b"master-%d" % epoch]


def test_every_master_knows_how_many_workers_there_are(parts: Parts) -> None:
    (epoch,) = parts.crew.epochs
    assert told_to(parts, epoch)[0] == ("places", {"number": 2})
    parts.crew.scale(to=1)
    assert told_to(parts, epoch)[-1] == ("places", {"number": 1})
    parts.crew.scale(to=3)
    kinds = [kind for kind, _ in told_to(parts, epoch)[-3:]]
    assert (kinds, told_to(parts, epoch)[-3][1]) == (["places", "worker", "worker"], {"number": 3})


@pytest.mark.parametrize("when", ["before the master dies", "while it starts"])
def test_a_new_master_knows_how_many_workers_are_left(parts: Parts, when: str) -> None:
    if when == "before the master dies":
        parts.crew.scale(to=1)
    (master,) = parts.crew.of("master")
    parts.end(master, -9)
    parts.run_due()
    if when == "while it starts":
        parts.crew.scale(to=1)
    (successor,) = parts.crew.of("master")
    parts.told.clear()
    parts.crew.greeted_by(successor, False)
    told = told_to(parts, successor.incarnation)
    assert told[0] == ("places", {"number": 1})
    assert [fields["slot"] for kind, fields in told if kind == "worker"] == [0]
