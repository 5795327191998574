"""The contents of a run's messages, and their frames.

``Content`` writes the frame of any message of one size and recognises its reply without parsing: it compares the reply
with the expected bytes. ``Contents`` chooses the size of each message from a mix.

Types come from content.pxd. Without a compiler the same source runs many times slower.
"""

# ruff: noqa: RET505 - a kernel needs if/else: after an early return, Cython calls the other body unreachable

import os
import random

from zwoole.bench.loadtest.plan import STAMP_BYTES, Sizes

try:
    import cython
except ImportError:
    from zwoole.shared.uncompiled import cython  # type: ignore[assignment, no-redef, unused-ignore]


if cython.compiled:
    from cython.cimports.libc.string import memcmp, memcpy

OP_TEXT = 0x1
OP_BINARY = 0x2
FIN = 0x80
MASKED = 0x80

_HEX = b"0123456789abcdef"
_STAMP_BYTES = STAMP_BYTES
_TEXT_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ,.-"
_FILLER_SHIFTS = 251  # a prime, so that fillers do not repeat in step with a power of two
_WORD = 0xFFFFFFFF  # typed in the .pxd: a literal would be a Python object
_SLOTS = 4093  # also a prime; the shares of a mix are accurate to 1/4093


# Kernels: the only functions with two bodies.


def same_bytes(left: bytearray, left_start: int, right: bytearray, right_start: int, count: int) -> bool:
    """Return whether ``count`` bytes are equal in both buffers."""
    if cython.compiled:
        left_bytes = cython.declare("unsigned char *", left)
        right_bytes = cython.declare("unsigned char *", right)
        difference: int = memcmp(left_bytes + left_start, right_bytes + right_start, count)
        return difference == 0
    else:
        return left[left_start : left_start + count] == right[right_start : right_start + count]


