"""The way down: which worker a connection belongs to, and whether a message may go there now.

Operations: give a new connection a worker; send its events in order; park what may not go down yet; send the parked
when credit comes back; hand a connection over from one worker to the next; say when it must not be read for a while.

When all that may be parked is parked, a connection whose next message would have to be is not read at all: it stands
in its worker's line of those held back, which is served as room comes back.

An event goes down when its connection has nothing parked before it, the worker that owns the connection is there, and
both windows, the worker's and the connection's, have room. Else it is parked on the connection, behind what is parked
already. A connection whose own room came back goes on at once; one that the worker's window stopped stands in the
link's line, and the line is served one message each in turn.

Hand-over is one mechanism (`settle`), whatever the reason: a connection whose owner is not its worker's active link has
its messages parked; when the last event that the old owner has of it is finished, it joins its worker's line, and the
new owner is told to adopt it, then sent the parked messages. A coroutine cannot be handed over: a handler's
connection stays with its owner as long as that lives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.loop import IN, Loop
from zwoole.reactor.core.stages import STAGE_ENDING, STAGE_GONE, STAGE_OPEN
from zwoole.reactor.core.worker_link import Worker, WorkerLink
from zwoole.reactor.routing.parking import Parking
from zwoole.shared.process.log import get_logger
from zwoole.shared.settings import Settings
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

ADOPTIONS_PER_TURN = 256  # and ends that are told late; a few microseconds each: those of thousands go in slices
READ_ON_PER_TURN = 64  # held back connections that are read again at a time; what they send may fill everything anew
STALE = 1024  # that many who are gone may stand in a line, and as many as are there


class Router:
    """Moves messages from connections to workers.

    Attributes:
        workers: the workers' places.
        parking: what is parked on all connections.
        replays: messages sent again after the death of a worker that had not begun them.
        adoptions: connections handed over.
        draining: whether no connection is to be read on, because the server stops.
    """

    def __init__(
        self, loop: Loop, parking: Parking, settings: Settings, finish_ending: Callable[[Connection], None]
    ) -> None:
        """Begin without connections.

        Args:
            loop: the master's loop.
            parking: where messages wait.
            settings: says how many workers there are and what one connection may have outstanding.
            finish_ending: called with a connection in ENDING that has nothing unfinished left.
        """
        self.workers = [Worker(worker_id) for worker_id in range(settings.worker_num)]
        self.parking = parking
        self.replays = 0
        self.adoptions = 0
        self.draining = False
        self._finish_ending = finish_ending
        self._loop = loop
        self._max_events = settings.connection_window_events
        self._max_bytes = settings.connection_window_bytes

    # Connections.

    def open(self, connection: Connection) -> None:
        """Give a new connection to the worker with the fewest, those with a worker first, and tell its worker."""
        self._place(connection, OPEN)

    def ask(self, connection: Connection) -> None:
        """Give a new connection to a worker as `open` does, and ask its worker whether the client may connect."""
        self._place(connection, HANDSHAKE)

    def open_asked(self, connection: Connection) -> None:
        """Tell the worker that said so that the client has connected."""
        self.parking.park(connection, OPEN, connection.record)
        self.settle(connection)
        self._resume(connection)

    def abandon(self, connection: Connection) -> None:
        """Forget a connection whose worker was asked, and will hear no more of it."""
        self.discard_parked(connection)
        connection.closed_down = True
        if connection.worker is not None:
            self._leave_worker(connection)

    def _place(self, connection: Connection, event: int) -> None:
        worker = min(self.workers, key=lambda worker: (worker.link is None, worker.connections))
        worker.connections += 1
        connection.worker = worker
        self.parking.park(connection, event, connection.record)
        self.settle(connection)

    def accept(self, connection: Connection, opcode: int, data: bytes) -> bool:
        """Take a message that was parsed whole: from here on it is answered or its connection closed.

        Returns:
            Whether the connection may be read on.
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
        """Do not read a connection whose next message could only be parked where no more may be; tell whether."""
        worker: Worker | None = connection.worker
        if connection.stage != STAGE_OPEN or worker is None:
            return False
        if connection.parked is None:  # else it is read on when that has gone down
            link: WorkerLink | None = connection.owner
            if link is not None and self._serves(link, connection) and not link.waiting and link.window.has_room(0):
                return False
            join_line(worker.held_back, connection, worker.connections)
        self.stop_reading(connection)
        return True

    def close(self, connection: Connection) -> None:
        """Tell the worker that a connection ended; the last that any worker hears of it."""
        self.discard_parked(connection)
        connection.closed_down = True
        if connection.worker is None:
            return
        worker: Worker = connection.worker
        worker.connections -= 1
        owner: WorkerLink | None = connection.owner
        # What is unfinished is with the owner, and the close belongs behind it; else any worker of the worker will do.
        link = (
            owner if owner is not None and (connection.outstanding or self._serves(owner, connection)) else worker.link
        )
        in_turn = link is owner or not worker.pending_closes
        if link is not None and in_turn and link.window.has_place():
            link.send_close(connection)
            self._loop.touch(link)
        else:
            worker.pending_closes.append(connection)
        worker.notices.pop(connection, None)
        if connection.owner is not None:  # a retiring owner must not wait for an end that another is told of
            connection.owner.disown(connection)

    def discard_parked(self, connection: Connection) -> None:
        """Forget what was accepted but not sent down; the connection's close code accounts for it.

        A connection whose open is among that leaves its worker: a worker that never heard of it hears of no end.
        """
        parked = connection.parked
        if parked is not None and connection.worker is not None and parked[0][0] in OPENINGS:
            self._leave_worker(connection)
        self.parking.discard(connection)
        if connection.waiting and connection.owner is not None:  # others may wait for what it was to send first
            self._loop.serve_later(connection.owner)

    def is_idle(self, connection: Connection) -> bool:
        """Tell whether everything accepted from the connection has been finished."""
        return connection.outstanding == 0 and connection.parked is None

    def read_on(self, connection: Connection) -> None:
        """Read a connection again that was stopped; what runs while it is silent begins anew."""
        connection.heard = self._loop.now
        self._loop.listen(connection, connection.interest | IN)
        if connection.unread or connection.transport.has_unread():
            self._loop.read_later(connection)

    def read_if_allowed(self, connection: Connection) -> None:
        """Read a connection again, unless something else stops it still."""
        stopped = connection.stage == STAGE_OPEN and not connection.interest & IN
        if stopped and not connection.throttled and not self.draining and self.parking.may_read(connection):
            self.read_on(connection)

    def stop_reading(self, connection: Connection) -> None:
        """Do not read a connection until `read_on`."""
        self._loop.listen(connection, connection.interest & ~IN)

    def notify(self, connection: Connection) -> None:
        """Tell a connection's worker, as soon as it can be told, that what waits for the client has crossed a mark."""
        link: WorkerLink | None = connection.owner
        if connection.output.full == connection.output.full_told or link is None or not self._serves(link, connection):
            return  # between two workers: the next one is told
        if link.window.has_place():
            connection.output.full_told = connection.output.full
            link.send_command(BUFFER_FULL if connection.output.full else BUFFER_EMPTY, connection.fd, b"")
            self._loop.touch(link)
        else:
            link.worker.notices[connection] = None

    # Acknowledgements and credit.

    def finished(self, link: WorkerLink, sequence: int) -> None:
        """Take the acknowledgement of one event, and let its connection go on.

        Raises:
            WireError: no such event was outstanding.
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
        """Send what the windows have room for now: ends that found no place, adoptions, those in the line."""
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
        self._serve_line(link)
        if worker.held_back:
            self._read_held_back(link)

    # Hand-over.

    def settle(self, connection: Connection) -> None:
        """Hand a connection over to its worker's worker, if that is another than its owner, as soon as it may be."""
        if connection.adopting or connection.closed_down or connection.outstanding or connection.worker is None:
            return
        worker: Worker = connection.worker
        owner: WorkerLink | None = connection.owner
        if owner is not None:
            if self._serves(owner, connection):
                return
            owner.disown(connection)
        connection.adopting = True
        join_line(worker.adoptions, connection, worker.connections)
        if worker.link is not None:
            self._loop.serve_later(worker.link)

    def replay(self, connection: Connection, events: list[tuple[int, bytes]]) -> None:
        """Put back, in front of what is parked, what a worker died without beginning."""
        if not events:
            return
        self.parking.put_back(connection, events)
        self.replays += len(events)
        connection.replays += 1

    def forget_line(self, link: WorkerLink) -> list[Connection]:
        """Dissolve the line of a link that is not active any more; return who stood in it."""
        line = list(link.waiting)
        link.waiting.clear()
        for connection in line:
            connection.waiting = False
        return line

    def move(self, connection: Connection, worker: Worker) -> None:
        """Let a connection belong to another worker; `settle` it then."""
        if connection.worker is not None:
            connection.worker.connections -= 1
        worker.connections += 1
        connection.worker = worker

    def _tell_ends(self, worker: Worker) -> None:
        """Tell the worker's worker of ends that could not be told, as far as its window and this turn allow."""
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
        """Tell the worker's worker to adopt those in line, as far as its window and this turn allow."""
        link = worker.link
        if link is None:
            return
        for _ in range(ADOPTIONS_PER_TURN):
            if not worker.adoptions or not link.window.has_room(0):
                break
            connection = worker.adoptions.popleft()
            if connection.worker is not worker or not connection.adopting:  # it was given to another place meanwhile
                continue
            connection.adopting = False
            if connection.closed_down:
                continue
            if connection.parked is not None and connection.parked[0][0] in OPENINGS:
                self._send_parked(link, connection)
            else:
                self.adoptions += 1
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

    def _serve_line(self, link: WorkerLink) -> None:
        """Send one message each of those that the worker's window had stopped, as far as it has room."""
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
        """Let a connection belong to nobody: no worker was told that it is open."""
        if connection.owner is not None:
            connection.owner.disown(connection)
        if connection.worker is not None:
            connection.worker.connections -= 1
            connection.worker = None

    def _serves(self, link: WorkerLink, connection: Connection) -> bool:
        """Tell whether a link may be sent this connection's events."""
        return link.active or (connection.handler and link.ready and not link.drained)

    def _has_room(self, connection: Connection, size: int) -> bool:
        """Tell whether the connection's own window has room; one message always has when nothing is out."""
        if connection.outstanding == 0:
            return True
        return connection.outstanding < self._max_events and connection.outstanding_bytes + size <= self._max_bytes

    def _read_held_back(self, link: WorkerLink) -> None:
        """Read on, a few at a time, those that were held back, where there is room for what they send."""
        line = link.worker.held_back
        for _ in range(READ_ON_PER_TURN):
            if not line or self.draining:
                return
            if self.parking.is_full() and (link.waiting or not link.window.has_room(0)):
                return
            connection = line.popleft()
            if connection.parked is None:
                self.read_if_allowed(connection)
        self._loop.serve_later(link)

    def _wait_if_stopped(self, link: WorkerLink, connection: Connection) -> None:
        """Put a connection in line whose next message nothing but the worker's window stops."""
        parked = connection.parked
        if parked is not None and self._has_room(connection, len(parked[0][1])):
            self._wait(link, connection)

    def _wait(self, link: WorkerLink, connection: Connection) -> None:
        join_line(link.waiting, connection, link.connections)
        connection.waiting = True

    def _resume(self, connection: Connection) -> None:
        """Send what is parked as far as the windows allow."""
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
        """Send the first parked message, and go on reading where that makes room."""
        event, data = self.parking.take(connection)
        if event == OPEN:
            link.send_open(connection)
        elif event == HANDSHAKE:
            link.send_handshake(connection)
        else:
            link.send_message(connection, event, data)
        self._loop.touch(link)
        self.read_if_allowed(connection)


def join_line(line: deque[Connection], connection: Connection, living: int) -> None:
    """Let a connection stand in a line, in which at most so many living ones stand; the gone leave it now and then."""
    if len(line) > 2 * living + STALE:
        there = [other for other in line if other.stage < STAGE_GONE and not other.closed_down]
        line.clear()
        line.extend(there)
    line.append(connection)
