"""What the zwoole command asks of a master about its clients: to list them, to send them something, to close them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from zwoole.reactor.closing import Closing
from zwoole.reactor.connection import OPEN, Connection
from zwoole.reactor.outbound import Outbound
from zwoole.reactor.registry import Registry
from zwoole.shared.close_codes import MAX_REASON_BYTES, is_sendable
from zwoole.shared.control import MAX_LISTED
from zwoole.shared.frames import OP_BINARY, OP_TEXT
from zwoole.shared.request import unpack_request

MAX_PATH = 200

STAGES = ("handshake", "open", "ending", "closing", "lingering", "gone")


class Admin:
    """Answers the supervisor's queries."""

    def __init__(
        self, registry: Registry, closing: Closing, outbound: Outbound, status: Callable[[], dict[str, Any]]
    ) -> None:
        """Prepare; `status` returns the master's own report."""
        self._registry = registry
        self._closing = closing
        self._outbound = outbound
        self._status = status

    def answer(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a query, {"error": why} where there is none."""
        what = query["what"]
        try:
            if what == "status":
                return self._status()
            if what == "connections":
                return self._connections(int(query["limit"]))
            if what == "kick":
                return self._kick(query["fd"], query["code"], query["reason"])
            if what == "push":
                return self._push(query["fd"], query["data"])
            return {"error": f"this master knows no query {what!r}"}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": str(error)}

    def _meant(self, fd: int | None) -> list[Connection]:
        """Return the connection with that number, or all for None."""
        if fd is None:
            return list(self._registry)
        connection = self._registry.find(fd)
        return [] if connection is None else [connection]

    def _connections(self, limit: int) -> dict[str, Any]:
        """Return the oldest connections, so many at most, and how many there are."""
        found = sorted(self._registry, key=lambda connection: connection.fd)
        return {
            "total": len(found),
            "connections": [describe(connection) for connection in found[: min(limit, MAX_LISTED)]],
        }

    def _kick(self, fd: int | None, code: int, reason: str) -> dict[str, Any]:
        if not is_sendable(code):
            raise ValueError(f"{code} is no close code that may be sent: 1000, 1001, 1008, 1011, or 3000 to 4999")
        if len(reason.encode()) > MAX_REASON_BYTES:
            raise ValueError(f"a reason has at most {MAX_REASON_BYTES} bytes")
        open_ones = [connection for connection in self._meant(fd) if connection.stage == OPEN]
        for connection in open_ones:
            self._closing.server_close(connection, code, reason)
        return {"clients": len(open_ones)}

    def _push(self, fd: int | None, data: str | bytes) -> dict[str, Any]:
        opcode, payload = (OP_TEXT, data.encode()) if isinstance(data, str) else (OP_BINARY, data)
        return {"clients": sum(self._outbound.send(connection, opcode, payload) for connection in self._meant(fd))}


def describe(connection: Connection) -> dict[str, Any]:
    """Return what there is to say of a connection."""
    path = unpack_request(connection.fd, connection.record).path if connection.record else ""
    return {
        "fd": connection.fd,
        "address": f"{connection.remote_addr}:{connection.remote_port}",
        "path": path[:MAX_PATH],
        "age_s": round(time.monotonic() - connection.accepted_at, 1),
        "state": STAGES[connection.stage],
        "queued_bytes": connection.queued,
        "outstanding": connection.outstanding,
        "worker": None if connection.slot is None else connection.slot.index,
    }
