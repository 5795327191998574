"""The masking kernel: XOR with the client's key (RFC 6455 section 5.3), and the checks for ASCII and UTF-8.

One of the modules with a compiled and a pure body. Both bodies must give the same bytes; the tests compare them with a
reference of two lines. The compiled body processes eight bytes at a time. It loads and stores through memcpy, which
costs nothing and is allowed at any alignment.
"""

from __future__ import annotations

try:
    import cython
except ImportError:
    from zwoole.shared.uncompiled import cython  # type: ignore[assignment, no-redef, unused-ignore]


if cython.compiled:
    from cython.cimports.cpython.bytes import (  # type: ignore[import-not-found, unused-ignore]
        PyBytes_AS_STRING,
        PyBytes_FromStringAndSize,
    )
    from cython.cimports.libc.string import memcpy  # type: ignore[import-not-found, unused-ignore]

COMPILED: bool = cython.compiled


def unmask(source: bytearray, start: int, end: int, key: int, phase: int) -> bytes:
    """Return `source[start:end]` XORed with the masking key.

    Args:
        source: the buffer that the frame was read into; not changed.
        start: index of the first byte.
        end: index past the last byte.
        key: the four key bytes as one big-endian number.
        phase: number of bytes of this frame's payload before `start`, modulo 4.
    """
    if cython.compiled:
        if end == start:
            return b""
        pattern = cython.declare(cython.uchar[8])
        word = cython.declare(cython.ulonglong)
        chunk = cython.declare(cython.ulonglong)
        i = cython.declare(cython.Py_ssize_t)
        size = cython.declare(cython.Py_ssize_t, end - start)
        result = cython.declare(bytes, PyBytes_FromStringAndSize(cython.NULL, size))
        target = cython.cast(cython.p_uchar, PyBytes_AS_STRING(result))
        origin = cython.cast(cython.p_uchar, source) + start
        for i in range(4):
            pattern[i] = pattern[i + 4] = (key >> (24 - 8 * ((phase + i) & 3))) & 0xFF
        memcpy(cython.address(word), pattern, 8)
        i = 0
        while i + 8 <= size:
            memcpy(cython.address(chunk), origin + i, 8)
            chunk ^= word
            memcpy(target + i, cython.address(chunk), 8)
            i += 8
        while i < size:
            target[i] = origin[i] ^ pattern[i & 7]
            i += 1
        return result  # type: ignore[no-any-return, unused-ignore]
    size = end - start
    key_bytes = key.to_bytes(4, "big")
    pattern = (key_bytes[phase & 3 :] + key_bytes[: phase & 3]) * (size // 4 + 1)
    masked = int.from_bytes(source[start:end], "big") ^ int.from_bytes(pattern[:size], "big")
    return masked.to_bytes(size, "big")


def is_ascii(data: bytes) -> bool:
    """Return whether no byte of `data` has its top bit set. Such data is valid UTF-8 and needs no decoding."""
    if cython.compiled:
        origin = cython.cast(cython.p_uchar, PyBytes_AS_STRING(data))
        bits = cython.declare(cython.ulonglong, 0)
        chunk = cython.declare(cython.ulonglong)
        size = cython.declare(cython.Py_ssize_t, len(data))
        i = cython.declare(cython.Py_ssize_t, 0)
        top = cython.declare(cython.ulonglong, 0x80808080)
        top |= top << 32  # a 64-bit literal would be a Python object
        while i + 8 <= size:
            memcpy(cython.address(chunk), origin + i, 8)
            bits |= chunk
            i += 8
        while i < size:
            bits |= origin[i]
            i += 1
        return (bits & top) == 0  # type: ignore[no-any-return, unused-ignore]
    return data.isascii()


def is_utf8(data: bytes) -> bool:
    """Return whether `data` is UTF-8 as RFC 3629 defines it: no surrogates, no overlong forms, nothing above
    U+10FFFF.
    """
    if is_ascii(data):
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
