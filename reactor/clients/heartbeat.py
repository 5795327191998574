"""Who is still there: pings that want an answer, and how long a client may say nothing.

Any byte that arrives is a sign of life, and so is the taking of bytes that the kernel had no room for. Whatever reads
and writes notes the time of it in `Connection.heard`, one store each time, and does nothing else: each open connection
stands in one wheel, and is looked at only when something may be due, once or twice in a `ping_interval`.

Nobody is closed for a pause of ours. The clock leaves out the pauses of this process; a connection that is not read
(its worker is behind, it is over a rate) is neither pinged nor judged, and counts as heard when it is read again; and
before it is judged its socket is read, where the answer may lie.

A connection gets a ping every `ping_interval`, the first one after half of it or more, at random, so that clients that
came together are not pinged together. Where something waits to be sent no ping is put behind it, since the taking of
that is answer enough: for a client that does not read there is never more than one ping waiting.
"""

from __future__ import annotations

import random

from zwoole.reactor.clients.inbound import Inbound
from zwoole.reactor.clients.limits import Limits
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.life import Life
from zwoole.reactor.core.loop import IN, Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.stages import STAGE_OPEN
from zwoole.shared.websocket.close_codes import CLOSE_GOING_AWAY, CLOSE_INTERNAL_ERROR
from zwoole.shared.websocket.frames import OP_PING, build_frame

PING_FRAME = build_frame(OP_PING, b"")
ENDS = {  # by the setting that ran out
    "ping_timeout": (CLOSE_INTERNAL_ERROR, "keepalive ping timeout"),
    "heartbeat_idle_time": (CLOSE_GOING_AWAY, "nothing was sent for too long"),
}
NEVER = float("inf")


class Heartbeat:
    """Pings open connections, and ends those that are dead or idle.

    Attributes:
        pings: how many were sent.
    """

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
        """Begin without connections; the times are in seconds, 0 for never."""
        self.pings = 0
        self._interval = ping_interval or NEVER
        self._timeout = ping_timeout or NEVER
        self._idle = idle_time or NEVER
        self._loop = loop
        self._registry = registry
        self._inbound = inbound
        self._limits = limits
        if min(self._interval, self._idle) < NEVER:  # else no turn is to look at a wheel
            self._looks = loop.add_wheel(self._look)
            life.opened.append(self.watch)
            life.dropped.append(self.forget)

    def watch(self, connection: Connection, _: str = "") -> None:
        """Begin to look after a connection that was just opened."""
        now = self._loop.clock.now
        connection.heard = now
        connection.pinged = now if self._interval == NEVER else now - random.uniform(0, 0.5) * self._interval
        self._look_later(connection)

    def forget(self, connection: Connection) -> None:
        """Let go of a connection whose socket is closed."""
        self._looks.stop(connection.fd)

    def _look(self, fd: int) -> None:
        """See what is due for a connection."""
        connection = self._registry.find(fd)
        if connection is None or connection.stage != STAGE_OPEN:
            return
        if self._overdue(connection):
            self._inbound.read(connection)  # an answer may lie there unread
        setting = self._overdue(connection)
        if setting:
            self._limits.enforce(connection, setting, *ENDS[setting])
        elif connection.stage == STAGE_OPEN:
            if self._ping_due(connection):
                self._ping(connection)
            self._look_later(connection)

    def _overdue(self, connection: Connection) -> str:
        """Return the setting that a connection is to be closed for, "" where it is not."""
        now = self._loop.clock.now
        if not is_read(connection):
            return ""
        if connection.heard < connection.pinged and connection.pinged + self._timeout <= now:
            return "ping_timeout"
        return "heartbeat_idle_time" if connection.heard + self._idle <= now else ""

    def _ping_due(self, connection: Connection) -> bool:
        if not is_read(connection):
            return False
        answered = connection.heard >= connection.pinged or self._timeout == NEVER
        return answered and connection.pinged + self._interval <= self._loop.clock.now

    def _ping(self, connection: Connection) -> None:
        connection.pinged = self._loop.clock.now
        if connection.output.queued == 0:
            connection.output.queue(PING_FRAME)
            self._loop.flush_later(connection)
            self.pings += 1

    def _look_later(self, connection: Connection) -> None:
        """Look again when the next thing may be due."""
        now = self._loop.clock.now
        if not is_read(connection):  # when it is read again, all begins anew
            self._looks.start(connection.fd, min(self._interval, self._timeout, self._idle))
            return
        due = [connection.pinged + self._interval, connection.heard + self._idle]
        if connection.heard < connection.pinged:
            due.append(connection.pinged + self._timeout)
        self._looks.start(connection.fd, min((time for time in due if time > now), default=now) - now)


def is_read(connection: Connection) -> bool:
    """Tell whether a connection is open, and what its client sends is read."""
    return connection.stage == STAGE_OPEN and connection.interest & IN != 0
