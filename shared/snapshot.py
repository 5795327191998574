"""The snapshot: what one process counts, in a file of the run directory that every process of the server may read.

A seqlock: the writer makes the sequence odd, writes, and makes it even again; a reader takes what it found only where
the sequence was the same even number before and after. Nobody waits for anybody, and a process that is stuck, stopped
or killed can be read all the same. The checksum stands in for the memory barriers, which Python has none of.
"""

from __future__ import annotations

import mmap
import os
import time
import zlib
from pathlib import Path
from typing import Any

import msgpack

HEAD_WORDS = 3  # sequence, length, checksum; 8 bytes each
HEAD_BYTES = 8 * HEAD_WORDS
MAX_BYTES = 64 * 1024  # of one process's counters; a file takes memory only as far as it was written
TRIES = 50
PAUSE_S = 0.0001  # a write takes a few microseconds, unless its process is suspended within


class Snapshot:
    """One process's file, as its only writer sees it."""

    def __init__(self, path: Path, capacity: int = MAX_BYTES) -> None:
        """Make the file at `path`, which holds nothing yet, for at most `capacity` bytes.

        Raises:
            OSError: it cannot be made, or is there already.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, HEAD_BYTES + capacity)
            self._mapping = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._mapping)[:HEAD_BYTES].cast("Q")
        self._capacity = capacity

    def write(self, fields: dict[str, Any]) -> None:
        """Put `fields` in the place of what was there. From one thread only.

        Raises:
            ValueError: they take more than the capacity; what was there stays.
        """
        blob: bytes = msgpack.packb(fields)
        if len(blob) > self._capacity:
            raise ValueError(f"a snapshot has at most {self._capacity} bytes, not {len(blob)}")
        self._words[0] += 1
        self._words[1] = len(blob)
        self._words[2] = zlib.crc32(blob)
        self._mapping[HEAD_BYTES : HEAD_BYTES + len(blob)] = blob
        self._words[0] += 1


def read(path: Path) -> dict[str, Any] | None:
    """Return what a process wrote last; None where it has written nothing, is gone, or was ended while it wrote."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        mapping = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    except ValueError:  # its writer has not given it a size yet
        return None
    finally:
        os.close(descriptor)
    with mapping, memoryview(mapping) as view, view[:HEAD_BYTES].cast("Q") as words:
        for _ in range(TRIES):
            sequence, length, checksum = words.tolist()
            blob = mapping[HEAD_BYTES : HEAD_BYTES + length]
            if sequence and sequence % 2 == 0 and words[0] == sequence and zlib.crc32(blob) == checksum:
                fields: dict[str, Any] = msgpack.unpackb(blob)
                return fields
            if not sequence:
                return None
            time.sleep(PAUSE_S)
    return None
