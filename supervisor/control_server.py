"""The supervisor's end of the control socket: takes what its processes report and what the zwoole command asks for.

Every message is checked against the tables below before anything is done. What is not as they say changes nothing: a
request gets one error as its answer, a process's message one line in the log.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from zwoole.shared.ids import MAX_FD
from zwoole.shared.process import control_messages
from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import control_address
from zwoole.shared.settings import MAX_WORKERS
from zwoole.supervisor.process import Child
from zwoole.supervisor.processes import Crew
from zwoole.supervisor.queries import COMBINE, Queries
from zwoole.supervisor.shutdown import Stop
from zwoole.supervisor.status import Status

MESSAGES_PER_TURN = 100  # so that a flood does not keep the supervisor from its other work

log = get_logger("supervisor")


class BadRequest(Exception):
    """A message that cannot be acted on; the text says why."""


class Field(NamedTuple):
    """What one field of a message may be.

    Attributes:
        kinds: its types; `bool` counts as no number.
        low: the smallest number.
        high: the largest number.
        optional: whether it may be missing.
        called: what it is called in a message, "" for its name.
    """

    kinds: tuple[type, ...]
    low: float = 0
    high: float = 0
    optional: bool = False
    called: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raise BadRequest if the value is not what it may be."""
        name = self.called or name
        if type(value) not in self.kinds:
            names = " or ".join(kind.__name__.replace("NoneType", "None") for kind in self.kinds)
            raise BadRequest(f"{name} must be {names}, not {type(value).__name__}")
        if isinstance(value, int | float) and type(value) is not bool and not self.low <= value <= self.high:
            raise BadRequest(f"{name} must be from {self.low} to {self.high}, not {value}")


Fields = dict[str, Field]

NUMBER = Field((int,), 0, 1 << 62)
CLIENT = Field((int, type(None)), 1, MAX_FD)  # None: all

# What the zwoole command may ask for.
REQUESTS: dict[str, Fields] = {
    "status": {},
    "stop": {"drain": Field((int, float), 0, control_messages.LONGEST_DRAIN_S, optional=True)},
    "reload": {},
    "workers": {
        "to": Field((int,), 1, MAX_WORKERS, optional=True, called="the number of workers"),
        "by": Field((int,), -MAX_WORKERS, MAX_WORKERS, optional=True, called="the change of the number of workers"),
    },
    "connections": {"limit": Field((int,), 1, control_messages.MAX_LISTED)},
    "kick": {"fd": CLIENT, "code": Field((int,), 0, 65535), "reason": Field((str,))},
    "push": {"fd": CLIENT, "data": Field((str, bytes), called="a message")},
}

# What each of our processes may say.
REPORTS: dict[str, dict[str, Fields]] = {
    "master": {
        "hello": {"role": Field((str,))},
        "ready": {"incarnation": NUMBER},
        "served": {"incarnation": NUMBER},
        "kill": {"incarnation": NUMBER, "why": Field((str,))},
        "stopped": {},
        "answer": {"id": NUMBER, "result": Field((dict,))},
    },
    "worker": {
        "hello": {"role": Field((str,)), "debugged": Field((bool,)), "changed": Field((list,))},
        "recycle": {"reason": Field((str,)), "why": Field((str,))},
    },
}


