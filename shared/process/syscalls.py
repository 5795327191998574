"""Reads and writes a socket by its descriptor, without exceptions.

Errors are returned as negative errno: EAGAIN is a normal result, and an exception would cost more than the call.
SIGPIPE does no harm in a master, where Python ignores it; the app in a worker may not, so `send_buffers` prevents it.
Each function has a compiled and a pure body.
"""

from __future__ import annotations

import os
import socket

try:
    import cython
except ImportError:
    from zwoole.shared.uncompiled import cython  # type: ignore[assignment, no-redef, unused-ignore]


if cython.compiled:
    from cython.cimports.libc.errno import errno  # type: ignore[import-not-found, unused-ignore]
    from cython.cimports.posix.unistd import (  # type: ignore[import-not-found, unused-ignore]
        read as posix_read,
    )
    from cython.cimports.posix.unistd import (
        write as posix_write,
    )

MAX_BUFFERS = 64  # that leave in one call


def accept(descriptor: int) -> tuple[int, str, int]:
    """Accept a TCP connection from a listening socket, as a socket that does not block.

    Returns:
        Its descriptor, or a negative errno; and the client's address and port.
    """
    if cython.compiled:
        return _accept4(descriptor)  # type: ignore[name-defined, no-any-return, unused-ignore]  # noqa: F821
    borrowed = socket.socket(fileno=descriptor)
    try:
        accepted, address = borrowed.accept()
    except OSError as error:
        return -(error.errno or 1), "", 0
    finally:
        borrowed.detach()
    accepted.setblocking(False)
    return accepted.detach(), address[0], address[1]


def read_into(descriptor: int, buffer: bytearray, start: int) -> int:
    """Read what has arrived into `buffer[start:]`; return the number of bytes, 0 at the end, or a negative errno."""
    if cython.compiled:
        target = cython.cast(cython.p_uchar, buffer) + start
        count = posix_read(descriptor, target, len(buffer) - start)
        return -errno if count < 0 else count  # type: ignore[no-any-return, unused-ignore]
    try:
        return os.readv(descriptor, [memoryview(buffer)[start:]])
    except OSError as error:
        return -(error.errno or 1)


def write_from(descriptor: int, data: bytearray) -> int:
    """Write as much of `data` as the kernel takes; return the number of bytes, or a negative errno."""
    if cython.compiled:
        origin = cython.cast(cython.p_uchar, data)
        count = posix_write(descriptor, origin, len(data))
        return -errno if count < 0 else count  # type: ignore[no-any-return, unused-ignore]
    try:
        return os.write(descriptor, data)
    except OSError as error:
        return -(error.errno or 1)


def shut_down(descriptor: int) -> int:
    """Send FIN: nothing more will be sent. Return 0, or an errno."""
    if cython.compiled:
        return _shut_down(descriptor)  # type: ignore[name-defined, no-any-return, unused-ignore]  # noqa: F821
    borrowed = socket.socket(fileno=descriptor)
    try:
        borrowed.shutdown(socket.SHUT_WR)
    except OSError as error:
        return error.errno or 1
    finally:
        borrowed.detach()
    return 0


def send_buffers(descriptor: int, buffers: list[bytes | bytearray], offset: int) -> int:
    """Send as much of some buffers, one after the other, as the socket takes in one call: at most MAX_BUFFERS.

    Args:
        descriptor: the socket.
        buffers: the buffers, at least one.
        offset: how many bytes of the first one to leave out.

    Returns:
        The number of bytes, or a negative errno.
    """
    if cython.compiled:
        return _sendmsg(descriptor, buffers, offset)  # type: ignore[name-defined, no-any-return, unused-ignore]  # noqa: F821
    borrowed = socket.socket(fileno=descriptor)
    try:
        rest = [memoryview(buffers[0])[offset:], *buffers[1:MAX_BUFFERS]]
        return borrowed.sendmsg(rest, (), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError as error:
        return -(error.errno or 1)
    finally:
        borrowed.detach()
