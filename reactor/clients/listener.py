"""Accepts connections, within the limits for their number, their rate and the number from one address."""

from __future__ import annotations

import errno
import os
import socket
from functools import partial

from zwoole.reactor.clients.handshake import Refused
from zwoole.reactor.clients.limits import ROUNDING_S, over, taken
from zwoole.reactor.clients.opening import Opening
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.registry import Registry
from zwoole.shared.process.log import get_logger
from zwoole.shared.process.syscalls import accept

ACCEPTS_PER_TURN = 48  # with their handshakes in the next turn, less than 2 ms
NOTHING_NOW = (errno.EAGAIN, errno.EINTR, errno.ECONNABORTED)
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
PAUSE_S = 0.2  # how long accepting is paused if the rate is exceeded or no descriptor is left
RETRY_AFTER = (("Retry-After", "5"),)
NO_PLACE = Refused(503, "the server has reached its maximum number of connections", RETRY_AFTER)
TOO_MANY = Refused(429, "there are too many connections from your address", RETRY_AFTER)

log = get_logger("listener")


class Listener:
    """Accepts connections from listening sockets that the supervisor opened.

    Attributes:
        accepted: how many connections were accepted, refused ones included.
        rests: how often accepting was paused because of the rate.
    """

    __slots__ = (
        "_bucket",
        "_listening",
        "_loop",
        "_opening",
        "_pause",
        "_per_address",
        "_rate",
        "_registry",
        "_sockets",
        "_spare",
        "accepted",
        "rests",
    )

    def __init__(
        self,
        sockets: list[socket.socket],
        loop: Loop,
        registry: Registry,
        opening: Opening,
        accept_rate: int,
        per_address: int,
    ) -> None:
        """Prepare to accept.

        Args:
            sockets: listening sockets.
            loop: the master's loop.
            registry: all connections.
            opening: takes accepted connections through the handshake.
            accept_rate: connections per second; 0 for no limit.
            per_address: connections from one address; 0 for no limit.
        """
        self.accepted = 0
        self.rests = 0
        self._sockets = sockets
        self._loop = loop
        self._registry = registry
        self._opening = opening
        self._rate = accept_rate
        self._per_address = per_address
        self._bucket = 0.0  # when it will be full again, as in limits.py
        self._listening = False
        self._spare = _spare_descriptor()
        self._pause = loop.add_deadlines(PAUSE_S, lambda _: self.start())
        for listening in sockets:
            listening.setblocking(False)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it

    def start(self) -> None:
        """Begin to accept, or continue."""
        if not self._listening:
            self._listening = True
            for listening in self._sockets:
                self._loop.add_source(listening.fileno(), partial(self._accept, listening), last=True)

    def stop(self) -> None:
        """Stop accepting; the kernel queues new connections."""
        self._pause.stop(0)
        if self._listening:
            self._listening = False
            for listening in self._sockets:
                self._loop.remove_source(listening.fileno())

    def close(self) -> None:
        """Stop accepting and close the listening sockets."""
        self.stop()
        for listening in self._sockets:
            listening.close()
        self._sockets = []

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self._rate and over(self._bucket, self._loop.now) > -ROUNDING_S:
                self.rests += 1
                self._rest()
                return
            descriptor, address, port = accept(listening.fileno())
            if descriptor >= 0:
                self._welcome(descriptor, address, port)
                continue
            error = -descriptor
            if error in NOTHING_NOW:
                return
            if error in OUT_OF_DESCRIPTORS and self._drop_one(listening):
                continue
            log.warning("cannot accept connections: %s", os.strerror(error))
            self._rest()
            return

    def _welcome(self, descriptor: int, address: str, port: int) -> None:
        self.accepted += 1
        if self._rate:
            self._bucket = taken(self._bucket, 1 / self._rate, self._loop.now)
        if self._registry.full:
            self._opening.turn_away(descriptor, address, port, NO_PLACE)
        elif self._per_address and self._registry.count_from(address) >= self._per_address:
            self._opening.turn_away(descriptor, address, port, TOO_MANY)
        else:
            self._opening.begin(self._registry.add(descriptor, address, port))

    def _rest(self) -> None:
        """Pause accepting for PAUSE_S."""
        self.stop()
        self._pause.start(0)

    def _drop_one(self, listening: socket.socket) -> bool:
        """Accept one connection with the spare descriptor and close it, so that its client does not wait in vain.

        Returns:
            Whether a connection was closed.
        """
        if self._spare is None:
            self._spare = _spare_descriptor()
            return False
        os.close(self._spare)
        descriptor, _, _ = accept(listening.fileno())
        if descriptor >= 0:
            os.close(descriptor)
        self._spare = _spare_descriptor()
        return descriptor >= 0


def _spare_descriptor() -> int | None:
    try:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
