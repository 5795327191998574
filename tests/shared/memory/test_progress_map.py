"""The progress map, written by a worker and read by the master."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from zwoole.shared.memory.progress_map import FINISHED, RING, STARTED, WAITING, ProgressMap


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "progress"


def test_every_event_of_a_new_map_is_waiting(path: Path) -> None:
    progress = ProgressMap(path, 64, create=True)
    assert progress.path == path
    assert [progress.read(sequence) for sequence in range(64)] == [WAITING] * 64


@pytest.mark.parametrize("mark", [STARTED, FINISHED, WAITING])
def test_two_mappings_of_a_file_see_each_other(path: Path, mark: int) -> None:
    master = ProgressMap(path, 64, create=True)
    worker = ProgressMap(path, 64)
    worker.mark(3, mark)
    assert [master.read(sequence) for sequence in (2, 3, 4)] == [WAITING, mark, WAITING]
    master.mark(3, WAITING)
    assert worker.read(3) == WAITING


@pytest.mark.parametrize("sequence", [0, 63, 64, RING, (1 << 64) - 1])
def test_an_event_is_found_by_its_number_modulo_the_ring(path: Path, sequence: int) -> None:
    progress = ProgressMap(path, 64, create=True)
    progress.mark(sequence, STARTED)
    assert [at for at in range(64) if progress.read(at)] == [sequence % 64]


def test_a_whole_ring_of_events_is_kept_apart(path: Path) -> None:
    progress = ProgressMap(path, RING, create=True)
    for sequence in range(RING):
        progress.mark(sequence, sequence % 3)
    assert [progress.read(RING + sequence) for sequence in range(RING)] == [sequence % 3 for sequence in range(RING)]


def test_what_a_worker_wrote_outlives_it(path: Path) -> None:
    master = ProgressMap(path, 64, create=True)
    worker = ProgressMap(path, 64)
    worker.mark(1, STARTED)
    del worker
    assert master.read(1) == STARTED
    assert path.read_bytes() == b"\0\1" + bytes(62)


def test_a_map_is_made_once(path: Path) -> None:
    ProgressMap(path, 64, create=True)
    with pytest.raises(FileExistsError):
        ProgressMap(path, 64, create=True)


def test_a_map_that_is_not_there_cannot_be_opened(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ProgressMap(path, 64)


def test_only_the_owner_may_read_the_file(path: Path) -> None:
    ProgressMap(path, 64, create=True)
    assert path.stat().st_mode & 0o777 == 0o600


def test_its_blocks_are_there_from_the_start(path: Path) -> None:
    ProgressMap(path, RING, create=True)
    status = path.stat()
    assert status.st_blocks * 512 >= status.st_size == RING


def test_a_file_that_is_shorter_cannot_be_opened(path: Path) -> None:
    path.write_bytes(bytes(RING - 1))
    with pytest.raises(ValueError, match="16383 bytes"):
        ProgressMap(path, RING)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_map_that_has_no_room_is_not_made(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        ProgressMap(path, RING, create=True)
    assert not path.exists()
