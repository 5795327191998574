"""The progress map: how far a worker incarnation has come with each event that it was sent.

It is a plain file in the run directory with one byte per event; an event's byte is its sequence number modulo the
file's size. The master creates the file and clears the byte before it sends the event. The worker writes the byte
before a callback starts and after it returns. However the worker dies, the file shows which events it had started.
"""

from __future__ import annotations

import os
from pathlib import Path

from zwoole.shared.memory.mapping import mapped, reserve
from zwoole.shared.process.run_files import remove

WAITING = 0
STARTED = 1
FINISHED = 2

RING = 16384  # events; more than any window, so that closes and commands fit in as well


class ProgressMap:
    """The map of one pair of worker incarnation and master incarnation."""

    __slots__ = ("_mapping", "_marks", "_mask", "path")

    def __init__(self, path: Path, ring: int, create: bool = False) -> None:
        """Map the file at `path`.

        Args:
            path: the file.
            ring: number of events it has room for, a power of two.
            create: whether to create the file; otherwise it must exist.

        Raises:
            OSError: the file cannot be created, or does not exist.
            ValueError: the existing file is shorter.
        """
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            if create:
                reserve(descriptor, 0, ring)
            self._mapping = mapped(descriptor, ring)
        except OSError:
            if create:
                remove(path)
            raise
        finally:
            os.close(descriptor)
        self._marks: memoryview | None = memoryview(self._mapping)
        self._mask = ring - 1

    def mark(self, sequence: int, progress: int) -> None:
        """Set how far an event has come: WAITING, STARTED or FINISHED."""
        self._marks[sequence & self._mask] = progress  # type: ignore[index]

    def read(self, sequence: int) -> int:
        """Return how far an event has come."""
        return self._marks[sequence & self._mask]  # type: ignore[index]

    def close(self) -> None:
        """Unmap the file. `mark` and `read` must not be called afterwards."""
        self._marks = None
        self._mapping.close()
