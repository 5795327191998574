"""From an accepted socket to an open WebSocket: gathers the HTTP head, has it judged, answers it."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from zwoole.reactor.closing import Closing
from zwoole.reactor.connection import HANDSHAKE, OPEN, Connection
from zwoole.reactor.handshake import Refused, early_refusal, find_head_end, parse_upgrade, refusal, switching_protocols
from zwoole.reactor.inbound import Inbound
from zwoole.reactor.loop import Loop
from zwoole.reactor.registry import Registry
from zwoole.reactor.router import Router
from zwoole.shared.protocol import HEADROOM, Protocol
from zwoole.shared.request import pack_request
from zwoole.shared.settings import Settings
from zwoole.shared.table import ESTABLISHED


class Routes:
    """Which paths the app serves, as its workers said in their hello."""

    def __init__(self, callbacks: bool = False, handlers: Iterable[str] = ()) -> None:
        self.callbacks = callbacks
        self.handlers = frozenset(handlers)

    def serves(self, path: str) -> bool:
        """Tell whether a handler or the callbacks serve this path."""
        return self.callbacks or path in self.handlers


class Opening:
    """Takes connections through the handshake.

    Attributes:
        routes: what the app serves; set when a worker says hello.
        accepted: handshakes that succeeded.
        refused: handshakes that did not, by HTTP status.
    """

    def __init__(
        self, loop: Loop, registry: Registry, inbound: Inbound, router: Router, closing: Closing, settings: Settings
    ) -> None:
        self.routes = Routes()
        self.accepted = 0
        self.refused: dict[int, int] = {}
        self._loop = loop
        self._registry = registry
        self._inbound = inbound
        self._router = router
        self._closing = closing
        self._framed = settings.slow_reader == "drop_oldest"
        self._max_head = settings.http_head_max_length
        self._max_message = settings.package_max_length
        self._max_fragments = settings.max_fragments
        self._timeouts = loop.add_deadlines(settings.handshake_timeout, self._expired)
        inbound.on_head = self.receive_head

    def begin(self, connection: Connection) -> None:
        """Begin to read a connection that was just accepted."""
        self._loop.join(connection)
        self._timeouts.start(connection.fd)

    def receive_head(self, connection: Connection, count: int) -> None:
        """Take the next `count` bytes of a head out of the read buffer."""
        head = connection.head
        if head is None:
            head = connection.head = bytearray()
        searched = len(head)
        head += self._inbound.buffer[HEADROOM : HEADROOM + count]
        try:
            if searched == 0 and (refused := early_refusal(head)):
                raise refused
            end = find_head_end(head, searched)
            if max(end, 0 if end > 0 else len(head)) > self._max_head:
                raise Refused(431, f"the request's head is longer than {self._max_head} bytes")
            if end > 0:
                self._open(connection, bytes(head[:end]), bytes(head[end:]))
        except Refused as refused:
            self.refuse(connection, refused)

    def refuse(self, connection: Connection, refused: Refused) -> None:
        """Answer with an HTTP error and end the connection."""
        self._timeouts.stop(connection.fd)
        self.refused[refused.status] = self.refused.get(refused.status, 0) + 1
        connection.queue(refusal(refused))
        self._closing.refused(connection)

    def turn_away(self, accepted: socket.socket) -> None:
        """Answer a client that there is no place for, and let it go."""
        self.refused[503] = self.refused.get(503, 0) + 1
        refused = Refused(503, "the server has as many connections as it takes", (("Retry-After", "5"),))
        try:
            accepted.send(refusal(refused))
        except OSError:
            pass
        accepted.close()

    def _open(self, connection: Connection, head: bytes, rest: bytes) -> None:
        """Accept the upgrade: answer 101, tell the worker, go on with what came behind the head."""
        upgrade = parse_upgrade(head)
        if not self.routes.serves(upgrade.path):
            raise Refused(404, "nothing is served at this path")
        self._timeouts.stop(connection.fd)
        self.accepted += 1
        connection.head = None
        connection.handler = upgrade.path in self.routes.handlers
        connection.record = pack_request(
            upgrade.target, upgrade.headers, connection.remote_addr, connection.remote_port, None
        )
        connection.framed = self._framed
        connection.protocol = Protocol(self._max_message, self._max_fragments)
        connection.stage = OPEN
        connection.queue(switching_protocols(upgrade))
        self._loop.flush_later(connection)
        self._registry.table.set_state(connection.fd, ESTABLISHED)
        self._router.open(connection)
        if rest:
            self._inbound.process(connection, rest)

    def _expired(self, fd: int) -> None:
        connection = self._registry.find(fd)
        if connection is not None and connection.stage == HANDSHAKE:
            self.refuse(connection, Refused(408, "the request did not arrive in time"))
