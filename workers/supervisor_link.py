"""A worker's end of the control socket, which leads to the supervisor (shared/process/control_messages.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zmq

from zwoole.shared.process import control_messages
from zwoole.shared.process.run_files import control_address
from zwoole.shared.wire.zmq_flags import POLLIN


class SupervisorLink:
    """The control socket.

    Attributes:
        descriptor: ZeroMQ's descriptor, for polling. It reports only once what has arrived.
        readable: whether there may be a message: the descriptor has reported one, or something was sent, which can use
            up the report.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], run_dir: Path, incarnation: int) -> None:
        """Connect to the supervisor as this worker incarnation."""
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, f"worker-{incarnation}".encode())
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(control_address(run_dir))
        self.descriptor = int(self._socket.getsockopt(zmq.FD))
        self.readable = True

    def say_hello(self, debugged: bool, changed: list[str]) -> None:
        """Tell the supervisor that this worker runs.

        Args:
            debugged: whether a debugger is attached, so that the worker may stand still.
            changed: settings that differ from those that the supervisor has, in words.
        """
        self._socket.send(control_messages.pack("hello", role="worker", debugged=debugged, changed=changed))
        self.readable = True

    def ask_for_successor(self, reason: str, why: str) -> None:
        """Have the supervisor replace this worker; never blocks.

        Args:
            reason: why, as it is counted.
            why: the same in words.
        """
        self._socket.send(control_messages.pack("recycle", reason=reason, why=why), zmq.DONTWAIT)
        self.readable = True

    def receive(self) -> dict[str, Any] | None:
        """Take one message; None if there is none.

        Raises:
            ControlError: it is malformed.
        """
        if not self.readable:
            return None
        if not int(self._socket.getsockopt(zmq.EVENTS)) & POLLIN:
            self.readable = False
            return None
        return control_messages.unpack(self._socket.recv(zmq.DONTWAIT))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
