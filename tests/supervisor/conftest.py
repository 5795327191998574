"""What tests of the supervisor's parts begin with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.process_parts import TestParts
from zwoole.workers import role


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., TestParts]]:
    """Yield a function that makes and starts parts, with settings; the masters have said hello."""
    made: list[TestParts] = []

    def started(**settings: Any) -> TestParts:
        parts = TestParts(tmp_path, **settings)
        made.append(parts)
        parts.start()
        return parts

    yield started
    for parts in made:
        parts.close()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[TestParts]:
    """Yield parts of which every process is ready."""
    parts = TestParts(tmp_path)
    parts.start()
    parts.all_ready()
    yield parts
    parts.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the current folder; everything that a launch changes is restored afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["zwoole"])
    monkeypatch.setattr(sys, "path", ["/usr/bin", *sys.path])
    monkeypatch.setattr(role, "_starter", None)
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
