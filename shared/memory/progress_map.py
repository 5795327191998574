"""The progress map: how far a worker incarnation has come with each event it was sent.

A plain file in the run directory, one byte per event, found by sequence number modulo the ring. The master makes
it and clears the byte before it sends the event; the worker writes it before a callback's first and after its
last instruction. Whatever kills the worker, the file says what it had begun.
"""

from __future__ import annotations

import os
from pathlib import Path

from zwoole.shared.memory.mapping import mapped, reserve
from zwoole.shared.process.run_files import remove

WAITING = 0
STARTED = 1
FINISHED = 2

RING = 16384  # events; more than any window, so that closes and commands fit behind it


class ProgressMap:
    """One (worker incarnation, master incarnation) pair's map."""

    __slots__ = ("_mapping", "_marks", "_mask", "path")

    def __init__(self, path: Path, ring: int, create: bool = False) -> None:
        """Map the file at `path`.

        Args:
            path: the file.
            ring: number of events it has room for, a power of two.
            create: whether to make the file; else it must be there.

        Raises:
            OSError: it cannot be made or is not there.
            ValueError: the file that is there is shorter.
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
        """Write how far the event has come: WAITING, STARTED or FINISHED."""
        self._marks[sequence & self._mask] = progress  # type: ignore[index]

    def read(self, sequence: int) -> int:
        """Return how far the event has come."""
        return self._marks[sequence & self._mask]  # type: ignore[index]

    def close(self) -> None:
        """Unmap the file, whose descriptor the mapping keeps; nothing may be marked or read afterwards."""
        self._marks = None
        self._mapping.close()
