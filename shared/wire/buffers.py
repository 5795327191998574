"""Appending a part of some bytes to a bytearray, bare or as a frame, without creating an object for that part.

One of the modules with a compiled and a pure body. Every message passes through it, in both directions.
"""

from __future__ import annotations

from zwoole.shared.websocket.frames import append_header

try:
    import cython
except ImportError:
    from zwoole.shared.uncompiled import cython  # type: ignore[assignment, no-redef, unused-ignore]


if cython.compiled:
    from cython.cimports.cpython.bytearray import (  # type: ignore[import-not-found, unused-ignore]
        PyByteArray_AS_STRING,
        PyByteArray_FromStringAndSize,
        PyByteArray_Resize,
    )
    from cython.cimports.cpython.bytes import (  # type: ignore[import-not-found, unused-ignore]
        PyBytes_AS_STRING,
        PyBytes_FromStringAndSize,
    )
    from cython.cimports.cpython.unicode import PyUnicode_AsUTF8  # type: ignore[import-not-found, unused-ignore]
    from cython.cimports.libc.string import memcpy  # type: ignore[import-not-found, unused-ignore]

_LENGTH_16 = 126  # the second byte of a frame whose length follows in 2 bytes (RFC 6455 section 5.2)
_HEAD = 2  # bytes of a header without and with those
_HEAD_16 = 4


def append_slice(out: bytearray, data: bytes, start: int, size: int) -> None:
    """Append `data[start:start + size]`, which must lie within `data`, to `out`."""
    if cython.compiled:
        before = cython.declare(cython.Py_ssize_t, len(out))
        PyByteArray_Resize(out, before + size)
        memcpy(PyByteArray_AS_STRING(out) + before, PyBytes_AS_STRING(data) + start, size)
        return
    out += data[start : start + size]


def is_ascii(text: str) -> bool:
    """Tell whether a text is ASCII: Python then keeps it as the bytes of its UTF-8."""
    if cython.compiled:
        return _is_ascii(text)  # type: ignore[name-defined, no-any-return, unused-ignore]  # noqa: F821
    return text.isascii()


def append_ascii(out: bytearray, text: str) -> None:
    """Append a text for which `is_ascii` holds, without an object for its bytes."""
    if cython.compiled:
        before = cython.declare(cython.Py_ssize_t, len(out))
        size = cython.declare(cython.Py_ssize_t, len(text))
        PyByteArray_Resize(out, before + size)
        memcpy(PyByteArray_AS_STRING(out) + before, PyUnicode_AsUTF8(text), size)
        return
    out += text.encode()


def copy_out(buffer: bytearray, start: int, size: int) -> bytes:
    """Return `buffer[start:start + size]`, which must lie within `buffer`, with one copy."""
    if cython.compiled:
        return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer) + start, size)  # type: ignore[no-any-return, unused-ignore]
    return bytes(memoryview(buffer)[start : start + size])


def append_frame(out: bytearray | None, first: int, data: bytes, start: int, size: int) -> bytearray:
    """Append an unmasked frame (RFC 6455 section 5.2) with the payload `data[start:start + size]`, which must lie
    within `data`.

    Args:
        out: the buffer to append to; None: a new one.
        first: the frame's first byte: FIN, reserved bits and opcode.
        data: bytes that contain the payload.
        start: index of the payload's first byte.
        size: payload length in bytes, below 65536.

    Returns:
        The buffer.
    """
    if cython.compiled:
        head = cython.declare(cython.Py_ssize_t, _HEAD if size < _LENGTH_16 else _HEAD_16)
        before = cython.declare(cython.Py_ssize_t, 0)
        if out is None:
            out = PyByteArray_FromStringAndSize(cython.NULL, head + size)
        else:
            before = len(out)
            PyByteArray_Resize(out, before + head + size)
        target = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(out)) + before
        target[0] = first
        if head == _HEAD:
            target[1] = size
        else:
            target[1] = _LENGTH_16
            target[2] = size >> 8
            target[3] = size & 0xFF
        memcpy(target + head, PyBytes_AS_STRING(data) + start, size)
        return out  # type: ignore[return-value, unused-ignore]
    if out is None:
        out = bytearray()
    append_header(out, first, size)
    out += data[start : start + size]
    return out
