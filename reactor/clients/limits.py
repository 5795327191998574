"""Limits for what clients send: messages, bytes and control frames per second, and memory for incomplete messages.

Each rate is a token bucket. It holds as much as one second allows, and is refilled at that rate. It is stored as one
number, the time at which it will be full: taking n moves this time n / rate into the future, and the bucket is empty
while this time is one second ahead or more.

A client that exceeds a rate is not read until its bucket has room again, or is closed with 1008, as `rate_limit_policy`
says. Too many control frames always close the connection, since they have no use. If incomplete messages take more than
`partial_total_bytes` on all connections together, the connection whose message grows is closed with 1013: the server
is short of memory, and the client may try again later.
"""

from __future__ import annotations

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_life import Life
from zwoole.reactor.core.connection_stages import STAGE_OPEN
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.routing.router import Router
from zwoole.shared.settings import Settings
from zwoole.shared.websocket.close_codes import CLOSE_POLICY_VIOLATION, CLOSE_TRY_AGAIN_LATER

ROUNDING_S = 1e-6  # the error that sums of fractions of a second may have


class Limits:
    """Counts what connections send, and pauses or closes those that send too much.

    Attributes:
        message_rate: messages per second; 0 for no limit, and then `take_message` must not be called.
        byte_rate: bytes per second; 0 for no limit, and then `take_bytes` must not be called.
        partial_bytes: bytes of incomplete messages on all connections.
        pauses: how often reading a connection was paused because of its rate.
        resumes: the timeouts after which paused connections are read again; None if there is no limit.
        enforced: how many connections were closed because of a limit, by its setting.
    """

    __slots__ = (
        "_closes",
        "_closing",
        "_control_rate",
        "_loop",
        "_partial_limit",
        "_registry",
        "_router",
        "byte_rate",
        "enforced",
        "message_rate",
        "partial_bytes",
        "pauses",
        "resumes",
    )

    def __init__(
        self, loop: Loop, registry: Registry, router: Router, closing: Closing, life: Life, settings: Settings
    ) -> None:
        self.message_rate: float = settings.rate_limit_messages
        self.byte_rate: float = settings.rate_limit_bytes
        self.partial_bytes = 0
        self.pauses = 0
        self.enforced: dict[str, int] = {}
        self._closes = settings.rate_limit_policy == "close"
        self._control_rate: float = settings.control_frames_per_second
        self._partial_limit = settings.partial_total_bytes
        self._loop = loop
        self._registry = registry
        self._router = router
        self._closing = closing
        life.dropped.append(self.forget)
        self.resumes = loop.add_wheel(self._resume) if self.message_rate or self.byte_rate else None

    def take_message(self, connection: Connection) -> bool:
        """Count a message; return whether to accept it: not if this closed the connection."""
        connection.message_bucket = taken(connection.message_bucket, 1.0 / self.message_rate, self._loop.now)
        return self._allow(connection, connection.message_bucket, "rate_limit_messages", "too many messages a second")

    def take_bytes(self, connection: Connection, count: int) -> bool:
        """Count bytes that were read; return whether to process them: not if this closed the connection."""
        if connection.stage != STAGE_OPEN:
            return True
        connection.byte_bucket = taken(connection.byte_bucket, count / self.byte_rate, self._loop.now)
        return self._allow(connection, connection.byte_bucket, "rate_limit_bytes", "too many bytes a second")

    def take_control(self, connection: Connection) -> bool:
        """Count a ping or pong; return whether to handle it: not if this closed the connection."""
        if self._control_rate == 0 or connection.stage != STAGE_OPEN:
            return True
        connection.control_bucket = taken(connection.control_bucket, 1.0 / self._control_rate, self._loop.now)
        if over(connection.control_bucket, self._loop.now) <= ROUNDING_S:
            return True
        reason = "too many pings and pongs a second"
        self.enforce(connection, "control_frames_per_second", CLOSE_POLICY_VIOLATION, reason)
        return False

    def hold(self, connection: Connection, size: int) -> None:
        """Note how many bytes of an incomplete message a connection holds; close it if all together hold too much."""
        self.partial_bytes += size - connection.partial
        connection.partial = size
        if self.partial_bytes > self._partial_limit:
            reason = "the server has no memory for your message now"
            self.enforce(connection, "partial_total_bytes", CLOSE_TRY_AGAIN_LATER, reason)

    def enforce(self, connection: Connection, setting: str, code: int, reason: str) -> None:
        """Close a connection because of a limit; its accepted messages are still finished.

        Args:
            connection: the connection.
            setting: the setting that has the limit; it is counted in `enforced`.
            code: the close code.
            reason: the close reason.
        """
        if connection.protocol is None:
            return
        self.enforced[setting] = self.enforced.get(setting, 0) + 1
        connection.protocol.give_up(code, reason)
        self.hold(connection, 0)
        self._closing.violated(connection)

    def forget(self, connection: Connection) -> None:
        """Forget a connection whose socket is closed."""
        self.hold(connection, 0)
        if connection.throttled and self.resumes is not None:
            self.resumes.stop(connection.fd)

    def _allow(self, connection: Connection, full_at: float, setting: str, reason: str) -> bool:
        """Pause a connection if its bucket is empty, or close it if its bucket is overdrawn, as the policy says."""
        too_much = over(full_at, self._loop.now)
        if self._closes and too_much > ROUNDING_S:
            self.enforce(connection, setting, CLOSE_POLICY_VIOLATION, reason)
            return False
        if not self._closes and too_much > -ROUNDING_S:
            self._pause(connection)
        return True

    def _pause(self, connection: Connection) -> None:
        """Stop reading a connection until its buckets have room."""
        if self.resumes is None:
            return
        if not connection.throttled:
            connection.throttled = True
            self.pauses += 1
        self._router.stop_reading(connection)
        full_at = max(connection.message_bucket, connection.byte_bucket)
        self.resumes.start(connection.fd, max(over(full_at, self._loop.now), 0.0))

    def _resume(self, fd: int) -> None:
        connection = self._registry.find(fd)
        if connection is not None:
            connection.throttled = False
            self._router.read_if_allowed(connection)


def taken(full_at: float, seconds: float, now: float) -> float:
    """Take from a bucket as much as it gains in `seconds`; return the new time at which it will be full.

    Args:
        full_at: the time at which the bucket will be full.
        seconds: how much to take.
        now: the present time.
    """
    return (full_at if full_at > now else now) + seconds


def over(full_at: float, now: float) -> float:
    """Return by how many seconds' worth a bucket is overdrawn; a negative number if it is not empty."""
    return full_at - now - 1.0
