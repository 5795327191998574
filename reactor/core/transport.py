"""The transport: how bytes come from a client's socket and go to it.

`Transport` is a socket as it is, TCP or Unix, and holds nothing, so that one object serves all connections. A transport
that encrypts is a subclass with an object for each connection; it overrides every method. Whatever it is, the socket
never blocks, epoll watches its descriptor, and a method that cannot go on now returns -EAGAIN.
"""

from __future__ import annotations

import errno
import os
import socket

from zwoole.reactor.core.syscalls import read_into, write_from


class Transport:
    """A client's socket as it is."""

    __slots__ = ()

    def read(self, descriptor: int, buffer: bytearray, start: int) -> int:
        """Read what has arrived into `buffer[start:]`.

        Returns:
            How many bytes, 0 if the client has ended its side, or a negative errno: -EAGAIN if nothing has arrived.
        """
        return read_into(descriptor, buffer, start)

    def has_unread(self) -> bool:
        """Tell whether bytes were taken from the socket that `read` has not returned: epoll does not tell of them."""
        return False

    def write(self, descriptor: int, data: bytearray) -> int:
        """Write as much of `data` as the kernel takes; return how many bytes, or a negative errno."""
        return write_from(descriptor, data)

    def write_all(self, descriptor: int, parts: list[bytes | bytearray | memoryview]) -> int:
        """Write as much of the parts, one behind the other, as the kernel takes; return as `write` does."""
        try:
            return os.writev(descriptor, parts)
        except OSError as error:
            return -(error.errno or errno.EIO)

    def half_close(self, descriptor: int) -> int:
        """Tell the client that nothing more will be sent; return 0, or an errno if it is gone already."""
        borrowed = socket.socket(fileno=descriptor)
        try:
            borrowed.shutdown(socket.SHUT_WR)
        except OSError as error:
            return error.errno or errno.EIO
        finally:
            borrowed.detach()
        return 0

    def close(self, descriptor: int) -> None:
        """Close the socket."""
        os.close(descriptor)


PLAIN = Transport()
