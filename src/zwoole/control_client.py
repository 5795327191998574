"""Talking to a running server's supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zmq

from zwoole.shared import control
from zwoole.shared.errors import ZwooleError
from zwoole.shared.rundir import control_address

TIMEOUT_S = 5.0


class ControlFailed(ZwooleError):
    """A running server did not answer, answered with an error, or has not stopped in good order.

    Attributes:
        exit_code: what a command ends with by it; the server's, if that has ended with another code than 0.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def request(run_dir: Path, what: str, timeout_s: float = TIMEOUT_S, **fields: Any) -> Any:
    """Ask the supervisor for something and return its result; wait for it at most `timeout_s`.

    Raises:
        ControlFailed: it did not answer in time, or with an error.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        try:
            packed = control.pack("request", id=1, what=what, **fields)
        except (OverflowError, TypeError, ValueError) as error:
            raise ControlFailed(f"this cannot be sent to a server: {error}") from None
        if len(packed) > control.MAX_MESSAGE_BYTES:
            raise ControlFailed(f"{len(packed)} bytes are more than the control socket takes")
        dealer.connect(control_address(run_dir))
        dealer.send(packed)
        if not dealer.poll(int(timeout_s * 1000)):
            raise ControlFailed(f"the server in {run_dir} did not answer in {timeout_s:.0f} s")
        try:
            answer = control.unpack(dealer.recv())
        except control.ControlError as error:
            raise ControlFailed(f"the answer of the server in {run_dir} could not be understood: {error}") from None
    if "error" in answer:
        raise ControlFailed(str(answer["error"]))
    return answer["result"]
