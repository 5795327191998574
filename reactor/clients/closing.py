"""How a connection ends (RFC 6455 section 7).

Four ways in: the client's close frame, the client's violation, our own wish (`server_close`), a socket that broke.
One way out: the worker is told once, behind all that it was sent of this connection; the descriptor is closed once.

The stages are those of core/stages.py. A client's close frame, its violation or its FIN makes an open connection
ENDING, `server_close` makes it CLOSING; both end LINGERING.

In ENDING nothing more is read, and the replies to what was read still go out before our close frame. In LINGERING
we have said all: the socket is half-closed and read dry until the client goes, because closing it with bytes unread
would send a reset that can destroy our close frame on its way (section 7.1.1). CLOSING and LINGERING last
`close_timeout` each at most; then, and where the socket is broken, a connection is GONE at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.life import Life
from zwoole.reactor.core.loop import IN, Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.stages import (
    STAGE_CLOSING,
    STAGE_ENDING,
    STAGE_GONE,
    STAGE_HANDSHAKE,
    STAGE_LINGERING,
    STAGE_OPEN,
)
from zwoole.reactor.routing.router import Router
from zwoole.shared.memory.connection_table import CLOSING as TABLE_CLOSING
from zwoole.shared.process.log import get_logger
from zwoole.shared.websocket.close_codes import CLOSE_ABNORMAL, CLOSE_NO_STATUS, CLOSE_TRY_AGAIN_LATER

log = get_logger("closing")

ENDING_S = 3.0  # a client that said goodbye waits for the rest of its answers no longer than this

CLIENT = "client"
SERVER = "server"


class Closing:
    """Brings connections to their end.

    Attributes:
        closed: connections that are gone, by close code.
    """

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        router: Router,
        life: Life,
        close_timeout: float,
        refuse_unanswered: Callable[[Connection], None],
    ) -> None:
        """Begin without connections.

        Args:
            loop: the master's loop.
            registry: all connections.
            router: tells workers.
            life: is told of sockets that are closed and of connections that are gone.
            close_timeout: seconds that a client has to answer our close frame, and then to go.
            refuse_unanswered: called with a connection that is to be closed while its handshake is not answered.
        """
        self.closed: dict[int, int] = {}
        self._loop = loop
        self._registry = registry
        self._router = router
        self._life = life
        self._refuse_unanswered = refuse_unanswered
        self._ending = loop.add_deadlines(ENDING_S, self._ending_expired)
        self._closing = loop.add_deadlines(close_timeout, self._closing_expired)

    # Ways in.

    def client_closed(self, connection: Connection) -> None:
        """The client's close frame arrived."""
        protocol = connection.protocol
        if protocol is None:
            return
        if connection.stage == STAGE_CLOSING:
            self._tell_worker(connection)
            self._linger(connection)
            return
        self._begin_ending(connection, protocol.close_code, protocol.close_reason, CLIENT)

    def violated(self, connection: Connection) -> None:
        """The client broke the protocol."""
        protocol = connection.protocol
        if protocol is None:
            return
        if connection.stage == STAGE_CLOSING:  # our close frame is out already
            self._tell_worker(connection)
            self._linger(connection)
            return
        self._begin_ending(connection, protocol.close_code, protocol.close_reason, SERVER)

    def end_of_stream(self, connection: Connection) -> None:
        """The client sent FIN: without a close frame before it, that is 1006."""
        connection.eof = True
        if connection.stage == STAGE_OPEN:
            self._begin_ending(connection, CLOSE_ABNORMAL, "", CLIENT)
        elif connection.stage == STAGE_HANDSHAKE or (
            connection.stage == STAGE_LINGERING and connection.output.queued + connection.output.pending == 0
        ):
            self._destroy(connection)
        else:  # it may have closed one direction only: what is queued still goes out
            self._loop.listen(connection, connection.interest & ~IN)
            if connection.stage == STAGE_CLOSING:
                self._tell_worker(connection)
                self._linger(connection)

    def broken(self, connection: Connection, error: int) -> None:
        """The socket failed: nothing can be sent any more; what was accepted is still finished."""
        self._drop_socket(connection)
        if connection.stage == STAGE_OPEN:
            self._begin_ending(connection, CLOSE_ABNORMAL, os.strerror(error) if error else "", CLIENT)
        elif connection.stage != STAGE_ENDING:
            self._tell_worker(connection)
            self._destroy(connection)

    def server_close(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection from our side; messages of it that have not gone down are dropped."""
        if connection.stage == STAGE_HANDSHAKE:
            self._refuse_unanswered(connection)
        if (
            connection.stage == STAGE_ENDING
        ):  # the client was first, with its code; but no callback is to hear more of it
            self._router.discard_parked(connection)
            if self._router.is_idle(connection):
                self.finish_ending(connection)
        if connection.stage != STAGE_OPEN or connection.protocol is None:
            return
        self._note_end(connection, code, reason, SERVER)
        self._router.discard_parked(connection)
        connection.output.queue_behind(connection.protocol.close_frame(code, reason))
        connection.enter(STAGE_CLOSING)
        self._registry.table.set_state(connection.fd, TABLE_CLOSING)
        self._loop.flush_later(connection)
        self._router.read_on(connection)
        self._closing.start(connection.fd)

    def too_slow(self, connection: Connection) -> None:
        """A client that does not read what it is sent has reached its limit."""
        if connection.stage == STAGE_ENDING:  # a gap in its answers would be worse than their end
            self.finish_ending(connection)
        self.server_close(connection, CLOSE_TRY_AGAIN_LATER, "too much is waiting to be sent to you")

    def force(self, connection: Connection) -> None:
        """Close a connection at once, whatever its client does."""
        if connection.close_code == 0:
            self._note_end(connection, CLOSE_ABNORMAL, "", SERVER)
        self.cut(connection)

    def cut(self, connection: Connection) -> None:
        """Let go of a connection that is closing already, without waiting for its client."""
        self._tell_worker(connection)
        self._destroy(connection)

    def refused(self, connection: Connection) -> None:
        """An HTTP response that ends the connection is queued; nothing more is expected of the client."""
        connection.head = None
        connection.enter(STAGE_LINGERING)
        self._loop.flush_later(connection)
        self._closing.start(connection.fd)

    # The way out.

    def finish_ending(self, connection: Connection) -> None:
        """All that was accepted is finished: send our close frame and go."""
        self._ending.stop(connection.fd)
        if connection.close_code != CLOSE_ABNORMAL and connection.protocol is not None:
            code = 0 if connection.close_code == CLOSE_NO_STATUS else connection.close_code
            connection.output.queue_behind(connection.protocol.close_frame(code, connection.close_reason))
        self._tell_worker(connection)
        self._linger(connection)

    def flushed(self, connection: Connection) -> None:
        """All that was queued is sent."""
        if connection.stage != STAGE_LINGERING:
            return
        if connection.eof:
            self._destroy(connection)
        else:
            self._half_close(connection)

    def _begin_ending(self, connection: Connection, code: int, reason: str, initiator: str) -> None:
        self._note_end(connection, code, reason, initiator)
        connection.enter(STAGE_ENDING)
        self._loop.listen(connection, connection.interest & ~IN)
        if self._router.is_idle(connection):
            self.finish_ending(connection)
        else:
            self._ending.start(connection.fd)

    def _note_end(self, connection: Connection, code: int, reason: str, initiator: str) -> None:
        connection.close_code = code
        connection.close_reason = reason
        connection.close_initiator = initiator
        log.debug("fd %d: ends, code %d %a by the %s", connection.fd, code, reason, initiator)
        self.closed[code] = self.closed.get(code, 0) + 1

    def _tell_worker(self, connection: Connection) -> None:
        """Tell the worker, once, of a connection that it was told of."""
        if connection.worker is not None and not connection.closed_down and connection.stage != STAGE_HANDSHAKE:
            self._router.close(connection)

    def _linger(self, connection: Connection) -> None:
        """Send what is left, half-close, and wait for the client to go."""
        if connection.descriptor < 0:
            self._destroy(connection)
            return
        connection.enter(STAGE_LINGERING)
        self._registry.table.set_state(connection.fd, TABLE_CLOSING)
        self._closing.start(connection.fd)
        self._loop.flush_later(connection)

    def _half_close(self, connection: Connection) -> None:
        if not connection.half_closed:
            connection.half_closed = True
            if connection.transport.half_close(connection.descriptor) != 0:
                self._destroy(connection)
                return
        self._loop.listen(connection, IN)

    def _ending_expired(self, fd: int) -> None:
        connection = self._registry.find(fd)
        if connection is not None:
            self.finish_ending(connection)

    def _closing_expired(self, fd: int) -> None:
        connection = self._registry.find(fd)
        if connection is not None:
            self._tell_worker(connection)
            self._destroy(connection)

    def _drop_socket(self, connection: Connection) -> None:
        """Close the descriptor; what was queued for it, and what came in part, is lost."""
        if connection.descriptor < 0:
            return
        self._router.parking.take_unread(connection)
        self._loop.leave(connection)
        descriptor = connection.descriptor
        self._registry.forget_socket(connection)
        connection.transport.close(descriptor)
        connection.output.drop()
        if connection.protocol is not None:
            connection.protocol.stop_receiving()
        for dropped in self._life.dropped:
            dropped(connection)

    def _destroy(self, connection: Connection) -> None:
        """Let go of the last there is of a connection."""
        if connection.stage == STAGE_GONE:
            return
        self._ending.stop(connection.fd)
        self._closing.stop(connection.fd)
        self._drop_socket(connection)
        connection.enter(STAGE_GONE)
        self._registry.remove(connection)
        for gone in self._life.gone:
            gone(connection)
