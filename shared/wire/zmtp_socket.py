"""A Unix stream socket that carries ZeroMQ messages between two loops, without a thread (zmtp.py has the protocol).

Nothing here blocks. What the kernel does not take waits in the socket; its owner watches the descriptor for writing as
long as the socket is `blocked`, and calls `flush`. How much may wait is bounded by the owners: by the windows of master
and worker.

The owner says when there may be something to read, by `readable`: epoll tells it. A read that returns less than there
was room for has emptied the kernel's queue, so the socket is not read once more only to learn that.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

from zwoole.shared.process.syscalls import read_into, send_buffers
from zwoole.shared.wire.zmtp import Zmtp, header

_CREDENTIALS = struct.Struct("iII")  # of SO_PEERCRED in unix(7): pid, uid, gid


class ZmtpSocket:
    """One end of a connection.

    Attributes:
        descriptor: the socket; -1 after `close`.
        ready: whether the peer has finished the handshake. Messages that are sent before wait here.
        readable: whether the kernel may have something to read; the owner sets it.
        ended: whether everything was read and nothing more can come: the peer has closed the connection.
        pending: whether the last `receive` returned a message, so that another one may lie in the buffer.
        blocked: whether the kernel has not taken everything; the owner calls `flush` when the socket has room.
    """

    __slots__ = (
        "_lost",
        "_offset",
        "_queue",
        "_zmtp",
        "blocked",
        "descriptor",
        "ended",
        "pending",
        "readable",
        "ready",
    )

    def __init__(self, descriptor: int) -> None:
        """Take over a connected socket that does not block, and greet the peer."""
        self.descriptor = descriptor
        self.ready = False
        self.readable = True
        self.ended = False
        self.pending = False
        self.blocked = False
        self._zmtp = Zmtp()
        self._lost = False  # whether nothing can be sent any more
        self._queue: list[bytes | bytearray] = []  # messages that wait for the handshake or for the kernel
        self._offset = 0  # bytes of its first item that have left
        self._reply()

    def receive(self) -> list[bytes] | None:
        """Return the parts of the next message; None if none has arrived whole.

        Raises:
            ZmtpError: the peer has broken the protocol.
        """
        zmtp = self._zmtp
        while True:
            parts = zmtp.next_message()
            if zmtp.replies:
                self._reply()
            if zmtp.ready and not self.ready:
                self.ready = True
                self.flush()
            self.pending = parts is not None
            if self.pending or not self.readable or self.ended:
                return parts
            self.read()

    def send(self, parts: list[bytes | bytearray]) -> None:
        """Send a message; what the kernel does not take waits for `flush`.

        Args:
            parts: its parts, at least one. They must not be changed afterwards.
        """
        if self._lost:
            return
        queue = self._queue
        left = len(parts)
        for part in parts:
            left -= 1
            queue.append(header(len(part), left > 0))
            queue.append(part)
        if not self.blocked:
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the kernel takes it; nothing before the handshake has finished."""
        queue = self._queue
        while queue and self.ready:
            count = send_buffers(self.descriptor, queue, self._offset)
            if count >= 0:
                self._forget(count)
            elif count == -errno.EAGAIN:
                break
            elif count != -errno.EINTR:
                self._lose_peer()
        self.blocked = self.ready and bool(queue)

    def close(self) -> None:
        """Close the socket. What the kernel has taken still reaches the peer; what waits here is dropped."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1
        self.ended = True
        self.blocked = False
        self._lose_peer()

    def read(self) -> None:
        """Read once into the buffer."""
        zmtp = self._zmtp
        zmtp.make_room()
        room = len(zmtp.buffer) - zmtp.end
        count = read_into(self.descriptor, zmtp.buffer, zmtp.end)
        if count > 0:
            zmtp.end += count
            self.readable = count == room
        elif count == -errno.EAGAIN:
            self.readable = False
        elif count != -errno.EINTR:
            self.ended = True

    def _reply(self) -> None:
        """Send what the handshake has asked for, at once; or what a ping has, behind all other output."""
        zmtp = self._zmtp
        replies = bytes(zmtp.replies)
        zmtp.replies.clear()
        if self.ready:
            self._queue.append(replies)
            if not self.blocked:
                self.flush()
        elif send_buffers(self.descriptor, [replies], 0) != len(replies):  # the kernel has room for the first bytes
            self._lose_peer()

    def _forget(self, count: int) -> None:
        """Remove from the queue what has left."""
        queue = self._queue
        count += self._offset
        sent = 0
        for part in queue:
            if count < len(part):
                break
            count -= len(part)
            sent += 1
        self._offset = count
        del queue[:sent]

    def _lose_peer(self) -> None:
        """Drop all output: the peer will not read it. What the peer has sent before may still be read."""
        self._lost = True
        self._queue.clear()
        self._offset = 0


def connect(path: Path) -> int:
    """Connect to a Unix socket of this user; return a descriptor that does not block, -1 if nothing listens there now.

    Raises:
        PermissionError: another user's process listens there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as unconnected:
        try:
            unconnected.connect(str(path))
        except OSError:
            return -1
        _, uid = peer_of(unconnected)
        if uid not in (0, os.geteuid()):
            raise PermissionError(f"the process that listens at {path} runs as user {uid}")
        return unconnected.detach()


def peer_of(connected: socket.socket) -> tuple[int, int]:
    """Return the process id and the user id that a connected Unix socket's peer had when it connected or listened."""
    size = _CREDENTIALS.size
    pid, uid, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, uid
