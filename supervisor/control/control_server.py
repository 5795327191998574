"""The messages that come to the control socket: reports of the server's processes, requests of the zwoole command.

Every message is checked before anything is done. A wrong message changes nothing: a request is answered with one error,
a report leaves one line in the log.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from zwoole.shared.process import control_messages
from zwoole.shared.process.log import get_logger
from zwoole.supervisor.control.control_socket import ControlSocket
from zwoole.supervisor.core.control_tables import BadRequest, Reports, Requests, check
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.processes import Processes

MESSAGES_PER_TURN = 100  # so that a flood does not keep the supervisor from its other work

log = get_logger("supervisor")


class ControlServer:
    """Checks each message and calls its handler."""

    def __init__(self, socket: ControlSocket, processes: Processes, requests: Requests, reports: Reports) -> None:
        """Prepare.

        Args:
            socket: where messages come in.
            processes: those whose reports count; all others may only send requests.
            requests: what may be requested, by name.
            reports: what processes may report, by name.
        """
        self._socket = socket
        self._processes = processes
        self._requests = requests
        self._reports = reports

    def handle_messages(self) -> None:
        """Act on the messages that have come; those beyond MESSAGES_PER_TURN wait for the next turn."""
        for _ in range(MESSAGES_PER_TURN):
            if not self._socket.waiting:
                return
            self.take(*self._socket.receive())

    def take(self, sender: bytes, data: bytes) -> None:
        """Act on one message.

        Args:
            sender: its sender's name on the socket.
            data: the message, as it came.
        """
        process = self._processes.find(sender)
        number: int | None = None
        try:
            message = control_messages.unpack(data)
            if process is not None:
                self._reported(process, message)
                return
            number = request_id(message)
            self._requested(partial(self._socket.tell, sender, "answer", id=number), message)
        except (control_messages.ControlError, BadRequest) as error:
            if process is not None:
                log.warning("a control message from %s is invalid: %s", process, error)
            else:
                self._socket.tell(sender, "answer", id=number, error=str(error))

    def _reported(self, process: Process, message: dict[str, Any]) -> None:
        kind = message.pop("type")
        if kind not in process.role.says:
            raise BadRequest(f"a {process.role.name} cannot say {kind[:40]!r}")
        report = self._reports[kind]
        check(kind, report.fields, message)
        report.act(process, **message)

    def _requested(self, answer: partial[None], message: dict[str, Any]) -> None:
        what = message.get("what")
        if not isinstance(what, str):
            raise BadRequest("a request without a name")
        if what not in self._requests:
            raise BadRequest(f"unknown request {what[:40]!r}")
        request = self._requests[what]
        fields = {name: value for name, value in message.items() if name not in ("type", "id", "what")}
        check(what, request.fields, fields)
        request.carry_out(answer, **fields)


def request_id(message: dict[str, Any]) -> int:
    """Return the number that a request's answer is to have.

    Raises:
        BadRequest: it has none, or the message is no request.
    """
    if message["type"] != "request":
        raise BadRequest(f"only a process of this server may say {message['type'][:40]!r}")
    number = message.get("id")
    if type(number) is not int:
        raise BadRequest("a request's id must be an integer")
    return number
