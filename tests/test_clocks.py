"""Which clocks are read: the time of day jumps when somebody sets it, or when a machine first learns the right time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("reactor", "workers", "shared", "supervisor", "src/zwoole")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("**/*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_duration_is_taken_from_the_time_of_day(module: Path) -> None:
    found = re.findall(r"\btime\.time(?:_ns)?\(\)|from time import .*\btime\b|datetime\.now|utcnow", module.read_text())
    assert not found, "take time.monotonic(), which is the same for all processes of a machine"
