"""How a connection ends (RFC 6455 section 7).

There are four causes: the client's close frame, a violation of the protocol by the client, a close by the server
(`server_close`), and a broken socket. There is one result: the worker is told once, after all other events of the
connection, and the descriptor is closed once.

The stages are those of core/connection_stages.py. A close frame, violation or FIN of the client takes an open
connection to ENDING, and `server_close` takes it to CLOSING; both go on to LINGERING.

- ENDING: nothing more is read. The replies to the messages that were read are sent, then our close frame.
- CLOSING: our close frame is queued, and the client has `close_timeout` to answer it.
- LINGERING: when all output has left, the socket is half-closed; then it is read until the client closes it, or for
  `close_timeout` at most. Closing a socket that has unread bytes would send a reset, which can destroy our close frame
  on its way (section 7.1.1).

When the time is up, or if the socket breaks, a connection is GONE at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from logging import DEBUG

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_life import Life
from zwoole.reactor.core.connection_stages import (
    STAGE_CLOSING,
    STAGE_ENDING,
    STAGE_GONE,
    STAGE_HANDSHAKE,
    STAGE_LINGERING,
    STAGE_OPEN,
)
from zwoole.reactor.core.loop import IN, Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.routing.router import Router
from zwoole.shared.memory.connection_table import CLOSING as TABLE_CLOSING
from zwoole.shared.process.log import get_logger
from zwoole.shared.websocket.close_codes import CLOSE_ABNORMAL, CLOSE_NO_STATUS, CLOSE_TRY_AGAIN_LATER

log = get_logger("closing")

ENDING_S = 3.0  # how long a connection that its client has closed waits for the rest of its replies

CLIENT = "client"
SERVER = "server"


class Closing:
    """Ends connections.

    Attributes:
        closed: how many connections were closed, by close code.
    """

    __slots__ = (
        "_closing",
        "_debug",
        "_ending",
        "_life",
        "_loop",
        "_refuse_unanswered",
        "_registry",
        "_router",
        "closed",
    )

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        router: Router,
        life: Life,
        close_timeout: float,
        refuse_unanswered: Callable[[Connection], None],
    ) -> None:
        """Create without connections.

        Args:
            loop: the master's loop.
            registry: all connections.
            router: sends CLOSE to workers.
            life: the observers of connections that are dropped and gone.
            close_timeout: seconds that a client has to answer our close frame, and as many to close the socket then.
            refuse_unanswered: called with a connection that is to be closed before its handshake is answered.
        """
        self.closed: dict[int, int] = {}
        self._debug = log.isEnabledFor(DEBUG)
        self._loop = loop
        self._registry = registry
        self._router = router
        self._life = life
        self._refuse_unanswered = refuse_unanswered
        self._ending = loop.add_deadlines(ENDING_S, self._ending_expired)
        self._closing = loop.add_deadlines(close_timeout, self._closing_expired)

    # What ends a connection.

    def client_closed(self, connection: Connection) -> None:
        """Handle the client's close frame."""
        protocol = connection.protocol
        if protocol is None:
            return
        if connection.stage == STAGE_CLOSING:
            self._linger(connection)
            return
        self._begin_ending(connection, protocol.close_code, protocol.close_reason, CLIENT)

    def violated(self, connection: Connection) -> None:
        """Handle a violation of the protocol by the client; `protocol` has the close code and reason."""
        protocol = connection.protocol
        if protocol is None:
            return
        if connection.stage == STAGE_CLOSING:  # our close frame is queued already
            self._linger(connection)
            return
        self._begin_ending(connection, protocol.close_code, protocol.close_reason, SERVER)

    def end_of_stream(self, connection: Connection) -> None:
        """Handle the client's FIN. The close code is 1006 if no close frame came before it."""
        connection.eof = True
        if connection.stage == STAGE_OPEN:
            self._begin_ending(connection, CLOSE_ABNORMAL, "", CLIENT)
        elif connection.stage == STAGE_HANDSHAKE or (
            connection.stage == STAGE_LINGERING and connection.output.queued + connection.output.pending == 0
        ):
            self._destroy(connection)
        else:  # the client may still read, so the queued output is sent
            self._loop.listen(connection, connection.interest & ~IN)
            if connection.stage == STAGE_CLOSING:
                self._linger(connection)

    def broken(self, connection: Connection, error: int) -> None:
        """Handle the failure of a socket: nothing can be sent any more, but accepted messages are still finished.

        Args:
            connection: the connection.
            error: the errno; 0 if it is not known.
        """
        self._drop_socket(connection)
        if connection.stage == STAGE_OPEN:
            self._begin_ending(connection, CLOSE_ABNORMAL, os.strerror(error) if error else "", CLIENT)
        elif connection.stage != STAGE_ENDING:
            self.cut(connection)

    def server_close(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection with a code and a reason; its messages that were not sent down are discarded."""
        if connection.stage == STAGE_HANDSHAKE:
            self._refuse_unanswered(connection)
        if connection.stage == STAGE_ENDING:  # the client's code stays, but no callback gets further messages
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

    def too_slow(self, connection: Connection, reason: str) -> None:
        """Close a connection whose output queue has no room for a message, mostly because its client does not read."""
        if connection.stage == STAGE_ENDING:  # end its replies here: a missing one among them would be worse
            self.finish_ending(connection)
        else:
            self.server_close(connection, CLOSE_TRY_AGAIN_LATER, reason)

    def force(self, connection: Connection) -> None:
        """Close a connection at once, without a close frame."""
        if connection.close_code == 0 and connection.protocol is not None:  # it was open
            self._note_end(connection, CLOSE_ABNORMAL, "", SERVER)
        self.cut(connection)

    def cut(self, connection: Connection) -> None:
        """Drop a connection without waiting for its client; its end is counted already."""
        self._tell_worker(connection)
        self._destroy(connection)

    def refused(self, connection: Connection) -> None:
        """Let a connection linger whose handshake is refused; the HTTP response is queued."""
        connection.head = None
        connection.enter(STAGE_LINGERING)
        self._loop.flush_later(connection)
        self._closing.start(connection.fd)

    # The end.

    def finish_ending(self, connection: Connection) -> None:
        """Send our close frame on a connection in ENDING and let it linger; its messages are finished or given up."""
        self._ending.stop(connection.fd)
        if connection.close_code != CLOSE_ABNORMAL and connection.protocol is not None:
            code = 0 if connection.close_code == CLOSE_NO_STATUS else connection.close_code
            connection.output.queue_behind(connection.protocol.close_frame(code, connection.close_reason))
        self._linger(connection)

    def flushed(self, connection: Connection) -> None:
        """Half-close a lingering connection whose output has left, or close it if the client has sent FIN."""
        if connection.stage != STAGE_LINGERING:
            return
        if connection.eof:
            self._destroy(connection)
        else:
            self._half_close(connection)

    def _begin_ending(self, connection: Connection, code: int, reason: str, initiator: str) -> None:
        self._note_end(connection, code, reason, initiator)
        connection.enter(STAGE_ENDING)
        if self._router.is_idle(connection):
            self.finish_ending(connection)
        else:
            self._loop.listen(connection, connection.interest & ~IN)
            self._ending.start(connection.fd)

    def _note_end(self, connection: Connection, code: int, reason: str, initiator: str) -> None:
        connection.close_code = code
        connection.close_reason = reason
        connection.close_initiator = initiator
        if self._debug:
            log.debug("fd %d: ends, code %d %a by the %s", connection.fd, code, reason, initiator)
        self.closed[code] = self.closed.get(code, 0) + 1

    def _tell_worker(self, connection: Connection) -> None:
        """Send CLOSE to the worker, once, if the connection was open."""
        if connection.worker is not None and not connection.closed_down and connection.stage != STAGE_HANDSHAKE:
            self._router.close(connection)

    def _linger(self, connection: Connection) -> None:
        """Tell the worker, send the rest of the output, half-close, and wait until the client closes the socket."""
        self._tell_worker(connection)
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
            self.cut(connection)

    def _drop_socket(self, connection: Connection) -> None:
        """Close the descriptor; queued output and an incomplete message are lost."""
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
        """Close the socket and remove the connection from all tables."""
        if connection.stage == STAGE_GONE:
            return
        self._ending.stop(connection.fd)
        self._closing.stop(connection.fd)
        self._drop_socket(connection)
        connection.enter(STAGE_GONE)
        self._registry.remove(connection)
        for gone in self._life.gone:
            gone(connection)
