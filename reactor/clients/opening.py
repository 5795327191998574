"""From an accepted socket to an open WebSocket: reads the HTTP head, decides whether the client may connect, replies.

handshake.py has the rules of the protocol, policy.py those of the settings. If the app has a `handshake` callback, a
worker decides after them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import partial
from logging import DEBUG

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
from zwoole.reactor.core.connection_life import Life
from zwoole.reactor.core.connection_stages import STAGE_HANDSHAKE, STAGE_OPEN
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.worker_link import WorkerLink
from zwoole.reactor.routing.router import Router
from zwoole.shared.answers import unpack_accept, unpack_refuse
from zwoole.shared.memory.connection_table import ESTABLISHED
from zwoole.shared.process.log import get_logger
from zwoole.shared.request import pack_request, path_only
from zwoole.shared.settings import Settings
from zwoole.shared.websocket.deflate import Agreement, Deflater, Inflater
from zwoole.shared.websocket.frames import FrameHeader
from zwoole.shared.websocket.protocol import HEADROOM, Protocol
from zwoole.shared.websocket.traced_protocol import TracedProtocol
from zwoole.shared.wire.batches import BatchReader
from zwoole.shared.wire.events import ACCEPT, REFUSE

log = get_logger("opening")


class Routes:
    """What a worker has said in its hello: the paths that the app serves, and whether it has a `handshake` callback.

    Attributes:
        callbacks: whether callbacks serve every path that no handler serves.
        handlers: the paths that coroutine handlers serve.
        asks: whether there is a `handshake` callback.
    """

    def __init__(self, callbacks: bool = False, handlers: Iterable[str] = (), asks: bool = False) -> None:
        self.callbacks = callbacks
        self.asks = asks
        self.handlers = frozenset(handlers)

    def serves(self, path: str) -> bool:
        """Tell whether a handler or the callbacks serve this path."""
        return self.callbacks or path in self.handlers


def log_refused(address: str, port: int, target: str, status: int, reason: str) -> None:
    """Log a refusal. Of the request target only the path is logged, since the query may contain secrets.

    The reasons are the server's own, which quote neither the query nor the value of a header, or the app's.
    """
    log.info("refused %s:%d: %d, %a (path %a)", address, port, status, reason, path_only(target))


def log_frame(fd: int, header: FrameHeader) -> None:
    """Log a frame that a client has sent."""
    compressed = ", compressed" if header.rsv1 else ""
    more = "" if header.fin else ", more fragments follow"
    log.debug("fd %d: frame, opcode %d, %d bytes%s%s", fd, header.opcode, header.length, compressed, more)


class Opening:
    """Takes connections through the handshake.

    Attributes:
        routes: what the app serves; replaced when a worker becomes active.
        opened: how many handshakes succeeded.
        compressed: how many of them agreed on compression.
        refused: how many clients were refused, by HTTP status.
    """

    __slots__ = (
        "_asked",
        "_closing",
        "_debug",
        "_framed",
        "_inbound",
        "_level",
        "_life",
        "_loop",
        "_max_fragments",
        "_max_head",
        "_max_message",
        "_policy",
        "_registry",
        "_router",
        "_timeouts",
        "compressed",
        "opened",
        "refused",
        "routes",
    )

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
        self.opened = 0
        self.compressed = 0
        self.refused: dict[int, int] = {}
        self._loop = loop
        self._registry = registry
        self._inbound = inbound
        self._router = router
        self._closing = closing
        self._life = life
        self._policy = Policy(settings)
        # By fd, while a worker decides: the upgrade, the subprotocol and the compression that the master has chosen.
        self._asked: dict[int, tuple[Upgrade, str | None, Agreement | None]] = {}
        self._debug = log.isEnabledFor(DEBUG)
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
        """Begin the handshake of a connection that was just accepted."""
        self._loop.join(connection)
        self._timeouts.start(connection.fd)

    def receive_head(self, connection: Connection, count: int) -> None:
        """Take the next `count` bytes of a connection's head from the read buffer, and answer when it is complete."""
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
            ValueError: a header of the answer is malformed, so it cannot be sent.
        """
        head = connection.head or b""
        asked = self._asked.get(connection.fd)
        answer = refusal(refused, asks_for_head_only(head))
        self._forget(connection)
        target = request_target(head) if asked is None else asked[0].target.decode("latin-1")
        self._note_refusal(connection.remote_addr, connection.remote_port, target, refused)
        connection.output.queue(answer)
        self._closing.refused(connection)

    def turn_away(self, descriptor: int, address: str, port: int, refused: Refused) -> None:
        """Refuse a client before it becomes a connection, whether its request has arrived or not, and close its socket.

        Args:
            descriptor: the socket.
            address: the client's address.
            port: the client's port.
            refused: the answer.
        """
        accepted = socket.socket(fileno=descriptor)
        head = b""
        try:
            head = accepted.recv(READ_BYTES)  # if it stayed unread, the kernel would send a reset after the answer
        except OSError:
            pass
        self._note_refusal(address, port, request_target(head), refused)
        try:
            accepted.send(refusal(refused, asks_for_head_only(head)))
            accepted.shutdown(socket.SHUT_WR)
            accepted.recv(READ_BYTES)
        except OSError:
            pass
        accepted.close()

    def _answered(self, _: WorkerLink, event: BatchReader) -> None:
        """Carry out a worker's decision on whether a client may connect, unless the client has left meanwhile."""
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
        except ValueError as error:  # the callback returned a malformed header, or a subprotocol that was not offered
            log.error("the answer of a 'handshake' callback cannot be sent: %s", error)
            self.refuse(connection, Refused(500, "the server could not decide"))

    def lost(self, connection: Connection) -> None:
        """Refuse a client whose handshake no worker will answer."""
        self.refuse(connection, Refused(503, "the server could not answer", (("Retry-After", "1"),)))

    def _note_refusal(self, address: str, port: int, target: str, refused: Refused) -> None:
        """Count a refusal, and call its observers."""
        self.refused[refused.status] = self.refused.get(refused.status, 0) + 1
        for observe in self._life.refused:
            observe(address, port, target, refused.status, refused.reason)

    def _open(self, connection: Connection, head: bytes, rest: bytes) -> None:
        """Handle a complete head: accept the upgrade or ask a worker, and process the bytes that came behind the head.

        Raises:
            Refused: the client may not connect.
        """
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
        """Accept an upgrade that a worker has accepted."""
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

    def new_protocol(self, connection: Connection, inflater: Inflater | None) -> Protocol:
        """Return the state of the protocol after a handshake; at log level debug, one that shows the frames.

        Args:
            connection: the connection.
            inflater: inflates the client's messages; None if permessage-deflate was not agreed on.
        """
        if self._debug:
            trace = partial(log_frame, connection.fd)
            return TracedProtocol(trace, self._max_message, self._max_fragments, inflater)
        return Protocol(self._max_message, self._max_fragments, inflater)

    def _switch(
        self,
        connection: Connection,
        upgrade: Upgrade,
        subprotocol: str | None,
        agreement: Agreement | None,
        response: bytes,
    ) -> None:
        """Answer 101: from now on both sides send frames, compressed as agreed."""
        self.opened += 1
        if upgrade.subprotocols and subprotocol is None:
            # The names that the server does not know are not logged: some pages send a secret token as a subprotocol.
            log.debug(
                "fd %d offers %d subprotocols, but none is agreed on (the server knows %a): browsers give up then",
                *(connection.fd, len(upgrade.subprotocols), self._policy.subprotocols),
            )
        connection.output.framed = self._framed
        inflater = None
        if agreement is not None:
            self.compressed += 1
            inflater = Inflater(agreement.client_bits, agreement.client_takeover)
            connection.deflater = Deflater(agreement.server_bits, agreement.server_takeover, self._level)
        connection.protocol = self.new_protocol(connection, inflater)
        connection.enter(STAGE_OPEN)
        connection.output.queue(response)
        self._loop.flush_later(connection)
        self._registry.table.set_state(connection.fd, ESTABLISHED)

    def _tell_opened(self, connection: Connection, upgrade: Upgrade) -> None:
        target = upgrade.target.decode("latin-1")
        if self._debug:
            log.debug("fd %d: open, from %s:%d", connection.fd, connection.remote_addr, connection.remote_port)
        for observe in self._life.opened:
            observe(connection, target)

    def _forget(self, connection: Connection) -> None:
        """Drop the state of a handshake that has ended."""
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
    """Return the value of Sec-WebSocket-Extensions in the response; None without an agreement."""
    return None if agreement is None else agreement.response
