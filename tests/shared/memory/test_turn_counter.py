"""The turn counter that a process and its supervisor share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from zwoole.shared.memory.mapping import anonymous, reserve
from zwoole.shared.memory.turn_counter import TURNS_BYTES, TurnCounter


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[int]:
    descriptor = anonymous("turns", tmp_path)
    yield descriptor
    os.close(descriptor)


def test_what_one_process_counts_another_reads(memory: int) -> None:
    reserve(memory, 0, TURNS_BYTES)
    reader = TurnCounter(memory)
    counter = TurnCounter(memory)
    assert reader.read() == 0
    for _ in range(300):
        counter.tick()
    assert reader.read() == counter.read() == 300
    counter.close()
    assert reader.read() == 300


def test_it_cannot_be_in_memory_that_is_not_there(memory: int) -> None:
    with pytest.raises(ValueError, match="0 bytes"):
        TurnCounter(memory)
