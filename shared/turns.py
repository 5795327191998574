"""The turn counter: one word in a file of the run directory, by which the supervisor sees that a process's loop turns.

The supervisor makes the file before it starts the process; the process counts in it, and a count of 0 means that it
has not come to serve yet. A process that sleeps in poll wakes every second to count, so a count that stands still is
a loop that hangs.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path


class TurnCounter:
    """One process's counter.

    Attributes:
        path: the file.
    """

    __slots__ = ("_mapping", "_words", "path")

    def __init__(self, path: Path, create: bool = False) -> None:
        """Map the file at `path`; `create` makes it.

        Raises:
            OSError: it cannot be made or is not there.
        """
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            if create:
                os.ftruncate(descriptor, 8)
            self._mapping = mmap.mmap(descriptor, 8)
            self._words: memoryview | None = memoryview(self._mapping).cast("Q")
        finally:
            os.close(descriptor)

    def tick(self) -> None:
        """Count one turn."""
        self._words[0] += 1  # type: ignore[index]

    def read(self) -> int:
        """Return how many turns there were."""
        return self._words[0]  # type: ignore[index]

    def remove(self) -> None:
        """Unmap and remove the file; nothing may be counted or read afterwards."""
        self._words = None
        self._mapping.close()
        self.path.unlink(missing_ok=True)
