"""The bytes of a client: its request head, and its frames, masked or broken on request. Also reads a server's frames.

Slow and simple: a reference for testing the codec.
"""

from __future__ import annotations

KEY = bytes.fromhex("37fa213d")  # the sample of RFC 6455 section 5.7

HEAD = (
    b"GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

BOUNDARY_SIZES = [0, 1, 125, 126, 127, 65535, 65536]


def masked(data: bytes, key: bytes, phase: int = 0) -> bytes:
    """Return `data` XORed with the key, as RFC 6455 section 5.3 describes it."""
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
        payload: the payload before masking.
        fin: whether it ends its message.
        reserved: the reserved bits, at their position in the first byte.
        key: the masking key; None leaves the frame unmasked.
        length: the announced length, if it differs from the payload's.
        length_bytes: bytes of length after the first seven bits (0, 2, 8); None takes the fewest.
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
    """Return the first byte and the payload of each frame in a server's stream, which must be complete and unmasked."""
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
