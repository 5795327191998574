"""The access log: one line when a connection opens, one when it ends, and one for every client that is refused."""

from __future__ import annotations

import time

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_life import Life
from zwoole.shared.process.log import get_logger

log = get_logger("access")


class AccessLog:
    """Writes the access log; it observes the life of connections."""

    def __init__(self, life: Life) -> None:
        self._opened: dict[int, float] = {}
        life.opened.append(self.opened)
        life.refused.append(self.refused)
        life.gone.append(self.gone)

    def opened(self, connection: Connection, target: str) -> None:
        """Log that a handshake has succeeded, for the request target `target`."""
        self._opened[connection.fd] = time.monotonic()
        log.info("open fd=%d %s:%d %s", connection.fd, connection.remote_addr, connection.remote_port, target)

    def refused(self, address: str, port: int, target: str, status: int, reason: str) -> None:
        """Log that a client was refused, with this HTTP status and reason."""
        log.info("refuse %s:%d status=%d %a %a", address, port, status, target, reason)

    def gone(self, connection: Connection) -> None:
        """Log the end of a connection, if it was open before."""
        begun = self._opened.pop(connection.fd, None)
        if begun is None:
            return
        seconds = time.monotonic() - begun
        by, reason = connection.close_initiator, connection.close_reason
        log.info(
            "close fd=%d %s:%d code=%d by=%s after=%.1fs %s",
            *(connection.fd, connection.remote_addr, connection.remote_port, connection.close_code),
            *(by, seconds, reason),
        )
