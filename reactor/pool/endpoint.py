"""The endpoint of a worker link: the listening Unix socket on which one worker process connects, once in its life.

The run directory belongs to this user alone. Within it the kernel says which process has connected (SO_PEERCRED), so
that a process that the app has started, or a worker of another incarnation, cannot take a worker's place.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import remove
from zwoole.shared.wire.zmtp_socket import peer_of

_BACKLOG = 8

log = get_logger("pool")


class Endpoint:
    """The listening socket.

    Attributes:
        descriptor: readable when a process connects; -1 once it is closed.
        path: the socket's file.
    """

    def __init__(self, path: Path) -> None:
        """Listen.

        Raises:
            OSError: the run directory does not allow it.
        """
        self.path = path
        self.descriptor = -1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(str(path))
        except OSError:
            self._socket.close()
            raise
        self._socket.listen(_BACKLOG)
        self.descriptor = self._socket.fileno()

    def accept(self, pid: int) -> int:
        """Accept a connection, and close it again if it is not of the expected process.

        Args:
            pid: the process that is to connect.

        Returns:
            The descriptor of the connection, which does not block; -1 if there is none of that process.

        Raises:
            OSError: no descriptor or memory is left now.
        """
        try:
            accepted, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):  # the process has gone again
            return -1
        peer, uid = peer_of(accepted)
        if peer != pid or uid not in (0, os.geteuid()):
            log.warning("a process (pid %d, user %d) has connected in place of pid %d: refused", peer, uid, pid)
            accepted.close()
            return -1
        accepted.setblocking(False)
        return accepted.detach()

    def close(self) -> None:
        """Listen no more, and remove the socket's file; may be called again."""
        self.descriptor = -1
        self._socket.close()
        remove(self.path)
