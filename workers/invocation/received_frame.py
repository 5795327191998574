"""What a `message` callback is given."""

from __future__ import annotations


class Frame:
    """One whole message of one connection.

    Attributes:
        fd: the connection's id.
        data: `str` for text, `bytes` for binary.
        opcode: OP_TEXT (1) or OP_BINARY (2).
    """

    __slots__ = ("data", "fd", "opcode")

    def __init__(self, fd: int, data: str | bytes, opcode: int) -> None:
        self.fd = fd
        self.data = data
        self.opcode = opcode

    def __repr__(self) -> str:
        return f"<Frame fd={self.fd} opcode={self.opcode} data={self.data!r:.80}>"


def frame_of(fd: int, data: str | bytes, opcode: int) -> Frame:
    """Return a frame as `Frame` does; compiled, without making Python objects of its numbers."""
    frame = Frame.__new__(Frame)
    frame.fd = fd
    frame.data = data
    frame.opcode = opcode
    return frame
