"""From an accepted socket to an open WebSocket: gathers the HTTP head, has it judged, answers it."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.clients.handshake import (
    Refused,
    Upgrade,
    asks_for_head_only,
    early_refusal,
    find_head_end,
    parse_upgrade,
    refusal,
    request_target,
    switching_protocols,
)
from zwoole.reactor.clients.inbound import READ_BYTES, Inbound
from zwoole.reactor.clients.policy import Policy
from zwoole.reactor.core.commands import Commands
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.life import Life
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.stages import STAGE_HANDSHAKE, STAGE_OPEN
from zwoole.reactor.core.worker_link import WorkerLink
from zwoole.reactor.routing.router import Router
from zwoole.shared.answers import unpack_accept, unpack_refuse
from zwoole.shared.memory.connection_table import ESTABLISHED
from zwoole.shared.process.log import get_logger
from zwoole.shared.request import pack_request
from zwoole.shared.settings import Settings
from zwoole.shared.websocket.deflate import Agreement, Deflater, Inflater
from zwoole.shared.websocket.protocol import HEADROOM, Protocol
from zwoole.shared.wire.batches import BatchReader
from zwoole.shared.wire.events import ACCEPT, REFUSE

log = get_logger("opening")


class Routes:
    """Which paths the app serves, and whether it has a word in the handshake, as its workers said in their hello."""

    def __init__(self, callbacks: bool = False, handlers: Iterable[str] = (), asks: bool = False) -> None:
        self.callbacks = callbacks
        self.asks = asks
        self.handlers = frozenset(handlers)

    def serves(self, path: str) -> bool:
        """Tell whether a handler or the callbacks serve this path."""
        return self.callbacks or path in self.handlers


def log_refused(address: str, port: int, target: str, status: int, reason: str) -> None:
    """Log a refusal. Of what was asked for the log has the path only: a query may hold secrets."""
    log.info("refused %s:%d: %d, %a (path %a)", address, port, status, reason, target.partition("?")[0])


class Opening:
    """Takes connections through the handshake.

    Attributes:
        routes: what the app serves; set when a worker says hello.
        accepted: handshakes that succeeded.
        compressed: those of them that agreed on compression.
        refused: handshakes that did not, by HTTP status.
    """

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        inbound: Inbound,
        router: Router,
        closing: Closing,
        life: Life,
        commands: Commands,
        settings: Settings,
    ) -> None:
        self.routes = Routes()
        self.accepted = 0
        self.compressed = 0
        self.refused: dict[int, int] = {}
        self._loop = loop
        self._registry = registry
        self._inbound = inbound
        self._router = router
        self._closing = closing
        self._life = life
        self._policy = Policy(settings)
        # By fd whose worker is deciding: the upgrade, our subprotocol, and what was agreed on.
        self._asked: dict[int, tuple[Upgrade, str | None, Agreement | None]] = {}
        self._level = settings.compression_level
        self._framed = settings.slow_reader == "drop_oldest"
        self._max_head = settings.http_head_max_length
        self._max_message = settings.package_max_length
        self._max_fragments = settings.max_fragments
        self._timeouts = loop.add_deadlines(settings.handshake_timeout, self._expired)
        life.gone.append(self._forget)
        commands.register(ACCEPT, self._answered)
        commands.register(REFUSE, self._answered)

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
        """Answer with an HTTP error and end the connection.

        Raises:
            ValueError: the answer cannot be sent: a header of it is malformed.
        """
        head = connection.head or b""
        asked = self._asked.get(connection.fd)
        answer = refusal(refused, asks_for_head_only(head))
        self._forget(connection)
        target = request_target(head) if asked is None else asked[0].target.decode("latin-1")
        self._note_refusal(connection.remote_addr, connection.remote_port, target, refused)
        connection.output.queue(answer)
        self._closing.refused(connection)

    def turn_away(self, accepted: socket.socket, address: tuple[str, int], refused: Refused) -> None:
        """Answer a client that there is no place for, whether its request has come or not, and let it go."""
        head = b""
        try:
            head = accepted.recv(READ_BYTES)  # else the kernel would send a reset after the answer
        except OSError:
            pass
        self._note_refusal(*address[:2], request_target(head), refused)
        try:
            accepted.send(refusal(refused, asks_for_head_only(head)))
            accepted.shutdown(socket.SHUT_WR)
            accepted.recv(READ_BYTES)
        except OSError:
            pass
        accepted.close()

    def _answered(self, _: WorkerLink, event: BatchReader) -> None:
        """Take a worker's word on whether a client may connect, which may have left meanwhile."""
        fd, body = event.number, event.data()
        connection = self._registry.find(fd)
        if connection is None or fd not in self._asked:
            return
        try:
            if event.kind == ACCEPT:
                subprotocol, headers = unpack_accept(body)
                self._accept_asked(connection, subprotocol, headers)
            else:
                self.refuse(connection, Refused(*unpack_refuse(body)))
        except ValueError as error:  # what the callback gave is no header, or a subprotocol that was not offered
            log.error("the answer of a 'handshake' callback cannot be sent: %s", error)
            self.refuse(connection, Refused(500, "the server could not decide"))

    def lost(self, connection: Connection) -> None:
        """Nobody will answer a client that is still waiting for its handshake."""
        self.refuse(connection, Refused(503, "the server could not answer", (("Retry-After", "1"),)))

    def _note_refusal(self, address: str, port: int, target: str, refused: Refused) -> None:
        """Count a refusal, and tell of it."""
        self.refused[refused.status] = self.refused.get(refused.status, 0) + 1
        for observe in self._life.refused:
            observe(address, port, target, refused.status, refused.reason)

    def _open(self, connection: Connection, head: bytes, rest: bytes) -> None:
        """Judge a whole head: accept the upgrade, or ask a worker first, and go on with what came behind it."""
        upgrade = parse_upgrade(head)
        subprotocol = self._policy.judge(upgrade)
        if not self.routes.serves(upgrade.path):
            raise Refused(404, "nothing is served at this path")
        agreement = self._policy.agree(upgrade)
        connection.head = None
        connection.handler = upgrade.path in self.routes.handlers
        self._record(connection, upgrade, subprotocol)
        if self.routes.asks:
            self._asked[connection.fd] = (upgrade, subprotocol, agreement)
            self._router.parking.keep_unread(connection, rest)
            self._router.stop_reading(connection)
            self._router.ask(connection)
            return
        self._timeouts.stop(connection.fd)
        response = switching_protocols(upgrade, subprotocol, (), response_of(agreement))
        self._switch(connection, upgrade, subprotocol, agreement, response)
        self._router.open(connection)
        self._tell_opened(connection, upgrade)
        if rest:
            self._inbound.process(connection, rest)

    def _accept_asked(self, connection: Connection, subprotocol: str | None, headers: list[tuple[str, str]]) -> None:
        """Accept an upgrade that a worker was asked about."""
        upgrade, chosen, agreement = self._asked[connection.fd]
        subprotocol = chosen if subprotocol is None else subprotocol
        response = switching_protocols(upgrade, subprotocol, headers, response_of(agreement))
        self._timeouts.stop(connection.fd)
        del self._asked[connection.fd]
        self._record(connection, upgrade, subprotocol)
        self._switch(connection, upgrade, subprotocol, agreement, response)
        self._router.open_asked(connection)
        self._router.read_on(connection)
        self._tell_opened(connection, upgrade)

    def _record(self, connection: Connection, upgrade: Upgrade, subprotocol: str | None) -> None:
        connection.record = pack_request(
            upgrade.target, upgrade.headers, connection.remote_addr, connection.remote_port, subprotocol
        )

    def _switch(
        self,
        connection: Connection,
        upgrade: Upgrade,
        subprotocol: str | None,
        agreement: Agreement | None,
        response: bytes,
    ) -> None:
        """Answer 101: from here on the connection speaks frames, compressed as agreed."""
        self.accepted += 1
        if upgrade.subprotocols and subprotocol is None:
            names = upgrade.subprotocols
            log.debug("fd %d offers the subprotocols %a, and gets none: browsers give up then", connection.fd, names)
        connection.output.framed = self._framed
        inflater = None
        if agreement is not None:
            self.compressed += 1
            inflater = Inflater(agreement.client_bits, agreement.client_takeover)
            connection.deflater = Deflater(agreement.server_bits, agreement.server_takeover, self._level)
        connection.protocol = Protocol(self._max_message, self._max_fragments, inflater)
        connection.enter(STAGE_OPEN)
        connection.output.queue(response)
        self._loop.flush_later(connection)
        self._registry.table.set_state(connection.fd, ESTABLISHED)

    def _tell_opened(self, connection: Connection, upgrade: Upgrade) -> None:
        target = upgrade.target.decode("latin-1")
        for observe in self._life.opened:
            observe(connection, target)

    def _forget(self, connection: Connection) -> None:
        """Let go of what a handshake needs."""
        self._timeouts.stop(connection.fd)
        if self._asked.pop(connection.fd, None) is not None:
            self._router.abandon(connection)

    def _expired(self, fd: int) -> None:
        connection = self._registry.find(fd)
        if connection is None or connection.stage != STAGE_HANDSHAKE:
            return
        if fd in self._asked:
            self.lost(connection)
        else:
            self.refuse(connection, Refused(408, "the request did not arrive in time"))


def response_of(agreement: Agreement | None) -> str | None:
    """Return the extensions that a response names."""
    return None if agreement is None else agreement.response
