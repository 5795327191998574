"""The heartbeat: pings clients, and closes connections whose clients are dead or idle.

Every byte that arrives is a sign of life, and so is room in a kernel buffer that was full. The code that reads and
writes stores the time in `Connection.heard`, and does nothing else. All open connections are in one wheel, and each is
checked only when something may be due: once or twice in a `ping_interval`.

No client is closed because the server was busy. The clock leaves out the pauses of this process. A connection that is
not read (because its worker is behind, or it exceeds a rate) is neither pinged nor closed, and counts as heard when it
is read again. Before a connection is closed its socket is read, since the answer may be there.

A connection gets a ping every `ping_interval`. The first one comes after half an interval or more, at random, so that
clients that connected together are not pinged together. If a connection has output queued, no ping is sent: reading the
output is answer enough. So a client that does not read has at most one ping queued.
"""

from __future__ import annotations

import random

from zwoole.reactor.clients.inbound import Inbound
from zwoole.reactor.clients.limits import Limits
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_life import Life
from zwoole.reactor.core.connection_stages import STAGE_OPEN
from zwoole.reactor.core.loop import IN, Loop
from zwoole.reactor.core.registry import Registry
from zwoole.shared.websocket.close_codes import CLOSE_GOING_AWAY, CLOSE_INTERNAL_ERROR
from zwoole.shared.websocket.frames import OP_PING, build_frame

PING_FRAME = build_frame(OP_PING, b"")
ENDS = {  # close code and reason, by the setting whose time is up
    "ping_timeout": (CLOSE_INTERNAL_ERROR, "keepalive ping timeout"),
    "heartbeat_idle_time": (CLOSE_GOING_AWAY, "the client has sent nothing for too long"),
}
_NEVER = float("inf")


class Heartbeat:
    """Pings open connections, and closes dead or idle ones.

    Attributes:
        pings: how many pings were sent.
    """

    __slots__ = (
        "_idle",
        "_inbound",
        "_interval",
        "_limits",
        "_looks",
        "_loop",
        "_registry",
        "_timeout",
        "pings",
    )

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        inbound: Inbound,
        limits: Limits,
        life: Life,
        ping_interval: float,
        ping_timeout: float,
        idle_time: float,
    ) -> None:
        """Create without connections.

        Args:
            loop: the master's loop.
            registry: all connections.
            inbound: reads a socket before its connection is closed.
            limits: closes connections, and counts that by setting.
            life: reports which connections are opened and dropped.
            ping_interval: seconds between pings; 0 for no pings.
            ping_timeout: seconds that a client has to answer a ping; 0 for no limit.
            idle_time: seconds after which a connection is closed if its client sends nothing; 0 for never.
        """
        self.pings = 0
        self._interval = ping_interval or _NEVER
        self._timeout = ping_timeout or _NEVER
        self._idle = idle_time or _NEVER
        self._loop = loop
        self._registry = registry
        self._inbound = inbound
        self._limits = limits
        if min(self._interval, self._idle) < _NEVER:  # otherwise the loop need not look at a wheel in every turn
            self._looks = loop.add_wheel(self._look)
            life.opened.append(self.watch)
            life.dropped.append(self.forget)

    def watch(self, connection: Connection, _: str = "") -> None:
        """Begin to watch a connection that was just opened."""
        now = self._loop.clock.now
        connection.heard = now
        connection.pinged = now if self._interval == _NEVER else now - random.uniform(0, 0.5) * self._interval
        self._look_later(connection)

    def forget(self, connection: Connection) -> None:
        """Stop watching a connection whose socket is closed."""
        self._looks.stop(connection.fd)

    def _look(self, fd: int) -> None:
        """Do what is due for a connection: close it, or ping it and look again later."""
        connection = self._registry.find(fd)
        if connection is None or connection.stage != STAGE_OPEN:
            return
        if self._overdue(connection):
            self._inbound.read(connection)  # the answer may be in the socket
        setting = self._overdue(connection)
        if setting:
            self._limits.enforce(connection, setting, *ENDS[setting])
        elif connection.stage == STAGE_OPEN:
            if self._ping_due(connection):
                self._ping(connection)
            self._look_later(connection)

    def _overdue(self, connection: Connection) -> str:
        """Return the setting whose time is up for a connection, or ""."""
        now = self._loop.clock.now
        if not is_read(connection):
            return ""
        if connection.heard < connection.pinged and connection.pinged + self._timeout <= now:
            return "ping_timeout"
        return "heartbeat_idle_time" if connection.heard + self._idle <= now else ""

    def _ping_due(self, connection: Connection) -> bool:
        if not is_read(connection):
            return False
        answered = connection.heard >= connection.pinged or self._timeout == _NEVER
        return answered and connection.pinged + self._interval <= self._loop.clock.now

    def _ping(self, connection: Connection) -> None:
        connection.pinged = self._loop.clock.now
        if connection.output.queued == 0:
            connection.output.queue(PING_FRAME)
            self._loop.flush_later(connection)
            self.pings += 1

    def _look_later(self, connection: Connection) -> None:
        """Schedule the next look at a connection, for when the next thing may be due."""
        now = self._loop.clock.now
        if not is_read(connection):  # its times begin anew when it is read again
            self._looks.start(connection.fd, min(self._interval, self._timeout, self._idle))
            return
        due = _NEVER
        for end in (
            connection.pinged + self._interval,
            connection.heard + self._idle,
            connection.pinged + self._timeout if connection.heard < connection.pinged else _NEVER,
        ):
            if now < end < due:
                due = end
        self._looks.start(connection.fd, 0.0 if due == _NEVER else due - now)


def is_read(connection: Connection) -> bool:
    """Tell whether a connection is open and being read."""
    return connection.stage == STAGE_OPEN and connection.interest & IN != 0
