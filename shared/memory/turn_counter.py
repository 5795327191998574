"""The turn counter: a word of shared memory by which the supervisor sees that a process's loop is turning.

The supervisor creates it before it starts the process, which inherits its descriptor and counts its turns in it. 0
means that the process does not serve yet. A process that sleeps in poll wakes every second to count, so a count that
stands still means that the loop hangs.
"""

from __future__ import annotations

from zwoole.shared.memory.mapping import mapped

TURNS_BYTES = 8


class TurnCounter:
    """The counter of one process."""

    __slots__ = ("_mapping", "_words")

    def __init__(self, descriptor: int) -> None:
        """Map the memory, of which `TURNS_BYTES` must be reserved. The descriptor may be closed afterwards.

        Raises:
            OSError, ValueError: the memory cannot be mapped.
        """
        self._mapping = mapped(descriptor, TURNS_BYTES)
        self._words: memoryview | None = memoryview(self._mapping).cast("Q")

    def tick(self) -> None:
        """Count one turn."""
        self._words[0] += 1  # type: ignore[index]

    def read(self) -> int:
        """Return the number of turns so far."""
        return self._words[0]  # type: ignore[index]

    def close(self) -> None:
        """Unmap the memory. `tick` and `read` must not be called afterwards."""
        self._words = None
        self._mapping.close()
