"""The supervisor's control socket, a ZeroMQ ROUTER in the run directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import zmq

from zwoole.shared.process import control_messages
from zwoole.shared.process.run_files import control_address
from zwoole.shared.wire.zmq_flags import POLLIN


class ControlSocket:
    """The control socket of one server."""

    def __init__(self, run_dir: Path) -> None:
        """Make the socket; `bind` opens it."""
        self._run_dir = run_dir
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)

    def bind(self) -> None:
        """Listen in the run directory; again if the socket's file was removed, for those that connect from now on.

        The old address is not unbound then: that would cut the connections of our processes.

        Raises:
            OSError: no socket can be made there.
        """
        try:
            self._socket.bind(control_address(self._run_dir))
        except zmq.ZMQError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0)) from None

    @property
    def descriptor(self) -> int:
        """The descriptor to poll. It becomes readable once for several messages, so ask `waiting` before each sleep."""
        return int(self._socket.getsockopt(zmq.FD))

    @property
    def waiting(self) -> bool:
        """Whether a message has come."""
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & POLLIN)

    def tell(self, identity: bytes, kind: str, **fields: Any) -> None:
        """Send a message; it is dropped if the process or command is gone."""
        self._socket.send_multipart([identity, control_messages.pack(kind, **fields)], zmq.DONTWAIT)

    def receive(self) -> tuple[bytes, bytes]:
        """Return a message that has come: its sender's name on the socket, and its bytes."""
        parts = self._socket.recv_multipart(zmq.DONTWAIT)
        return parts[0], parts[-1]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        self._context.term()
