"""What one client may send: messages, bytes and control frames a second, and the memory for messages not yet whole.

Each rate is a bucket that holds what a second allows and fills again at that rate. It is kept as one number, the time
at which it will be full: taking n from it moves that time on by n / rate, and it is empty while that time is a second
ahead or more.

A client over a rate is not read until its bucket has room, or is closed with 1008, as `rate_limit_policy` says. Too
many control frames always close, since there is no use for them. Over `partial_total_bytes` for all connections, the
one whose message would grow is closed with 1013: it may come again, the server's memory is what is short.
"""

from __future__ import annotations

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.life import Life
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.stages import STAGE_OPEN
from zwoole.reactor.routing.router import Router
from zwoole.shared.settings import Settings
from zwoole.shared.websocket.close_codes import CLOSE_POLICY_VIOLATION, CLOSE_TRY_AGAIN_LATER

ROUNDING_S = 1e-6  # what adding up fractions of a second may be off by


class Limits:
    """Counts what connections send, and acts where it is too much.

    Attributes:
        message_rate: messages a second, 0 where they are not limited; to be asked before `take_message`.
        byte_rate: bytes a second, 0 where they are not limited; to be asked before `take_bytes`.
        partial_bytes: bytes of messages that have not arrived whole, on all connections.
        pauses: how often a connection was not read for its rate.
        resumes: when those that are not read now will be again; None where no rate is limited.
        enforced: connections closed for a limit, by its setting.
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
        """Count a message; return whether it may be accepted, false where the connection was closed for it."""
        connection.message_bucket = taken(connection.message_bucket, 1.0 / self.message_rate, self._loop.now)
        return self._allow(connection, connection.message_bucket, "rate_limit_messages", "too many messages a second")

    def take_bytes(self, connection: Connection, count: int) -> bool:
        """Count bytes that were read; return whether to act on them, false where the connection was closed for them."""
        if connection.stage != STAGE_OPEN:
            return True
        connection.byte_bucket = taken(connection.byte_bucket, count / self.byte_rate, self._loop.now)
        return self._allow(connection, connection.byte_bucket, "rate_limit_bytes", "too many bytes a second")

    def take_control(self, connection: Connection) -> bool:
        """Count a ping or pong; return whether to act on it, false where the connection was closed for it."""
        if self._control_rate == 0 or connection.stage != STAGE_OPEN:
            return True
        connection.control_bucket = taken(connection.control_bucket, 1.0 / self._control_rate, self._loop.now)
        if over(connection.control_bucket, self._loop.now) <= ROUNDING_S:
            return True
        reason = "too many pings and pongs a second"
        self.enforce(connection, "control_frames_per_second", CLOSE_POLICY_VIOLATION, reason)
        return False

    def hold(self, connection: Connection, size: int) -> None:
        """Note how many bytes a connection holds of a message that is not whole."""
        self.partial_bytes += size - connection.partial
        connection.partial = size
        if self.partial_bytes > self._partial_limit:
            reason = "the server has no memory for your message now"
            self.enforce(connection, "partial_total_bytes", CLOSE_TRY_AGAIN_LATER, reason)

    def enforce(self, connection: Connection, setting: str, code: int, reason: str) -> None:
        """Close a connection for a limit, counted by its setting; what was accepted is still finished."""
        if connection.protocol is None:
            return
        self.enforced[setting] = self.enforced.get(setting, 0) + 1
        connection.protocol.give_up(code, reason)
        self.hold(connection, 0)
        self._closing.violated(connection)

    def forget(self, connection: Connection) -> None:
        """Let go of a connection whose socket is closed."""
        self.hold(connection, 0)
        if connection.throttled and self.resumes is not None:
            self.resumes.stop(connection.fd)

    def _allow(self, connection: Connection, full_at: float, setting: str, reason: str) -> bool:
        """Act on what a bucket says: an empty one has its connection paused, or one more than empty closed."""
        too_much = over(full_at, self._loop.now)
        if self._closes and too_much > ROUNDING_S:
            self.enforce(connection, setting, CLOSE_POLICY_VIOLATION, reason)
            return False
        if not self._closes and too_much > -ROUNDING_S:
            self._pause(connection)
        return True

    def _pause(self, connection: Connection) -> None:
        """Do not read a connection until all its buckets have room."""
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
    """Return a bucket, which will be full at `full_at`, after as much was taken from it as it gains in `seconds`."""
    return (full_at if full_at > now else now) + seconds


def over(full_at: float, now: float) -> float:
    """Return how many seconds' worth more was taken from a bucket than it held; below 0 it still holds some."""
    return full_at - now - 1.0
