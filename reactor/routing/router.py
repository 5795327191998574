"""The way down: which worker a connection belongs to, and whether a message may be sent to it now.

Operations: give a new connection a worker; send its events in order; park events that may not be sent yet, and send
them when credit returns; hand a connection over from one incarnation to the next; stop reading a connection for a
while.

An event is sent if nothing of its connection is parked, the connection's owner is there, and both windows have room:
the worker's and the connection's. Otherwise it is parked on the connection, behind the events that are parked already.
If the connection's own window gets room, its parked messages are sent at once. If the worker's window stops a
connection, the connection joins the link's queue; when the window has room, each connection in the queue gets one
message in turn.

If parked messages have reached the limit for all connections, a connection that would have to park its next message is
not read at all. It joins its worker's queue of held-back connections, which are read again when there is room.

Hand-over is one mechanism (`settle`), whatever the reason. While a connection's owner is not its worker's active link,
its messages are parked. When the old owner has finished its last event, the connection joins its worker's queue of
adoptions; the new owner is told to adopt it, and then gets the parked messages. A coroutine cannot be handed over: the
connection of a handler stays with its owner as long as that lives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from logging import DEBUG

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import STAGE_ENDING, STAGE_GONE, STAGE_OPEN
from zwoole.reactor.core.loop import IN, Loop
from zwoole.reactor.core.worker_link import Worker, WorkerLink
from zwoole.reactor.routing.parking import Parking
from zwoole.shared.process.log import get_logger
from zwoole.shared.websocket.frames import OP_TEXT
from zwoole.shared.wire.events import (
    BINARY_MESSAGE,
    BUFFER_EMPTY,
    BUFFER_FULL,
    HANDSHAKE,
    MESSAGE,
    OPEN,
    OPENINGS,
)

log = get_logger("router")

ADOPTIONS_PER_TURN = 256  # of one worker, and as many late closes; each takes a few microseconds
READ_ON_PER_TURN = 64  # held-back connections that are read again in a turn: their messages may fill the parking anew
STALE = 1024  # a queue is pruned if it has this many entries more than twice its living connections


class Router:
    """Moves messages from connections to workers.

    Attributes:
        workers: the workers, by id.
        parking: the account of parked messages.
        replays: how many messages were sent again, because their worker died before it began them.
        adoptions: how many connections were handed over.
        reading_stopped: whether no connection is read any more, because the server stops.
    """

    def __init__(
        self,
        loop: Loop,
        parking: Parking,
        worker_num: int,
        max_events: int,
        max_bytes: int,
        finish_ending: Callable[[Connection], None],
    ) -> None:
        """Create without connections.

        Args:
            loop: the master's loop.
            parking: the account of parked messages.
            worker_num: how many workers there are.
            max_events: how many events of one connection may be unfinished.
            max_bytes: how many bytes of payload they may have; a single event may have more.
            finish_ending: called with a connection in ENDING when all its messages are finished.
        """
        self.workers = [Worker(worker_id) for worker_id in range(worker_num)]
        self.parking = parking
        self.replays = 0
        self.adoptions = 0
        self.reading_stopped = False
        self._finish_ending = finish_ending
        self._loop = loop
        self._debug = log.isEnabledFor(DEBUG)
        self._max_events = max_events
        self._max_bytes = max_bytes

    # Connections.

    def open(self, connection: Connection) -> None:
        """Give a new connection to the worker with the fewest, and send it OPEN. Workers with a process come first."""
        self._place(connection, OPEN)

    def ask(self, connection: Connection) -> None:
        """Give a new connection to a worker as `open` does, and ask this worker whether the client may connect."""
        self._place(connection, HANDSHAKE)

    def open_asked(self, connection: Connection) -> None:
        """Send OPEN to the worker that has accepted the client."""
        self.parking.park(connection, OPEN, connection.record)
        self.settle(connection)
        self._resume(connection)

    def abandon(self, connection: Connection) -> None:
        """Take a connection from its worker, which knows its handshake at most: nothing more of it is sent down."""
        self.discard_parked(connection)
        connection.closed_down = True
        if connection.worker is not None:
            self._leave_worker(connection)

    def _place(self, connection: Connection, event: int) -> None:
        worker = self.least_busy()
        worker.connections += 1
        connection.worker = worker
        self.parking.park(connection, event, connection.record)
        self.settle(connection)

    def least_busy(self, without: Worker | None = None) -> Worker:
        """Return the worker with the fewest connections, other than `without`; those with a process come first."""
        others = (worker for worker in self.workers if worker is not without)
        return min(others, key=lambda worker: (worker.link is None, worker.connections))

    def accept(self, connection: Connection, opcode: int, data: bytes) -> bool:
        """Accept a complete message: from now on it is answered, or its connection is closed.

        Args:
            connection: the connection that has sent it.
            opcode: OP_TEXT or OP_BINARY.
            data: the payload.

        Returns:
            Whether the connection may be read further.
        """
        link: WorkerLink | None = connection.owner
        if (
            connection.parked is None
            and link is not None
            and (link.active or (connection.handler and link.ready))
            and not link.waiting
            and self._has_room(connection, len(data))
            and link.window.has_room(len(data))
        ):
            link.send_message(connection, MESSAGE if opcode == OP_TEXT else BINARY_MESSAGE, data)
            self._loop.touch(link)
            return True
        self.parking.park(connection, MESSAGE if opcode == OP_TEXT else BINARY_MESSAGE, data)
        if link is not None and not connection.waiting and self._serves(link, connection):
            self._wait_if_stopped(link, connection)
        return self.parking.may_read(connection)

    def hold_back(self, connection: Connection) -> bool:
        """Stop reading an open connection if it would have to park its next message; tell whether it did.

        To be called if `parking` is full.
        """
        worker: Worker | None = connection.worker
        if connection.stage != STAGE_OPEN or worker is None:
            return False
        if connection.parked is None:  # otherwise it is read again when the parked messages have been sent
            link: WorkerLink | None = connection.owner
            if link is not None and self._serves(link, connection) and not link.waiting and link.window.has_room(0):
                return False
            join_queue(worker.held_back, connection, worker.connections)
        self.stop_reading(connection)
        return True

    def close(self, connection: Connection) -> None:
        """Discard what is parked, and send CLOSE to the worker: the last event of a connection."""
        self.discard_parked(connection)
        connection.closed_down = True
        if connection.worker is None:
            return
        worker: Worker = connection.worker
        worker.connections -= 1
        owner: WorkerLink | None = connection.owner
        # CLOSE must come after the events that the owner has not finished; if there are none, any process may get it.
        link = (
            owner if owner is not None and (connection.outstanding or self._serves(owner, connection)) else worker.link
        )
        in_turn = link is owner or not worker.pending_closes
        if link is not None and in_turn and link.window.has_place():
            link.send_close(connection)
            self._loop.touch(link)
        else:
            worker.pending_closes.append(connection)
            self.serve_later(worker)
        worker.notices.pop(connection, None)
        if owner is None:
            return
        if link is owner:
            owner.disown(connection)
        else:  # a retiring owner must not wait for a close that another process gets
            self._hand_over(owner, connection)

    def discard_parked(self, connection: Connection) -> None:
        """Discard messages that were accepted and not sent down: their connection is being closed with a code.

        If OPEN is among them the connection leaves its worker: no process has heard of it, so none gets its close.
        """
        parked = connection.parked
        if parked is not None and connection.worker is not None and parked[0][0] in OPENINGS:
            self._leave_worker(connection)
        self.parking.discard(connection)
        if connection.waiting and connection.owner is not None:  # others may wait behind it in the link's queue
            self._loop.serve_later(connection.owner)

    def is_idle(self, connection: Connection) -> bool:
        """Tell whether all accepted messages of the connection are finished."""
        return connection.outstanding == 0 and connection.parked is None

    def read_on(self, connection: Connection) -> None:
        """Read a connection again that was not read. It counts as heard, so its heartbeat timeouts begin anew."""
        connection.heard = self._loop.now
        self._loop.listen(connection, connection.interest | IN)
        if connection.unread or connection.transport.has_unread():
            self._loop.read_later(connection)

    def read_if_allowed(self, connection: Connection) -> None:
        """Read a connection again, unless there is another reason not to."""
        stopped = connection.stage == STAGE_OPEN and not connection.interest & IN
        if stopped and not connection.throttled and not self.reading_stopped and self.parking.may_read(connection):
            self.read_on(connection)

    def stop_reading(self, connection: Connection) -> None:
        """Stop reading a connection until `read_on`."""
        self._loop.listen(connection, connection.interest & ~IN)

    def notify(self, connection: Connection) -> None:
        """Send BUFFER_FULL or BUFFER_EMPTY to a connection's worker, now or later, if `output.full` has changed."""
        link: WorkerLink | None = connection.owner
        if connection.output.full == connection.output.full_told or link is None or not self._serves(link, connection):
            return  # if it has no owner now, the next one is told after the adoption
        if link.window.has_place():
            connection.output.full_told = connection.output.full
            link.send_command(BUFFER_FULL if connection.output.full else BUFFER_EMPTY, connection.fd, b"")
            self._loop.touch(link)
        else:
            link.worker.notices[connection] = None

    # Acknowledgements and credit.

    def finished(self, link: WorkerLink, sequence: int) -> None:
        """Take the acknowledgement of an event, and send its connection's next messages.

        Raises:
            WireError: no event with this number is unfinished.
        """
        connection = link.window.finish(sequence)
        if connection is None:
            return
        connection.replays = 0
        if not link.active and connection.outstanding == 0 and not connection.closed_down:
            self.settle(connection)
        if connection.parked is not None:
            if not connection.waiting:
                self._resume(connection)
        elif connection.stage == STAGE_ENDING and connection.outstanding == 0:
            self._finish_ending(connection)

    def serve(self, link: WorkerLink) -> None:
        """Send what the windows have room for: late closes, adoptions, notices, messages of stopped connections."""
        worker = link.worker
        if worker.link is link:
            if worker.pending_closes:
                self._tell_ends(worker)
            if worker.adoptions:
                self._serve_adoptions(worker)
        if worker.notices and link.window.has_place():
            notices, worker.notices = worker.notices, {}
            for connection in notices:
                self.notify(connection)
        self._serve_queue(link)
        if worker.held_back:
            self._read_held_back(link)

    # Hand-over.

    def settle(self, connection: Connection) -> None:
        """Queue a connection for its worker's active link, if its owner must not get its events any more.

        It does nothing while the owner has unfinished events of the connection: `finished` calls it again.
        """
        if connection.adopting or connection.closed_down or connection.outstanding or connection.worker is None:
            return
        worker: Worker = connection.worker
        owner: WorkerLink | None = connection.owner
        if owner is not None:
            if self._serves(owner, connection):
                return
            self._hand_over(owner, connection)
        connection.adopting = True
        join_queue(worker.adoptions, connection, worker.connections)
        self.serve_later(worker)

    def _hand_over(self, owner: WorkerLink, connection: Connection) -> None:
        """Take a connection from its owner, which is told so at the end of this turn."""
        owner.hand_over(connection)
        self._loop.touch(owner)

    def serve_later(self, worker: Worker) -> None:
        """Serve a worker's active link in the next turn; if there is none, note since when something waits for one."""
        if worker.link is not None:
            self._loop.serve_later(worker.link)
        elif not worker.gone_since:  # it has never had a process
            worker.gone_since = self._loop.clock.now

    def replay(self, connection: Connection, events: list[tuple[int, bytes]]) -> None:
        """Park again, in front, the (event, data) pairs that a worker did not begin before it died."""
        if not events:
            return
        self.parking.put_back(connection, events)
        self.replays += len(events)
        connection.replays += 1

    def forget_queue(self, link: WorkerLink) -> None:
        """Empty the queue of a link that is no longer active."""
        for connection in link.waiting:
            connection.waiting = False
        link.waiting.clear()

    def move(self, connection: Connection, worker: Worker) -> None:
        """Let a connection belong to another worker; the caller must `settle` it."""
        if connection.worker is not None:
            connection.worker.connections -= 1
        worker.connections += 1
        connection.worker = worker

    def _tell_ends(self, worker: Worker) -> None:
        """Send the closes that could not be sent before, as far as the window and this turn allow."""
        link = worker.link
        if link is None:
            return
        for _ in range(ADOPTIONS_PER_TURN):
            if not worker.pending_closes or not link.window.has_place():
                break
            link.send_close(worker.pending_closes.popleft())
            self._loop.touch(link)
        else:
            self._loop.serve_later(link)

    def _serve_adoptions(self, worker: Worker) -> None:
        """Hand the queued connections over to the active link, as far as its window and this turn allow."""
        link = worker.link
        if link is None:
            return
        for _ in range(ADOPTIONS_PER_TURN):
            if not worker.adoptions or not link.window.has_room(0):
                break
            connection = worker.adoptions.popleft()
            if connection.worker is not worker or not connection.adopting:  # it belongs to another worker by now
                continue
            connection.adopting = False
            if connection.closed_down:
                continue
            if connection.parked is not None and connection.parked[0][0] in OPENINGS:
                self._send_parked(link, connection)
            else:
                self.adoptions += 1
                if self._debug:
                    log.debug(
                        "fd %d: handed over to worker %d (incarnation %d)", connection.fd, worker.id, link.incarnation
                    )
                link.send_adopt(connection)
                self._loop.touch(link)
            self.notify(connection)
            self._resume(connection)
        else:
            if worker.adoptions:
                self._loop.serve_later(link)

    # Steps of the above.

    def _serve_queue(self, link: WorkerLink) -> None:
        """Send one message of each connection that the worker's window had stopped, as far as it has room."""
        waiting = link.waiting
        while waiting:
            connection = waiting[0]
            parked = connection.parked
            if parked is not None and connection.owner is link and self._has_room(connection, len(parked[0][1])):
                if not link.window.has_room(len(parked[0][1])):
                    return
                self._send_parked(link, connection)
            waiting.popleft()
            connection.waiting = False
            if connection.owner is link:
                self._wait_if_stopped(link, connection)

    def _leave_worker(self, connection: Connection) -> None:
        """Take a connection from its worker and its owner: no process was told that it is open."""
        if connection.owner is not None:
            connection.owner.disown(connection)
        if connection.worker is not None:
            connection.worker.connections -= 1
            connection.worker = None

    def _serves(self, link: WorkerLink, connection: Connection) -> bool:
        """Tell whether a link may get the events of this connection."""
        return link.active or (connection.handler and link.ready and not link.drained)

    def _has_room(self, connection: Connection, size: int) -> bool:
        """Tell whether the connection's own window has room; it has room for any message if nothing is outstanding."""
        if connection.outstanding == 0:
            return True
        return connection.outstanding < self._max_events and connection.outstanding_bytes + size <= self._max_bytes

    def _read_held_back(self, link: WorkerLink) -> None:
        """Read held-back connections again, a few per turn, as long as there is room for their messages."""
        queue = link.worker.held_back
        for _ in range(READ_ON_PER_TURN):
            if not queue or self.reading_stopped:
                return
            if self.parking.is_full() and (link.waiting or not link.window.has_room(0)):
                return
            connection = queue.popleft()
            if connection.parked is None:
                self.read_if_allowed(connection)
        self._loop.serve_later(link)

    def _wait_if_stopped(self, link: WorkerLink, connection: Connection) -> None:
        """Queue a connection if it has parked messages and only the worker's window can stop them."""
        parked = connection.parked
        if parked is not None and self._has_room(connection, len(parked[0][1])):
            self._wait(link, connection)

    def _wait(self, link: WorkerLink, connection: Connection) -> None:
        join_queue(link.waiting, connection, link.connections)
        connection.waiting = True

    def _resume(self, connection: Connection) -> None:
        """Send parked messages as far as the windows allow."""
        link: WorkerLink | None = connection.owner
        if link is None or not self._serves(link, connection):
            return
        while connection.parked is not None:
            size = len(connection.parked[0][1])
            if not self._has_room(connection, size):
                return
            if link.waiting or not link.window.has_room(size):
                self._wait(link, connection)
                return
            self._send_parked(link, connection)

    def _send_parked(self, link: WorkerLink, connection: Connection) -> None:
        """Send the first parked message, and read the connection again if that makes room."""
        event, data = self.parking.take(connection)
        if event == OPEN:
            link.send_open(connection)
        elif event == HANDSHAKE:
            link.send_handshake(connection)
        else:
            link.send_message(connection, event, data)
        self._loop.touch(link)
        self.read_if_allowed(connection)


def join_queue(queue: deque[Connection], connection: Connection, living: int) -> None:
    """Queue a connection. If the queue grows, connections that are gone are removed from it.

    Args:
        queue: which queue it joins.
        connection: the connection.
        living: how many connections the queue can have that are not gone.
    """
    if len(queue) > 2 * living + STALE:
        there = [other for other in queue if other.stage < STAGE_GONE and not other.closed_down]
        queue.clear()
        queue.extend(there)
    queue.append(connection)
