"""What a batch holds, in one line of text for the debug log."""

from __future__ import annotations

from collections.abc import Sequence

from zwoole.shared.wire.batches import BODY_BYTES, BODY_INTEGER, BODY_TEXT, BatchReader
from zwoole.shared.wire.events import EVENTS
from zwoole.shared.wire.payload_ring import PayloadRing

MOST_EVENTS = 20  # that one line names
NAMES = {event.kind: event.name for event in EVENTS}


def describe(parts: Sequence[bytes | bytearray], ring: PayloadRing | None, down: bool) -> str:
    """Return a batch's number and its events, each with its kind, what it is about (mostly an fd) and its body's size.

    Args:
        parts: the parts of the ZeroMQ message.
        ring: the payload ring that the sender uses, if it has one.
        down: whether it is for a worker: then each event has a sequence number, which is shown.

    Raises:
        WireError: it is no batch.
    """
    event = BatchReader([bytes(part) for part in parts], ring)
    count = event.left
    told: list[str] = []
    while len(told) < MOST_EVENTS and event.next():
        number = f"#{event.first + len(told)} " if down else ""
        told.append(f"{number}{NAMES.get(event.kind, event.kind)} {event.number}{_body(event)}")
    if count > len(told):
        told.append(f"and {count - len(told)} more")
    return f"batch {event.first}, credit {event.credit}: {', '.join(told) or 'no event'}"


def _body(event: BatchReader) -> str:
    if event.body_type == BODY_INTEGER:
        return f" ({event.body_integer})"
    if event.body_type in (BODY_TEXT, BODY_BYTES):
        return f" ({event.body_size} bytes{' of text' if event.body_type == BODY_TEXT else ''})"
    return ""
