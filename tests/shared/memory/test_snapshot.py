"""Snapshots: complete or absent, whatever their writer is doing."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zwoole.shared.memory import snapshot
from zwoole.shared.memory.snapshot import BLOCK, HEAD, MAX_BYTES, Snapshot, read

FIELDS = st.dictionaries(st.text(max_size=20), st.one_of(st.integers(0, 2**63), st.text(max_size=200)), max_size=20)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PAUSE_S", 0.0)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s"
    written = Snapshot(path)
    assert read(path) is None
    written.write({"messages": 7, "closed": {"1000": 2}})
    assert read(path) == {"messages": 7, "closed": {"1000": 2}}
    written.write({"messages": 8})
    assert read(path) == {"messages": 8}


def test_a_file_that_is_not_there_or_has_no_size_yet_is_no_snapshot(tmp_path: Path) -> None:
    assert read(tmp_path / "nobody") is None
    (tmp_path / "empty").touch()
    assert read(tmp_path / "empty") is None


def test_what_is_too_large_is_refused_and_what_was_there_stays(tmp_path: Path) -> None:
    written = Snapshot(tmp_path / "s")
    written.write({"a": 1})
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        written.write({"a": "x" * MAX_BYTES})
    assert read(tmp_path / "s") == {"a": 1}


def test_the_file_is_for_this_user_only(tmp_path: Path) -> None:
    Snapshot(tmp_path / "s").write({"a": 1})
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, Path]:
    """Return one snapshot and its file, shared by all examples of a test."""
    path = tmp_path_factory.mktemp("torn") / "s"
    return Snapshot(path), path


@given(FIELDS, FIELDS, st.data())
def test_a_write_that_was_cut_off_anywhere_is_never_read_as_a_mixture(
    torn: tuple[Snapshot, Path], before: dict[str, Any], after: dict[str, Any], data: st.DataObject
) -> None:
    written, path = torn
    written.write(before)
    old = path.read_bytes()
    written.write(after)
    new = path.read_bytes()
    assert read(path) == after
    cut = data.draw(st.integers(0, len(new)), label="bytes written before the end")
    path.write_bytes(new[:cut] + old[cut:])
    assert read(path) in (None, before, after)


def test_a_file_that_was_made_and_not_written_yet_is_no_snapshot(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(bytes(BLOCK))
    assert read(tmp_path / "s") is None


def test_the_file_has_as_many_blocks_as_it_needs(tmp_path: Path) -> None:
    written = Snapshot(tmp_path / "s")
    written.write({"a": 1})
    assert (tmp_path / "s").stat().st_size == BLOCK
    written.write({"a": "x" * BLOCK})
    assert (tmp_path / "s").stat().st_size == 2 * BLOCK
    written.write({"a": 2})
    assert read(tmp_path / "s") == {"a": 2}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_keeps_what_was_there_until_it_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    kept, new = Snapshot(tmp_path / "kept"), Snapshot(tmp_path / "new")
    kept.write({"a": 1})
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", fail)
        new.write({"a": 1})
        kept.write({"a": "x" * BLOCK})
        assert (read(tmp_path / "kept"), read(tmp_path / "new")) == ({"a": 1}, None)
        kept.write({"a": 2})
        assert read(tmp_path / "kept") == {"a": 2}, "what needs no more room is written"
    new.write({"a": 3})
    assert read(tmp_path / "new") == {"a": 3}


def test_a_file_that_somebody_removed_is_made_anew_as_soon_as_its_folder_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    written = Snapshot(folder / "s")
    written.write({"a": 1})
    (folder / "s").unlink()
    written.write({"a": 2})
    assert read(folder / "s") == {"a": 2}
    (folder / "s").unlink()
    folder.rmdir()
    written.write({"a": 3})
    written.write({"a": 4})
    folder.mkdir()
    written.write({"a": 5})
    assert read(folder / "s") == {"a": 5}


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * HEAD.size, b"\xff" * 5000], ids=len)
def test_a_file_that_was_cut_short_or_overwritten_is_no_snapshot(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    assert read(tmp_path / "s") is None


def test_threads_that_read_while_another_writes_see_whole_snapshots_only(tmp_path: Path) -> None:
    path = tmp_path / "s"
    written = Snapshot(path)
    written.write({"n": 0, "body": "", "again": 0})
    done = threading.Event()
    torn: list[Any] = []
    seen: set[int] = set()

    def look() -> None:
        last = 0
        while not done.is_set():
            fields = read(path)
            if fields is None:
                continue
            if fields["n"] != fields["again"] or len(fields["body"]) != fields["n"] % 5000 or fields["n"] < last:
                torn.append(fields)
            last = fields["n"]
            seen.add(last)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    n = 0
    while n < 3000 or len(seen) < 5:
        n += 1
        written.write({"n": n, "body": "x" * (n % 5000), "again": n})
    done.set()
    for reader in readers:
        reader.join()
    assert torn == []
    assert read(path) == {"n": n, "body": "x" * (n % 5000), "again": n}