class ControlServer:
    """The control socket of one server."""

    def __init__(self, run_dir: Path) -> None:
        """Make the socket; `bind` opens it, `serve` says who acts on what it brings."""
        self._run_dir = run_dir
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._crew: Crew
        self._stop: Stop
        self._queries: Queries
        self._status: Status

    def bind(self) -> None:
        """Listen in the run directory; again where the socket's file was removed, for those that come from now on.

        What is bound is not unbound then: that would cut the connections of our processes.

        Raises:
            OSError: no socket can be made there.
        """
        try:
            self._socket.bind(control_address(self._run_dir))
        except zmq.ZMQError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0)) from None

    def serve(self, crew: Crew, stop: Stop, queries: Queries, status: Status) -> None:
        """Act on messages with these parts from now on."""
        self._crew = crew
        self._stop = stop
        self._queries = queries
        self._status = status

    @property
    def descriptor(self) -> int:
        """The socket, for polling: it tells once, so ask `waiting` before each sleep."""
        return int(self._socket.getsockopt(zmq.FD))

    @property
    def waiting(self) -> bool:
        """Whether a message has come."""
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def tell(self, identity: bytes, kind: str, **fields: Any) -> None:
        """Send a message; a process or command that is gone does not get it."""
        self._socket.send_multipart([identity, control_messages.pack(kind, **fields)], zmq.DONTWAIT)

    def hear(self) -> None:
        """Act on the messages that have come; those beyond MESSAGES_PER_TURN wait for the next turn."""
        for _ in range(MESSAGES_PER_TURN):
            if not self.waiting:
                return
            parts = self._socket.recv_multipart(zmq.DONTWAIT)
            self.take(parts[0], parts[-1])

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        self._context.term()

    def take(self, sender: bytes, data: bytes) -> None:
        """Act on one message.

        Args:
            sender: its sender's name on the socket.
            data: the message, as it came.
        """
        child = next((child for child in list(self._crew.children.values()) if child.identity == sender), None)
        request: int | None = None
        try:
            message = control_messages.unpack(data)
            if child is not None:
                self._reported(child, message)
                return
            request = request_id(message)
            self._requested((sender, request), message)
        except (control_messages.ControlError, BadRequest) as error:
            if child is not None:
                log.warning("a control message of %s could not be understood: %s", child, error)
            else:
                self.tell(sender, "answer", id=request, error=str(error))

    def _reported(self, child: Child, message: dict[str, Any]) -> None:
        """Act on what one of our processes says."""
        kind = message["type"]
        reports = REPORTS[child.role]
        if kind not in reports:
            raise BadRequest(f"a {child.role} cannot say {kind[:40]!r}")
        check(kind, reports[kind], {name: value for name, value in message.items() if name != "type"})
        crew = self._crew
        if kind == "hello":
            crew.greeted_by(child, message.get("debugged", False))
            if child.role == "worker":
                changed = [text for text in message["changed"] if isinstance(text, str)]
                crew.file_settings.told(changed, starting=not crew.complete)
        elif kind == "ready":
            crew.worker_ready(message["incarnation"], child.incarnation)
        elif kind == "served":
            crew.worker_served(message["incarnation"])
        elif kind == "kill":
            crew.kill_asked(message["incarnation"], message["why"])
        elif kind == "recycle":
            crew.recycle_asked(child, message["reason"], message["why"])
        elif kind == "stopped":
            self._stop.master_stopped(child.incarnation)
        else:
            self._queries.answered(child.incarnation, message["id"], message["result"])

    def _requested(self, sender: tuple[bytes, int], message: dict[str, Any]) -> None:
        """Serve the zwoole command."""
        what = message.get("what")
        if not isinstance(what, str):
            raise BadRequest("a request without a name")
        if what not in REQUESTS:
            raise BadRequest(f"unknown request {what[:40]!r}")
        fields = {name: value for name, value in message.items() if name not in ("type", "id", "what")}
        check(what, REQUESTS[what], fields)
        if what == "status":
            self._queries.ask(sender, self._status.report, what=what)
        elif what in COMBINE:
            self._queries.ask(sender, COMBINE[what], what=what, **fields)
        elif what == "stop":
            self.tell(sender[0], "answer", id=sender[1], result={"pid": os.getpid()})
            self._stop.requested(float(fields.get("drain", 0.0)))
        elif what == "reload":
            self._crew.reload(sender)
        else:
            if ("to" in fields) == ("by" in fields):
                raise BadRequest("give a number of workers, or a change of it as `by`, not both")
            try:
                number = self._crew.scale(**fields)
            except ValueError as error:
                raise BadRequest(str(error)) from None
            self.tell(sender[0], "answer", id=sender[1], result={"worker_num": number})


def request_id(message: dict[str, Any]) -> int:
    """Return the number by which a request's answer is known.

    Raises:
        BadRequest: it has none, or is no request.
    """
    if message["type"] != "request":
        raise BadRequest(f"only a process of this server may say {message['type'][:40]!r}")
    number = message.get("id")
    if type(number) is not int:
        raise BadRequest("a request's id must be an integer")
    return number


def check(kind: str, fields: Fields, given: dict[str, Any]) -> None:
    """Check the fields of a message.

    Raises:
        BadRequest: one is missing, unknown, of another type, or out of bounds.
    """
    for name, value in given.items():
        if name not in fields:
            raise BadRequest(f"{kind!r} has no field {str(name)[:40]!r}")
        fields[name].check(name, value)
    for name, field in fields.items():
        if name not in given and not field.optional:
            raise BadRequest(f"{kind!r} needs a field {name!r}")
