"""The transport: reads and writes a client's socket.

`Transport` is a plain TCP or Unix socket. It has no state, so one object serves all connections. A transport that
encrypts is a subclass with one object per connection, and overrides every method. For every transport: the socket does
not block, epoll watches its descriptor, and a method that cannot continue now returns -EAGAIN.
"""

from __future__ import annotations

import errno
import os

from zwoole.shared.process.syscalls import read_into, shut_down, write_from


class Transport:
    """A plain socket."""

    __slots__ = ()

    def read(self, descriptor: int, buffer: bytearray, start: int) -> int:
        """Read what has arrived into `buffer[start:]`.

        Returns:
            The number of bytes; 0 if the client has sent FIN; or a negative errno, -EAGAIN if nothing has arrived.
        """
        return read_into(descriptor, buffer, start)

    def has_unread(self) -> bool:
        """Tell whether the transport has taken bytes from the socket that `read` has not returned yet.

        epoll does not report them, so the caller must read again.
        """
        return False

    def write(self, descriptor: int, data: bytearray) -> int:
        """Write as much of `data` as the kernel takes; return the number of bytes, or a negative errno."""
        return write_from(descriptor, data)

    def write_all(self, descriptor: int, parts: list[bytes | bytearray | memoryview]) -> int:
        """Write as much of the parts, one after the other, as the kernel takes; return as `write` does."""
        try:
            return os.writev(descriptor, parts)
        except OSError as error:
            return -(error.errno or errno.EIO)

    def half_close(self, descriptor: int) -> int:
        """Send FIN: nothing more will be sent. Return 0, or an errno if the client is gone already."""
        return shut_down(descriptor)

    def close(self, descriptor: int) -> None:
        """Close the socket."""
        os.close(descriptor)


PLAIN = Transport()
