"""The way in: from a readable socket to messages in the router's hands.

One read per connection and turn, into one buffer that all connections share: what it holds is valid until the next
read, so payloads are copied out of it (unmasked, into bytes of their own) before this module returns.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from zwoole.reactor.closing import Closing
from zwoole.reactor.connection import CLOSING, HANDSHAKE, OPEN, Connection
from zwoole.reactor.loop import Loop
from zwoole.reactor.router import Router
from zwoole.reactor.syscalls import read_into
from zwoole.shared.frames import OP_PONG, build_frame
from zwoole.shared.protocol import CLOSED_BY_PEER, FAILED, HEADROOM, MESSAGE, NEED_DATA, PING

READ_BYTES = 65536


class Inbound:
    """Reads connections.

    Attributes:
        messages: messages accepted, in all.
        bytes: their payload bytes.
        on_head: called with a connection in HANDSHAKE and how many bytes of its head lie in the buffer behind
            HEADROOM; set by the builder.
        buffer: the shared read buffer.
    """

    def __init__(self, loop: Loop, router: Router, closing: Closing) -> None:
        self.messages = 0
        self.bytes = 0
        self.on_head: Callable[[Connection, int], None]
        self.buffer = bytearray(HEADROOM + READ_BYTES)
        self._loop = loop
        self._router = router
        self._closing = closing
        loop.on_readable = self.read

    def read(self, connection: Connection) -> None:
        """Read what a connection sent and act on it."""
        if connection.unread:
            self._read_again(connection)
            return
        if connection.descriptor < 0:
            return
        count = read_into(connection.descriptor, self.buffer, 136)
        if count > 0:
            self._received(connection, count)
        elif count == 0:
            self._closing.end_of_stream(connection)
        elif -count not in (errno.EAGAIN, errno.EINTR):
            self._closing.broken(connection, -count)

    def process(self, connection: Connection, data: bytes) -> None:
        """Act on bytes that were read earlier: what came behind the HTTP head, what a pause left over."""
        end = 136 + len(data)
        self.buffer[136:end] = data
        self._received(connection, len(data))

    def _read_again(self, connection: Connection) -> None:
        data = connection.unread
        connection.unread = b""
        if connection.stage in (OPEN, CLOSING):
            self.process(connection, data)

    def _received(self, connection: Connection, count: int) -> None:
        stage = connection.stage
        protocol = connection.protocol
        if stage == HANDSHAKE:
            self.on_head(connection, count)
        elif protocol is not None and stage in (OPEN, CLOSING):
            protocol.receive_data(self.buffer, 136, 136 + count)
            self._take_events(connection)

    def _take_events(self, connection: Connection) -> None:
        """Pull the events out of the buffer, until it is used up or the connection must wait."""
        protocol = connection.protocol
        if protocol is None:
            return
        while True:
            event = protocol.next_event()
            if event == NEED_DATA:
                return
            if event == MESSAGE:
                if connection.stage == OPEN:
                    self.messages += 1
                    self.bytes += len(protocol.data)
                    if not self._router.accept(connection, protocol.opcode, protocol.data):
                        connection.unread = protocol.take_rest()
                        self._router.stop_reading(connection)
                        return
            elif event == PING:
                if not protocol.close_sent:
                    connection.queue(build_frame(OP_PONG, protocol.data))
                    self._loop.flush_later(connection)
            elif event == CLOSED_BY_PEER:
                self._closing.client_closed(connection)
                return
            elif event == FAILED:
                self._closing.violated(connection)
                return
