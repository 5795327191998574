from __future__ import annotations

import pytest

from zwoole.shared.wire.batches import ATTACH_BYTES, BatchWriter, WireError
from zwoole.shared.wire.events import ACK, BYE, MESSAGE, PUSH
from zwoole.shared.wire.payload_ring import RING_MIN_BYTES, SharedMemory
from zwoole.shared.wire.trace import MOST_EVENTS, describe


def test_a_line_names_the_batch_and_each_event_by_its_ids() -> None:
    writer = BatchWriter()
    writer.add_text(PUSH, 7, b"hello")
    writer.add_bytes(MESSAGE, 8, b"\0" * 300)
    writer.add_integer(ACK, 40, 3)
    writer.add(BYE, 0)
    writer.add(99, 1)
    assert describe(writer.take(12, 345), None, down=False) == (
        "batch 12, credit 345: PUSH 7 (5 bytes of text), MESSAGE 8 (300 bytes), ACK 40 (3), BYE 0, 99 1"
    )


def test_the_events_of_a_batch_for_a_worker_are_numbered() -> None:
    writer = BatchWriter()
    writer.add_text(MESSAGE, 7, b"hello")
    writer.add(BYE, 0)
    assert describe(writer.take(12, 345), None, down=True) == (
        "batch 12, credit 345: #12 MESSAGE 7 (5 bytes of text), #13 BYE 0"
    )


def test_a_batch_that_only_returns_credit_has_no_event() -> None:
    assert describe(BatchWriter().take(1, 2), None, down=False) == "batch 1, credit 2: no event"


def test_payloads_are_not_told_wherever_they_lie() -> None:
    memory = SharedMemory.create(1 << 20)
    try:
        writer = BatchWriter()
        writer.ring = memory.down
        writer.add_text(PUSH, 1, b"secret" * RING_MIN_BYTES)
        writer.ring = None
        writer.add_bytes(PUSH, 2, b"secret" * ATTACH_BYTES)
        line = describe(writer.take(0, 0), memory.down, down=False)
    finally:
        memory.close_descriptor()
    assert line == f"batch 0, credit 0: PUSH 1 ({6 * RING_MIN_BYTES} bytes of text), PUSH 2 ({6 * ATTACH_BYTES} bytes)"


def test_a_line_has_an_end() -> None:
    writer = BatchWriter()
    for _ in range(MOST_EVENTS + 1000):
        writer.add(PUSH, 1)
    line = describe(writer.take(0, 0), None, down=False)
    assert line.endswith(", PUSH 1, and 1000 more")
    assert line.count("PUSH") == MOST_EVENTS


def test_what_is_no_batch_has_no_line() -> None:
    with pytest.raises(WireError):
        describe([b"no batch"], None, down=False)
