"""The payload ring: nothing is overwritten before it is released, and all room is released in the end."""

from __future__ import annotations

import errno
import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.open_files import open_files
from zwoole.shared.wire.payload_ring import SHORT_BYTES, STEP_BYTES, PayloadRing, SharedMemory


def ring(capacity: int = 100) -> PayloadRing:
    return PayloadRing(memoryview(bytearray(capacity)))


def test_a_payload_lies_where_put_says() -> None:
    payloads = ring()
    position = payloads.put(b"hello")
    assert bytes(payloads.view(position, 5)) == b"hello"


def test_room_comes_back_by_marks_in_order() -> None:
    payloads = ring(100)
    assert payloads.put(b"a" * 60) == 0
    payloads.seal(7)
    assert payloads.put(b"b" * 41) == -1, "no room"
    payloads.free(6)
    assert payloads.put(b"b" * 41) == -1, "the mark is not reached"
    payloads.free(7)
    assert payloads.put(b"b" * 41) == 0


def test_what_is_not_sealed_is_not_given_back() -> None:
    payloads = ring(100)
    payloads.put(b"a" * 60)
    payloads.free(1 << 60)
    assert payloads.put(b"b" * 41) == -1


def test_a_payload_is_in_one_piece() -> None:
    payloads = ring(100)
    payloads.put(b"a" * 50)
    payloads.seal(1)
    payloads.put(b"b" * 30)
    payloads.seal(2)
    payloads.free(1)
    assert payloads.put(b"c" * 40) == 0, "not at 80, where only 20 bytes are left"
    assert payloads.put(b"d" * 11) == -1, "10 bytes are left before the second"


def test_while_little_waits_only_the_first_part_is_used() -> None:
    payloads = ring(4 * SHORT_BYTES)
    size = SHORT_BYTES // 8
    places = []
    for mark in range(100):
        places.append(payloads.put(bytes(size)))
        payloads.seal(mark)
        payloads.free(mark - 3)
    assert -1 not in places
    assert max(places) < SHORT_BYTES
    later = [payloads.put(bytes(size)) for _ in range(20)]
    assert max(later) > SHORT_BYTES, "and more where much waits"


def test_one_larger_than_the_ring_never_fits() -> None:
    assert ring(100).put(bytes(101)) == -1
    assert ring(100).put(bytes(100)) == 0


@pytest.mark.parametrize(("position", "size"), [(0, 101), (100, 1), (1 << 31, 1 << 31)])
def test_what_lies_behind_the_end_is_no_payload(position: int, size: int) -> None:
    with pytest.raises(ValueError):
        ring(100).view(position, size)


@given(st.lists(st.tuples(st.sampled_from(["put", "put", "seal", "free"]), st.integers(0, 70)), max_size=60))
def test_no_live_payload_is_ever_overwritten(steps: list[tuple[str, int]]) -> None:
    payloads = ring(100)
    unsealed: list[tuple[int, bytes]] = []
    sealed: list[list[tuple[int, bytes]]] = []  # for each mark that was not released
    mark = 0
    for number, (step, size) in enumerate(steps):
        if step == "put":
            payload = bytes([number % 256]) * size
            position = payloads.put(payload)
            live = [payload for group in sealed for _, payload in group] + [payload for _, payload in unsealed]
            if position >= 0:
                unsealed.append((position, payload))
            else:
                assert sum(map(len, live)) + size > 100 - 2 * 70, "it refuses only where little room is left"
        elif step == "seal":
            mark += 1
            payloads.seal(mark)
            sealed.append(unsealed)
            unsealed = []
        elif sealed:
            sealed.pop(0)
            payloads.free(mark - len(sealed))
        for position, payload in [entry for group in [*sealed, unsealed] for entry in group]:
            assert bytes(payloads.view(position, len(payload))) == payload
    payloads.seal(mark + 1)
    payloads.free(mark + 1)
    assert payloads.put(bytes(100)) == 0, "all room has come back"


def test_two_processes_share_the_memory_and_each_way_is_apart() -> None:
    ours = SharedMemory.create(4096)
    theirs = SharedMemory.open(os.getpid(), ours.descriptor)
    ours.down.put(b"down")
    theirs.up.put(b"up!!")
    for memory in (ours, theirs):
        memory.close_descriptor()
        memory.close_descriptor()
    assert bytes(theirs.down.view(0, 4)) == b"down"
    assert bytes(ours.up.view(0, 4)) == b"up!!"
    assert ours.down.capacity == ours.up.capacity == 4096


def blocks(memory: SharedMemory) -> int:
    return os.fstat(memory.descriptor).st_blocks * 512


def test_memory_is_taken_in_steps_as_payloads_need_it() -> None:
    """Each end reserves memory for its own direction, and finds there what the other end has written."""
    ours = SharedMemory.create(4 * STEP_BYTES)
    theirs = SharedMemory.open(os.getpid(), ours.descriptor)
    assert blocks(ours) == 0
    assert ours.down.put(bytes(1000)) == 0
    assert blocks(ours) == STEP_BYTES
    assert theirs.up.put(b"x" * (STEP_BYTES + 1)) == 0
    assert blocks(ours) == 3 * STEP_BYTES
    assert bytes(ours.up.view(STEP_BYTES, 1)) == b"x"
    assert blocks(ours) == 3 * STEP_BYTES
    for memory in (ours, theirs):
        memory.close_descriptor()
    assert ours.down.put(bytes(1000)) >= 0
    assert ours.down.put(bytes(2 * STEP_BYTES)) == -1, "no more can be reserved"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM, errno.EFBIG])
def test_where_there_is_no_memory_a_ring_has_no_room(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    memory = SharedMemory.create(4 * STEP_BYTES)
    assert memory.down.put(b"first") == 0
    with monkeypatch.context() as short:
        short.setattr(os, "posix_fallocate", fail)
        assert memory.down.put(bytes(STEP_BYTES)) == -1
        assert memory.down.put(b"small") == 5
        assert memory.up.put(b"up") == -1
    assert memory.down.put(bytes(STEP_BYTES)) == 10
    memory.close_descriptor()


def test_what_is_no_memory_is_an_error_and_leaves_no_descriptor() -> None:
    read_end, write_end = os.pipe()
    try:
        before = open_files()
        with pytest.raises((OSError, ValueError)):
            SharedMemory.open(os.getpid(), read_end)
        with pytest.raises(OSError):
            SharedMemory.open(os.getpid(), 1 << 20)
        assert open_files() - before == Counter()
    finally:
        os.close(read_end)
        os.close(write_end)
