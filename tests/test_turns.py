"""The turn counter that a process and its supervisor share."""

from __future__ import annotations

from pathlib import Path

import pytest

from zwoole.shared.turns import TurnCounter


def test_what_one_process_counts_another_reads(tmp_path: Path) -> None:
    reader = TurnCounter(tmp_path / "turns.1", create=True)
    counter = TurnCounter(tmp_path / "turns.1")
    assert reader.read() == 0
    for _ in range(300):
        counter.tick()
    assert reader.read() == counter.read() == 300


def test_it_is_made_once_and_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TurnCounter(tmp_path / "turns.1")
    counter = TurnCounter(tmp_path / "turns.1", create=True)
    with pytest.raises(FileExistsError):
        TurnCounter(tmp_path / "turns.1", create=True)
    counter.remove()
    assert list(tmp_path.iterdir()) == []
