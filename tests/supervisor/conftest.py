"""What tests of the supervisor's parts begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.process_parts import TestParts


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
