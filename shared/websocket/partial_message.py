"""The parts of a message that has not arrived completely.

Large parts are kept as they are, and consecutive small ones are joined. A single growing buffer would be moved again
and again and would fragment memory.
"""

from __future__ import annotations

PIECE = 16384  # bytes from which a part is kept as it is
_PIECE = PIECE  # a C integer in the compiled module


class Pieces:
    """Parts of one message, in order.

    Attributes:
        size: their total size in bytes.
    """

    __slots__ = ("_growing", "_kept", "size")

    def __init__(self) -> None:
        self.size = 0
        self._kept: list[bytes | bytearray] | None = None
        self._growing: bytearray | None = None  # joined small parts after those in _kept

    def add(self, part: bytes) -> None:
        """Append a part."""
        size = len(part)
        self.size += size
        growing = self._growing
        if size < _PIECE:
            if growing is None:
                growing = self._growing = bytearray()
            growing += part
            if len(growing) < _PIECE:
                return
        if self._kept is None:
            self._kept = []
        if growing is not None:
            self._kept.append(growing)
            self._growing = None
        if size >= _PIECE:
            self._kept.append(part)

    def join(self) -> bytes:
        """Return the parts joined."""
        growing = self._growing
        end = b"" if growing is None else bytes(growing)
        return end if self._kept is None else b"".join([*self._kept, end])
