"""Frames as a client sends them: masked, or broken on request. Slow and plain, to hold the codec against."""

from __future__ import annotations

KEY = bytes.fromhex("37fa213d")  # the sample of RFC 6455 section 5.7

BOUNDARY_SIZES = [0, 1, 125, 126, 127, 65535, 65536]


def masked(data: bytes, key: bytes, phase: int = 0) -> bytes:
    """Return `data` XORed with the key, as RFC 6455 section 5.3 words it."""
    return bytes(byte ^ key[(phase + i) % 4] for i, byte in enumerate(data))


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    key: bytes | None = KEY,
    length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """Return one frame.

    Args:
        opcode: its low four bits.
        payload: what it carries, not yet masked.
        fin: whether it ends its message.
        reserved: the reserved bits, where they stand in the first byte.
        key: the masking key; None leaves the frame unmasked.
        length: the length it announces, where that is not the payload's.
        length_bytes: how many bytes say so behind the first seven bits (0, 2, 8); None takes the fewest.
    """
    if length is None:
        length = len(payload)
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65536 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    head = bytes([fin << 7 | reserved | opcode, (key is not None) << 7 | short])
    if length_bytes:
        head += length.to_bytes(length_bytes, "big")
    return head + payload if key is None else head + key + masked(payload, key)
