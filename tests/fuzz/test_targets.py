"""The corpus through every target, on the build under test; and targets fail when they must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import targets
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
INPUTS = sorted(CORPUS.glob("*/*"))


def test_every_target_has_a_corpus() -> None:
    assert {file.parent.name for file in INPUTS} == set(TARGETS)


@pytest.mark.parametrize("file", INPUTS, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_the_contract_holds_for_the_corpus(file: Path) -> None:
    TARGETS[file.parent.name](file.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_the_contract_holds_for_no_bytes_at_all(target: str) -> None:
    TARGETS[target](b"")


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
def test_the_contract_holds_for_damaged_inputs(target: str, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from([file for file in INPUTS if file.parent.name == target]))
    damaged = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    TARGETS[target](bytes(damaged))


def fail(*_: Any) -> Any:
    """Replaces code; raises an exception that it does not promise."""
    raise IndexError("not in the contract")


@pytest.mark.parametrize(
    ("target", "broken", "data"),
    [
        ("handshake", "parse_upgrade", b"\r\n\r\nGET\r\n\r\n"),
        ("handshake", "early_refusal", b"GET"),
        ("protocol", "Protocol", b"\0x"),
        ("wire", "BatchReader", b"\0"),
        ("control", "unpack", b""),
    ],
)
def test_any_other_exception_leaves_the_target(
    target: str, broken: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, broken, fail)
    with pytest.raises(IndexError, match="not in the contract"):
        TARGETS[target](data)


def test_events_that_depend_on_the_chunks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "chunks_of", lambda stream, sizes: [stream[1:]])
    with pytest.raises(AssertionError):
        targets.protocol((CORPUS / "protocol" / "text").read_bytes())


def test_an_end_of_the_head_that_depends_on_the_pieces_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "find_head_end", lambda data, start: len(data) + start)
    with pytest.raises(AssertionError, match="the end moves"):
        targets.handshake(b"GET / HTTP/1.1\r\n\r\n")


def test_a_batch_that_is_written_in_another_way_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "written", lambda events, first, credit: [bytes(targets.BatchWriter().take(0, 0)[0])])
    with pytest.raises(AssertionError):
        targets.wire((CORPUS / "wire" / "message").read_bytes())
