"""Snapshots: whole or not at all, whatever their writer does meanwhile."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zwoole.shared import snapshot
from zwoole.shared.snapshot import HEAD_BYTES, MAX_BYTES, Snapshot, read

FIELDS = st.dictionaries(st.text(max_size=20), st.one_of(st.integers(0, 2**63), st.text(max_size=200)), max_size=20)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PAUSE_S", 0.0)


def poke(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[at : at + len(data)] = data


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


def test_two_writers_cannot_have_one_file(tmp_path: Path) -> None:
    Snapshot(tmp_path / "s")
    with pytest.raises(FileExistsError):
        Snapshot(tmp_path / "s")


def test_what_is_too_large_is_refused_and_what_was_there_stays(tmp_path: Path) -> None:
    written = Snapshot(tmp_path / "s")
    written.write({"a": 1})
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        written.write({"a": "x" * MAX_BYTES})
    assert read(tmp_path / "s") == {"a": 1}


def test_the_file_is_for_this_user_only(tmp_path: Path) -> None:
    Snapshot(tmp_path / "s")
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600


@given(FIELDS, FIELDS, st.data())
def test_a_write_that_was_cut_off_anywhere_is_never_read(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, Any], after: dict[str, Any], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    path, other = folder / "s", folder / "other"
    one, two = Snapshot(path), Snapshot(other)
    one.write(before)
    two.write(before)
    two.write(after)
    new = other.read_bytes()
    cut = data.draw(st.integers(0, len(new)), label="bytes written before the end")
    poke(path, 0, (3).to_bytes(8, "little"))
    poke(path, 8, new[8 : max(cut, 8)])
    assert read(path) is None


@given(FIELDS, FIELDS, st.data())
def test_a_body_that_is_not_there_yet_is_never_read_also_where_the_sequence_is_even(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, Any], after: dict[str, Any], data: st.DataObject
) -> None:
    """What a machine that reorders its stores could show: the head of one write with a part of another's body."""
    folder = tmp_path_factory.mktemp("reordered")
    path, other = folder / "s", folder / "other"
    one, two = Snapshot(path), Snapshot(other)
    one.write(before)
    two.write(before)
    two.write(after)
    new = other.read_bytes()
    poke(path, 0, new[:HEAD_BYTES])
    poke(path, HEAD_BYTES, new[HEAD_BYTES : data.draw(st.integers(HEAD_BYTES, HEAD_BYTES + 400), label="cut")])
    assert read(path) in (None, after)


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