def mask_into(target: bytearray, at: int, source: bytearray, start: int, count: int, key: bytearray) -> None:
    """Write ``source[start:start + count]`` to ``target[at:]``, masked with the eight bytes of ``key`` in turn."""
    if cython.compiled:
        to = cython.declare("unsigned char *", target)
        of = cython.declare("unsigned char *", source)
        key_bytes = cython.declare("unsigned char *", key)
        key_word = cython.declare("unsigned long long")
        word = cython.declare("unsigned long long")
        done = cython.declare("Py_ssize_t", 0)
        memcpy(cython.address(key_word), key_bytes, 8)
        while done + 8 <= count:  # eight bytes per step; the C compiler makes it sixteen
            memcpy(cython.address(word), of + start + done, 8)
            word ^= key_word
            memcpy(to + at + done, cython.address(word), 8)
            done += 8
        while done < count:
            to[at + done] = of[start + done] ^ key_bytes[done & 7]
            done += 1
    else:
        plain = int.from_bytes(source[start : start + count], "little")
        repeated = int.from_bytes((key * (count // 8 + 1))[:count], "little")
        target[at : at + count] = (plain ^ repeated).to_bytes(count, "little")


def frame_header(first_byte: int, length: int, mask_bit: int) -> bytes:
    """Return a frame's header up to the masking key; ``first_byte`` is FIN, RSV and opcode."""
    if length < 126:
        return bytes((first_byte, mask_bit | length))
    if length < 1 << 16:
        return bytes((first_byte, mask_bit | 126)) + length.to_bytes(2, "big")
    return bytes((first_byte, mask_bit | 127)) + length.to_bytes(8, "big")


def masked_frame(first_byte: int, payload: bytes | bytearray) -> bytes:
    """Return a complete client frame."""
    key = os.urandom(4)
    masked = bytearray(len(payload))
    mask_into(masked, 0, bytearray(payload), 0, len(payload), bytearray(key * 2))
    return frame_header(first_byte, len(payload), MASKED) + key + masked


class Content:
    """The messages of one size: a stamp that is unique in the run, then filler.

    The filler is a part of one random text that starts at a different position for each message. So bytes of another
    message, or the right bytes at another position, never match. Messages shorter than the stamp contain its tail: they
    differ only from their neighbours (from 15 of them with one byte, from none with no bytes).
    """

    __slots__ = (
        "_filler",
        "_filler_bytes",
        "_header",
        "_key",
        "_key_state",
        "_reply_header",
        "_stamp",
        "_stamp_bytes",
        "frame_bytes",
        "reply_bytes",
        "reply_header_bytes",
        "size",
    )

    def __init__(self, size: int, binary: bool = False, seed: int = 1) -> None:
        chance = random.Random(seed)
        opcode = OP_BINARY if binary else OP_TEXT
        self.size = size
        self._stamp = bytearray(_STAMP_BYTES)
        self._stamp_bytes = min(size, _STAMP_BYTES)
        self._filler_bytes = size - self._stamp_bytes
        letters = range(256) if binary else _TEXT_LETTERS
        self._filler = bytearray(chance.choices(letters, k=self._filler_bytes + _FILLER_SHIFTS))
        self._key = bytearray(8)
        self._key_state = chance.randrange(1, 1 << 32)
        self._header = bytearray(frame_header(FIN | opcode, size, MASKED))
        self._reply_header = bytearray(frame_header(FIN | opcode, size, 0))
        self.reply_header_bytes = len(self._reply_header)
        self.reply_bytes = self.reply_header_bytes + size
        self.frame_bytes = len(self._header) + 4 + size

    def write_frame(self, target: bytearray, at: int, number: int, sequence: int) -> None:
        """Write the masked frame of one message to ``target[at:at + frame_bytes]``."""
        for index in range(self.reply_header_bytes):
            target[at + index] = self._header[index]
        at += self.reply_header_bytes
        self._next_key()
        for index in range(4):
            target[at + index] = self._key[index]
        self._write_masked(target, at + 4, number, sequence)

    def payload(self, number: int, sequence: int) -> bytearray:
        """Return the payload of that message."""
        target = bytearray(self.size)
        self._key[:] = bytes(8)
        self._write_masked(target, 0, number, sequence)
        return target

    def is_header(self, received: bytearray, at: int) -> bool:
        """Return whether the header of a correct reply is at ``received[at:]``."""
        return same_bytes(received, at, self._reply_header, 0, self.reply_header_bytes)

    def is_payload(self, received: bytearray, at: int, number: int, sequence: int) -> bool:
        """Return whether the payload of that message is at ``received[at:at + size]``."""
        self._write_stamp(number, sequence)
        return same_bytes(
            received, at, self._stamp, _STAMP_BYTES - self._stamp_bytes, self._stamp_bytes
        ) and same_bytes(
            received, at + self._stamp_bytes, self._filler, self._shift(number, sequence), self._filler_bytes
        )

    def _write_masked(self, target: bytearray, at: int, number: int, sequence: int) -> None:
        self._write_stamp(number, sequence)
        mask_into(target, at, self._stamp, _STAMP_BYTES - self._stamp_bytes, self._stamp_bytes, self._key)
        # The key's phase is 0 again after the 16 bytes of the stamp; a shorter stamp is not followed by filler.
        mask_into(
            target, at + self._stamp_bytes, self._filler, self._shift(number, sequence), self._filler_bytes, self._key
        )

    def _write_stamp(self, number: int, sequence: int) -> None:
        digits = (number << 40) | sequence
        for index in range(_STAMP_BYTES):
            self._stamp[index] = _HEX[(digits >> (60 - 4 * index)) & 15]

    def _shift(self, number: int, sequence: int) -> int:
        return (number * 31 + sequence) % _FILLER_SHIFTS

    def _next_key(self) -> None:
        # xorshift32: a few operations, and never 0, which would leave the frame unmasked
        state = self._key_state
        state ^= (state << 13) & _WORD
        state ^= state >> 17
        state ^= (state << 5) & _WORD
        self._key_state = state
        for index in range(8):
            self._key[index] = (state >> (8 * (index & 3))) & 255


class Contents:
    """The messages of a run, of one size or of several with the shares of a mix."""

    __slots__ = ("_by_slot", "_only", "_slots", "most_frame_bytes", "most_reply_bytes", "opcode", "sizes")

    def __init__(self, sizes: Sizes, binary: bool = False) -> None:
        chance = random.Random(1)
        total = sum(weight for _, weight in sizes)
        contents = [Content(size, binary) for size, _ in sizes]
        shares = [max(1, round(weight * _SLOTS / total)) for _, weight in sizes]
        by_slot = [content for content, share in zip(contents, shares, strict=True) for _ in range(share)]
        chance.shuffle(by_slot)
        self._by_slot = by_slot
        self._slots = len(by_slot)
        self._only = contents[0] if len(contents) == 1 else None
        self.opcode = OP_BINARY if binary else OP_TEXT
        self.sizes = frozenset(size for size, _ in sizes)
        self.most_frame_bytes = max(content.frame_bytes for content in contents)
        self.most_reply_bytes = max(content.reply_bytes for content in contents)

    def of(self, number: int, sequence: int) -> Content:
        """Return the content for message ``sequence`` of sender ``number``."""
        if self._only is not None:
            return self._only
        content: Content = self._by_slot[(number * 31 + sequence) % self._slots]
        return content
