"""The parts of a message that has not arrived whole.

A large part is kept as the bytes it is, and small ones grow together: one buffer for all would be moved again and again
while it grows, and leave holes in memory behind it.
"""

from __future__ import annotations

PIECE = 16384  # bytes of a part that stays alone
_PIECE = PIECE  # a C integer in the compiled module


class Pieces:
    """Parts of one message, in order.

    Attributes:
        size: their bytes.
    """

    __slots__ = ("_growing", "_kept", "size")

    def __init__(self) -> None:
        self.size = 0
        self._kept: list[bytes | bytearray] | None = None
        self._growing: bytearray | None = None  # small parts behind those

    def add(self, part: bytes) -> None:
        """Add the next part."""
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
        """Return them as one."""
        growing = self._growing
        end = b"" if growing is None else bytes(growing)
        return end if self._kept is None else b"".join([*self._kept, end])
