"""The turn counter: one word of shared memory, by which the supervisor sees that a process's loop turns.

The supervisor makes it before it starts the process, which inherits its descriptor; the process counts in it, and a
count of 0 means that it has not come to serve yet. A process that sleeps in poll wakes every second to count, so a
count that stands still is a loop that hangs.
"""

from __future__ import annotations

from zwoole.shared.memory.mapping import mapped

TURNS_BYTES = 8


class TurnCounter:
    """One process's counter."""

    __slots__ = ("_mapping", "_words")

    def __init__(self, descriptor: int) -> None:
        """Map the memory, whose `TURNS_BYTES` are reserved; its descriptor may be closed afterwards.

        Raises:
            OSError, ValueError: it cannot be mapped.
        """
        self._mapping = mapped(descriptor, TURNS_BYTES)
        self._words: memoryview | None = memoryview(self._mapping).cast("Q")

    def tick(self) -> None:
        """Count one turn."""
        self._words[0] += 1  # type: ignore[index]

    def read(self) -> int:
        """Return how many turns there were."""
        return self._words[0]  # type: ignore[index]

    def close(self) -> None:
        """Unmap the memory; nothing may be counted or read afterwards."""
        self._words = None
        self._mapping.close()
