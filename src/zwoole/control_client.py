"""Sending a request to the supervisor of a running server."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, NoReturn

import zmq

from zwoole.shared.errors import ZwooleError
from zwoole.shared.process import control_messages
from zwoole.shared.process.run_files import control_address
from zwoole.supervisor.system.run_directory import End, exit_code

TIMEOUT_S = 5.0
LOOK_S = 0.05  # how often to check whether the server has ended


class ControlFailed(ZwooleError):
    """There is no such server, or it did not answer, answered with an error, or has not stopped gracefully.

    Attributes:
        exit_code: the exit code for a command that fails so: the server's, if it has ended with another than 0; else 1.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def request(run_dir: Path, what: str, timeout_s: float | None = None, **fields: Any) -> Any:
    """Send the supervisor a request, and return the result.

    Args:
        run_dir: the run directory of the server.
        what: the name of the request.
        timeout_s: how many seconds to wait for the answer; None for TIMEOUT_S.
        fields: the rest of the request.

    Raises:
        ControlFailed: there is no server; it ended before it answered, did not answer in time, or answered with an
            error.
    """
    timeout_s = TIMEOUT_S if timeout_s is None else timeout_s
    try:
        packed = control_messages.pack("request", id=1, what=what, **fields)
    except (OverflowError, TypeError, ValueError) as error:
        raise ControlFailed(f"this cannot be sent to a server: {error}") from None
    if len(packed) > control_messages.MAX_MESSAGE_BYTES:
        raise ControlFailed(f"{len(packed)} bytes are more than the control socket takes")
    with contextlib.closing(End(run_dir)) as end:
        if end.has_come():
            raise ControlFailed(f"no server is running in {run_dir}")
        try:
            data = _exchange(run_dir, packed, timeout_s, end)
        except UnicodeEncodeError:  # by the address: a link to the run directory may have any name
            raise ControlFailed(f"the run directory's path must be UTF-8, not {str(run_dir)!a}") from None
        except zmq.ZMQError as error:
            raise ControlFailed(f"the server in {run_dir} cannot be asked: {zmq.strerror(error.errno or 0)}") from None
    try:
        answer = control_messages.unpack(data)
    except control_messages.ControlError as error:
        raise ControlFailed(f"the answer of the server in {run_dir} could not be understood: {error}") from None
    if "error" in answer:
        raise ControlFailed(str(answer["error"]))
    if "result" not in answer:
        raise ControlFailed(f"the answer of the server in {run_dir} could not be understood: it has no result")
    return answer["result"]


def _exchange(run_dir: Path, packed: bytes, timeout_s: float, end: End) -> bytes:
    """Send a request and return the answer, unless the server ends."""
    deadline = time.monotonic() + timeout_s
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(control_address(run_dir))
        dealer.send(packed)
        while True:
            left_s = deadline - time.monotonic()
            has_ended = end.has_come()  # asked before the poll, so that an answer just before the end is not missed
            if dealer.poll(int(max(0.0, min(left_s, LOOK_S)) * 1000)):
                return dealer.recv()
            if has_ended:
                _fail_ended(run_dir, exit_code(end.code()))
            if left_s <= 0:
                raise ControlFailed(f"the server in {run_dir} did not answer in {timeout_s:.0f} s")


def _fail_ended(run_dir: Path, code: int | None) -> NoReturn:
    """Raise that a server has ended without an answer. Its exit code is None if it is unknown."""
    if not code:
        raise ControlFailed(f"the server in {run_dir} has ended before it answered")
    raise ControlFailed(
        f"the server in {run_dir} has ended before it answered, with exit code {code}; its log says why", code
    )
