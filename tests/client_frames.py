"""What a client sends: the head of its handshake, and frames, masked or broken on request; and frames as it reads them.

Slow and plain, to hold the codec against.
"""

from __future__ import annotations

KEY = bytes.fromhex("37fa213d")  # the sample of RFC 6455 section 5.7

HEAD = (
    b"GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

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


def server_frames(received: bytes) -> list[tuple[int, bytes]]:
    """Return the first byte and the payload of each frame in a server's stream, which must be whole and unmasked."""
    frames = []
    while received:
        assert received[0] & 0x80, "our server does not split messages"
        size, at = received[1], 2
        assert size < 0x80, "a server does not mask"
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(received[2:at], "big")
        assert len(received) >= at + size, "a frame that was cut off"
        frames.append((received[0], received[at : at + size]))
        received = received[at + size :]
    return frames
