"""Batches between master and worker, a hundred messages each, without a socket."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from zwoole.shared.wire.batches import BatchReader, BatchWriter
from zwoole.shared.wire.events import MESSAGE

SIZES = (64, 16 << 10)
MESSAGES = 100


def written(size: int) -> list[bytearray | bytes]:
    """Return the parts of a batch."""
    writer = BatchWriter()
    for fd in range(MESSAGES):
        writer.add_text(MESSAGE, fd, b"x" * size)
    return writer.take(0, 0)


@pytest.mark.parametrize("size", SIZES)
def test_encode(benchmark: BenchmarkFixture, size: int) -> None:
    """Write a batch."""
    writer, payload = BatchWriter(), b"x" * size

    def write() -> list[bytearray | bytes]:
        for fd in range(MESSAGES):
            writer.add_text(MESSAGE, fd, payload)
        return writer.take(0, 0)

    assert sum(map(len, benchmark(write))) > MESSAGES * size


@pytest.mark.parametrize("size", SIZES)
def test_decode(benchmark: BenchmarkFixture, size: int) -> None:
    """Read a batch, with the text of each message."""
    parts = [bytes(part) for part in written(size)]

    def read() -> int:
        batch, characters = BatchReader(parts), 0
        while batch.next():
            characters += len(batch.text())
        return characters

    assert benchmark(read) == MESSAGES * size
