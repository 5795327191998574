"""The way in: from a readable socket to messages that the router accepts.

There is one read per connection and turn (the heartbeat may add one), into one buffer that all connections share. Its
contents are valid until the next read, so payloads are unmasked into bytes of their own before this module returns.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from logging import DEBUG

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.clients.limits import Limits
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import STAGE_CLOSING, STAGE_HANDSHAKE, STAGE_OPEN
from zwoole.reactor.core.loop import IN, OUT, Loop
from zwoole.reactor.routing.router import Router
from zwoole.shared.process.log import get_logger
from zwoole.shared.websocket.frames import OP_PONG, build_frame
from zwoole.shared.websocket.protocol import (
    CLOSED_BY_PEER,
    FAILED,
    HEADROOM,
    MESSAGE,
    NEED_DATA,
    PING,
    PONG,
    YIELD,
    Protocol,
)

READ_BYTES = 65536
NAMES = {PING: "ping", PONG: "pong", CLOSED_BY_PEER: "close", FAILED: "violation"}

log = get_logger("inbound")


class Inbound:
    """Reads connections.

    Attributes:
        messages: how many messages were accepted.
        bytes: the bytes of their payloads.
        buffer: the shared read buffer; its first HEADROOM bytes are left to the protocol.
    """

    def __init__(
        self,
        loop: Loop,
        router: Router,
        closing: Closing,
        limits: Limits,
        receive_head: Callable[[Connection, int], None],
    ) -> None:
        """Create with nothing read.

        Args:
            loop: the master's loop.
            router: accepts messages.
            closing: ends connections.
            limits: counts what clients send.
            receive_head: called with a connection in HANDSHAKE, and the number of bytes of its head that are in the
                buffer after HEADROOM.
        """
        self.messages = 0
        self.bytes = 0
        self._receive_head = receive_head
        self._debug = log.isEnabledFor(DEBUG)
        self.buffer = bytearray(HEADROOM + READ_BYTES)
        self._loop = loop
        self._router = router
        self._parking = router.parking
        self._closing = closing
        self._limits = limits

    def read(self, connection: Connection) -> None:
        """Read what has arrived on a connection, and process it."""
        if connection.rereading:  # after YIELD: what was read before comes first
            return
        if connection.unread:
            self.read_again(connection)
            return
        if connection.descriptor < 0:
            return
        if self._parking.is_full() and self._router.hold_back(connection):
            return
        count = connection.transport.read(connection.descriptor, self.buffer, HEADROOM)
        if count > 0:
            connection.heard = self._loop.now
            if self._limits.byte_rate and not self._limits.take_bytes(connection, count):
                return
            self._received(connection, count)
            if connection.transport.has_unread():
                self._loop.read_later(connection)
        elif count == 0:
            self._closing.end_of_stream(connection)
        elif -count not in (errno.EAGAIN, errno.EINTR):
            self._closing.broken(connection, -count)

    def process(self, connection: Connection, data: bytes) -> None:
        """Process bytes that were read earlier: behind the HTTP head, or before the connection had to wait."""
        end = HEADROOM + len(data)
        self.buffer[HEADROOM:end] = data
        self._received(connection, len(data))

    def read_again(self, connection: Connection) -> None:
        """Process what a connection has left unparsed or not inflated; discard it if the stage has no use for it."""
        data = self._parking.take_unread(connection)
        if connection.stage in (STAGE_OPEN, STAGE_CLOSING):
            self.process(connection, data)
        if connection.transport.has_unread() and not connection.unread and connection.interest & IN:
            self.read(connection)

    def _received(self, connection: Connection, count: int) -> None:
        stage = connection.stage
        protocol = connection.protocol
        if stage == STAGE_HANDSHAKE:
            self._receive_head(connection, count)
        elif protocol is not None and stage in (STAGE_OPEN, STAGE_CLOSING):
            protocol.receive_data(self.buffer, HEADROOM, HEADROOM + count)
            self._take_events(connection)

    def _take_events(self, connection: Connection) -> None:
        """Handle the events in the buffer, until it is used up or the connection must wait."""
        protocol = connection.protocol
        if protocol is None:
            return
        while True:
            event = protocol.next_event()
            if event == NEED_DATA:
                break
            if self._debug:
                log_event(connection, event)
            if event == MESSAGE:
                if connection.stage == STAGE_OPEN:
                    if self._limits.message_rate and not self._limits.take_message(connection):
                        break
                    self.messages += 1
                    self.bytes += len(protocol.data)
                    may_go_on = self._router.accept(connection, protocol.opcode, protocol.data)
                    if not may_go_on or connection.throttled:
                        self._parking.keep_unread(connection, protocol.take_rest())
                        self._router.stop_reading(connection)
                        break
            elif event in (PING, PONG):
                if not self._limits.take_control(connection):
                    break
                if event == PING and not protocol.close_sent:
                    self._answer_ping(connection, protocol.data)
            elif event == YIELD:
                self._parking.keep_unread(connection, protocol.take_rest())
                self._loop.read_next_turn(connection)
                break
            elif event == CLOSED_BY_PEER:
                self._closing.client_closed(connection)
                break
            elif event == FAILED:
                self._closing.violated(connection)
                break
        held = protocol.partial_bytes()
        if held != connection.partial:
            if self._debug and held:
                log.debug("fd %d: a message that is not complete yet, %d bytes so far", connection.fd, held)
            self._limits.hold(connection, held)

    def _answer_ping(self, connection: Connection, payload: bytes) -> None:
        """Queue a pong. If the client is slow to read, only its latest ping is answered (RFC 6455 section 5.5.3)."""
        pong = build_frame(OP_PONG, payload)
        if connection.interest & OUT:  # output of an earlier turn is still queued
            connection.late_pong = pong
        else:
            connection.output.queue(pong)
            self._loop.flush_later(connection)


def log_event(connection: Connection, event: int) -> None:
    """Log what a client's frames amount to: a complete message, a control frame, a violation with its close code."""
    protocol: Protocol = connection.protocol  # type: ignore[assignment]
    if event == MESSAGE:
        log.debug("fd %d: message, opcode %d, %d bytes", connection.fd, protocol.opcode, len(protocol.data))
    elif event in (CLOSED_BY_PEER, FAILED):
        log.debug("fd %d: %s, code %d %a", connection.fd, NAMES[event], protocol.close_code, protocol.close_reason)
    elif event in NAMES:
        log.debug("fd %d: %s, %d bytes", connection.fd, NAMES[event], len(protocol.data))
