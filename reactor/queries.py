"""Answers what the zwoole command asks of a master: its status, and to list, message or close its clients."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import NAMES, STAGE_OPEN
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.turn_slices import Slices
from zwoole.reactor.sending.outbound import Outbound
from zwoole.shared.process.control_messages import MAX_LISTED
from zwoole.shared.request import unpack_request
from zwoole.shared.websocket.close_codes import check_close
from zwoole.shared.websocket.frames import OP_BINARY, OP_TEXT

MAX_PATH = 200

Reply = Callable[[dict[str, Any]], None]


class Queries:
    """Answers the supervisor's queries."""

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        closing: Closing,
        outbound: Outbound,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        """Prepare.

        Args:
            loop: the master's loop.
            registry: all connections.
            closing: closes connections.
            outbound: sends messages.
            status: returns the status of the master.
        """
        self._loop = loop
        self._registry = registry
        self._closing = closing
        self._outbound = outbound
        self._status = status

    def answer(self, query: dict[str, Any], reply: Reply) -> None:
        """Answer a query.

        Args:
            query: the query: its kind is in `what`, and the other fields are its arguments.
            reply: called with the answer when all is done, which may be in a later turn; called with {"error": reason}
                if the query is unknown or its arguments are wrong.
        """
        what = query["what"]
        try:
            if what == "status":
                reply(self._status())
            elif what == "connections":
                self._connections(int(query["limit"]), reply)
            elif what == "kick":
                self._kick(query["fd"], query["code"], query["reason"], reply)
            elif what == "push":
                self._push(query["fd"], query["data"], reply)
            else:
                reply({"error": f"unknown query {what!r}"})
        except (KeyError, TypeError, ValueError) as error:
            reply({"error": str(error)})

    def _open_ones(self, fd: int | None) -> list[Connection]:
        """Return the open connection with this fd, if there is one; for None return all open connections."""
        meant = list(self._registry) if fd is None else [self._registry.find(fd)]
        return [connection for connection in meant if connection is not None and connection.stage == STAGE_OPEN]

    def _connections(self, limit: int, reply: Reply) -> None:
        """Reply with the oldest connections, at most `limit` of them, and with the number of all."""
        total = len(self._registry)
        oldest = list(itertools.islice(self._registry, min(limit, MAX_LISTED)))
        described: list[dict[str, Any]] = []
        Slices(
            self._loop,
            oldest,
            lambda connection: described.append(describe(connection)),
            lambda: reply({"total": total, "connections": described}),
        )

    def _kick(self, fd: int | None, code: int, reason: str, reply: Reply) -> None:
        check_close(code, reason)
        meant = self._open_ones(fd)
        clients = len(meant)
        Slices(
            self._loop,
            meant,
            lambda connection: self._closing.server_close(connection, code, reason),
            lambda: reply({"clients": clients}),
        )

    def _push(self, fd: int | None, data: str | bytes, reply: Reply) -> None:
        opcode, payload = (OP_TEXT, data.encode()) if isinstance(data, str) else (OP_BINARY, data)
        clients = 0

        def push(connection: Connection) -> None:
            nonlocal clients
            clients += self._outbound.send(connection, opcode, payload)

        Slices(self._loop, self._open_ones(fd), push, lambda: reply({"clients": clients}))


def describe(connection: Connection) -> dict[str, Any]:
    """Return the fields of a connection that `zwoole connections` shows."""
    path = unpack_request(connection.fd, connection.record).path if connection.record else ""
    return {
        "fd": connection.fd,
        "address": f"{connection.remote_addr}:{connection.remote_port}",
        "path": path[:MAX_PATH],
        "age_s": round(time.monotonic() - connection.accepted_at, 1),
        "state": NAMES[connection.stage],
        "queued_bytes": connection.output.queued,
        "outstanding": connection.outstanding,
        "worker": None if connection.worker is None else connection.worker.id,
    }
