"""The event loop. One turn is: wait, read, act, flush.

Rules, after redis' ae.c:
- Output that was queued in a turn leaves at its end: one write per connection, one ZeroMQ message per worker. If very
  many connections have output, some are flushed in each turn.
- EPOLLOUT is armed only for output that the kernel did not take.
- Each connection is read once per turn; the heartbeat may read it once more before it gives a client up.
- Timers run after I/O.
- Connections are accepted last: a descriptor that was closed in this turn cannot be reused for another client within
  the turn.
- A link to a worker is read once per turn too, unless the read buffer was too small for what had arrived.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from logging import DEBUG
from time import monotonic
from typing import NamedTuple

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import STAGE_OPEN
from zwoole.reactor.core.deadlines import Clock, Deadlines, Timeouts, Wheel
from zwoole.reactor.core.output import WRITE_BYTES
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.worker_link import WorkerLink
from zwoole.shared.process.log import get_logger
from zwoole.shared.wire.zmtp_socket import ZmtpSocket

IN = select.EPOLLIN
OUT = select.EPOLLOUT
BROKEN = select.EPOLLHUP | select.EPOLLERR
_IN = IN  # these are C integers in the compiled module
_OUT = OUT
_BROKEN = BROKEN

MAX_EVENTS = 1024
FLUSHES_PER_TURN = 512  # takes about 1 ms; a broadcast to thousands leaves in several turns
MAX_SLEEP_S = 1.0
FEW_EVENTS = 3.0  # with fewer events in a turn, waiting does not build bigger batches
LAG_WEIGHT = 1 / 64  # weight of the latest turn in the smoothed lag

log = get_logger("loop")


class Calls(NamedTuple):
    """The functions that a turn calls.

    Attributes:
        readable: called with a connection that is readable.
        unread: called with a connection after `read_later`: data that was read earlier can be processed now.
        broken: called with a connection whose socket has failed, and the errno, or 0 if the kernel gave none.
        flushed: called with a connection that is being closed, when all its output has left.
        queue_changed: called with a connection whose output queue has changed in size.
        batch: called with a worker link that may have batches; returns whether it may have more.
        link_ended: called with a worker link whose process has closed the connection, when all of it was read.
        serve: called with a worker link after `serve_later`.
    """

    readable: Callable[[Connection], None]
    unread: Callable[[Connection], None]
    broken: Callable[[Connection, int], None]
    flushed: Callable[[Connection], None]
    queue_changed: Callable[[Connection], None]
    batch: Callable[[WorkerLink], bool]
    link_ended: Callable[[WorkerLink], None]
    serve: Callable[[WorkerLink], None]


class Loop:
    """Waits until descriptors are ready and dispatches to their handlers.

    Attributes:
        turns: how many turns there have been.
        clock: the clock that timeouts run on.
        now: the clock's time in this turn, in seconds.
        lag: seconds that a turn takes without its wait, smoothed. An event that arrives meanwhile waits at most that
            long.
        longest_lag: seconds that the longest turn took without its wait.
        busy_poll_s: how many seconds it may poll before it sleeps, if turns are short and find few events.
    """

    def __init__(self, registry: Registry, epoll: select.epoll | None = None, clock: Clock | None = None) -> None:
        """Create the loop; `connect` must be called before the first turn.

        Args:
            registry: all connections.
            epoll: reports which descriptors are ready; a test may pass its own.
            clock: the clock that timeouts run on; a test may pass its own.
        """
        self.turns = 0
        self.clock = clock or Clock()
        self.now = self.clock.now
        self.lag = 0.0
        self.longest_lag = 0.0
        self.busy_poll_s = 0.0
        self._debug = log.isEnabledFor(DEBUG)
        self._epoll = epoll or select.epoll()
        self._registry = registry
        self._sources: dict[int, Callable[[], None]] = {}
        self._last_sources: dict[int, Callable[[], None]] = {}
        self._links: dict[int, WorkerLink] = {}
        self._timers: list[Timeouts] = []
        self._timers_due = 0.0
        self._dirty: list[Connection] = []
        self._touched: list[WorkerLink] = []
        self._again: list[WorkerLink] = []
        self._reread: list[Connection] = []
        self._reread_next: list[Connection] = []
        self._served: list[WorkerLink] = []
        self._next_turn: list[Callable[[], None]] = []
        self._received: list[WorkerLink] = []
        self._before_sleep: list[Callable[[], None]] = []
        self._running = False
        self._usual_wait = 0.0
        self._usual_events = 0.0

    def connect(self, calls: Calls) -> None:
        """Set the functions that a turn calls. To be called before the first turn."""
        self._readable, self._unread = calls.readable, calls.unread
        self._broken, self._flushed = calls.broken, calls.flushed
        self._queue_changed = calls.queue_changed
        self._batch, self._link_ended, self._serve = calls.batch, calls.link_ended, calls.serve

    # Sources of events.

    def add_source(self, descriptor: int, ready: Callable[[], None], last: bool = False) -> None:
        """Call `ready` in every turn in which the descriptor is readable; with `last`, after all connections."""
        (self._last_sources if last else self._sources)[descriptor] = ready
        self._epoll.register(descriptor, IN)

    def remove_source(self, descriptor: int) -> None:
        """Stop watching a descriptor that `add_source` has added; do nothing if it is not watched."""
        if self._sources.pop(descriptor, None) or self._last_sources.pop(descriptor, None):
            self._epoll.unregister(descriptor)

    def add_link(self, link: WorkerLink) -> None:
        """Watch the wire of a worker link, if it has one: `batch` is called with it when it may have batches."""
        if link.wire is not None:
            self._links[link.wire.descriptor] = link
            self._epoll.register(link.wire.descriptor, IN)
            link.interest = IN
            self._again.append(link)

    def remove_link(self, link: WorkerLink) -> None:
        """Stop watching the wire of a worker link; do nothing if it is not watched."""
        if link.interest and link.wire is not None:
            del self._links[link.wire.descriptor]
            self._epoll.unregister(link.wire.descriptor)
            link.interest = 0

    def add_deadlines(self, seconds: float, expired: Callable[[int], None]) -> Deadlines:
        """Return a new kind of timeout, `seconds` long; this loop calls `expired` with the fd of each that expires."""
        deadlines = Deadlines(self.clock, seconds, expired)
        self._timers.append(deadlines)
        return deadlines

    def add_wheel(self, expired: Callable[[int], None]) -> Wheel:
        """Return a new kind of timeout with differing lengths; this loop calls `expired` as for `add_deadlines`."""
        wheel = Wheel(self.clock, expired)
        self._timers.append(wheel)
        return wheel

    def before_sleep(self, call: Callable[[], None]) -> None:
        """Call `call` at the beginning of every turn."""
        self._before_sleep.append(call)

    # Connections.

    def listen(self, connection: Connection, mask: int) -> None:
        """Set the epoll mask of a connection, unless its socket is closed; HUP and ERR are reported with any mask."""
        if connection.descriptor < 0 or connection.interest == mask:
            return
        self._epoll.modify(connection.descriptor, mask)
        connection.interest = mask

    def join(self, connection: Connection) -> None:
        """Begin to watch a new connection, for reading."""
        self._epoll.register(connection.descriptor, IN)
        connection.interest = IN

    def leave(self, connection: Connection) -> None:
        """Stop watching a connection whose socket is about to be closed."""
        self._epoll.unregister(connection.descriptor)

    def flush_later(self, connection: Connection) -> None:
        """Flush the connection's output queue at the end of this turn."""
        if not connection.dirty:
            connection.dirty = True
            self._dirty.append(connection)

    def flush_connections(self, most: int = WRITE_BYTES) -> None:
        """Flush the connections that have output now, at most `most` bytes each; the next turn sends the rest."""
        dirty = self._dirty
        self._dirty = []
        for connection in dirty:
            connection.dirty = False
            self._flush_connection(connection, most)

    def touch(self, link: WorkerLink) -> None:
        """Send the link's batch at the end of this turn."""
        if not link.touched:
            link.touched = True
            self._touched.append(link)

    def read_later(self, connection: Connection) -> None:
        """Call `unread` with the connection at the end of this turn: it has data that is not parsed or inflated."""
        if not connection.rereading:
            connection.rereading = True
            self._reread.append(connection)

    def read_next_turn(self, connection: Connection) -> None:
        """Call `unread` with the connection at the end of the next turn, which then does not sleep. Until then it is
        not read.
        """
        if not connection.rereading:
            connection.rereading = True
            self._reread_next.append(connection)

    def next_turn(self, call: Callable[[], None]) -> None:
        """Call `call` once, in the next turn, which then does not sleep."""
        self._next_turn.append(call)

    def serve_later(self, link: WorkerLink) -> None:
        """Call `serve` with the link in the next turn, which then does not sleep."""
        if link not in self._served:
            self._served.append(link)

    # The turn.

    def run(self) -> None:
        """Run turns until `stop` is called."""
        self._running = True
        while self._running:
            self.turn()

    def stop(self) -> None:
        """End `run` after this turn."""
        self._running = False

    def turn(self) -> None:
        """Run one turn: wait for events and handle them."""
        for call in self._before_sleep:
            call()
        timeout = self._sleep_time()
        expected = self.clock.now + timeout
        events = self._wait(timeout)
        self.clock.turn(expected)
        self.now = self.clock.now
        self.turns += 1
        last: list[Callable[[], None]] = []
        connections = self._registry.by_descriptor
        for descriptor, mask in events:
            connection = connections.get(descriptor)
            if connection is not None:
                self._connection_ready(connection, mask)
                continue
            link = self._links.get(descriptor)
            if link is not None:
                self._link_ready(link, mask)
            elif descriptor in self._sources:
                self._sources[descriptor]()
            elif descriptor in self._last_sources:
                last.append(self._last_sources[descriptor])
        self._receive()
        if self.now >= self._timers_due:
            for timer in self._timers:
                timer.run()
        for source in last:
            source()
        calls = self._next_turn
        self._next_turn = []
        for call in calls:
            call()
        served = self._served
        self._served = []
        for link in served:
            self._serve(link)
        self._reread_connections()
        self._flush()
        lag = monotonic() - self.clock.woke
        self.lag += (lag - self.lag) * LAG_WEIGHT
        if lag > self.longest_lag:
            self.longest_lag = lag

    def _wait(self, timeout: float) -> list[tuple[int, int]]:
        """Return the (descriptor, mask) pairs that are ready, after at most `timeout` seconds.

        A wake-up by the kernel takes longer than a short wait. So if the last waits were short and found few events,
        this polls for a while before it sleeps.
        """
        spin = min(self.busy_poll_s, timeout)
        if spin <= 0.0:
            return self._epoll.poll(timeout, MAX_EVENTS)
        began = monotonic()
        events: list[tuple[int, int]] = []
        if self._usual_wait < self.busy_poll_s and self._usual_events < FEW_EVENTS:
            while not events and monotonic() - began < spin:
                events = self._epoll.poll(0, MAX_EVENTS)
        if not events:
            events = self._epoll.poll(timeout, MAX_EVENTS)
        waited = min(monotonic() - began, 2 * self.busy_poll_s)
        self._usual_wait += (waited - self._usual_wait) / 4
        self._usual_events += (len(events) - self._usual_events) / 4
        return events

    def _sleep_time(self) -> float:
        """Return how many seconds the turn may wait, and note when the first timer may expire."""
        self._timers_due = 0.0
        # _dirty and _touched may hold what was queued during the last flush.
        if self._again or self._reread or self._served or self._touched or self._dirty or self._next_turn:
            return 0.0
        self._timers_due = self.clock.now + MAX_SLEEP_S
        for timer in self._timers:
            end = timer.next_end()
            if end < self._timers_due:
                self._timers_due = end
        return max(self._timers_due - self.clock.now, 0.0)

    def _connection_ready(self, connection: Connection, mask: int) -> None:
        if mask & _IN:  # read first: data that arrived before a reset still counts
            self._readable(connection)
        elif mask & _BROKEN:
            self._broken(connection, 0)
            return
        if mask & _OUT and connection.descriptor >= 0:
            connection.heard = self.now  # a full kernel buffer has room again, so the client has read something
            self.flush_later(connection)

    def _link_ready(self, link: WorkerLink, mask: int) -> None:
        wire = link.wire
        if wire is None:
            return
        if mask & _OUT:
            wire.flush()
            self._watch(link, wire)
        if mask & ~_OUT:
            wire.readable = True
            self._again.append(link)

    def _watch(self, link: WorkerLink, wire: ZmtpSocket) -> None:
        """Watch for room in a wire's socket as long as the kernel has not taken all output."""
        mask = _IN | _OUT if wire.blocked else _IN
        if link.interest and link.interest != mask:
            self._epoll.modify(wire.descriptor, mask)
            link.interest = mask

    def _receive(self) -> None:
        again = self._again
        self._again = []
        self._received += again
        for link in again:
            wire = link.wire
            if self._batch(link):
                if link not in self._again:
                    self._again.append(link)
            elif wire is not None and wire.ended and link.interest:
                self.remove_link(link)
                self._link_ended(link)

    def _reread_connections(self) -> None:
        connections = self._reread
        self._reread = []
        for connection in connections:
            connection.rereading = False
            self._unread(connection)
        if self._reread_next:
            self._reread += self._reread_next
            self._reread_next = []

    def _flush(self) -> None:
        """Send each worker its batch, then flush connections, at most FLUSHES_PER_TURN of them, in order.

        The next turns, which do not sleep, flush the others. Credit is returned only when all are flushed.
        """
        touched = self._touched
        self._touched = []
        for link in touched:
            link.touched = False
            link.flush()
            if link.wire is not None:
                self._watch(link, link.wire)
        if len(self._dirty) > FLUSHES_PER_TURN:
            rest = self._dirty[FLUSHES_PER_TURN:]
            del self._dirty[FLUSHES_PER_TURN:]
            self.flush_connections()
            rest += self._dirty
            self._dirty = rest
            return
        self.flush_connections()
        received = self._received
        self._received = []
        for link in received:  # credit comes after BUFFER_FULL: the flushes above have queued that for the worker
            if link.unfinished is None:
                link.settled = link.received
                if link.owes_credit():
                    self.touch(link)

    def _flush_connection(self, connection: Connection, most: int) -> None:
        if connection.descriptor < 0:
            return
        output = connection.output
        queued = output.queued
        error = output.flush(connection.transport, connection.descriptor, most)
        if self._debug and queued:
            log.debug("fd %d: %d bytes sent, %d queued", connection.fd, queued - output.queued, output.queued)
        if error:
            self._broken(connection, error)
            return
        if output.queued or output.pending or output.noted:
            self._queue_changed(connection)
        mask = connection.interest
        if output.queued:
            self.listen(connection, mask | _OUT)
        else:
            self.listen(connection, mask & ~_OUT)
            if connection.stage > STAGE_OPEN and not output.pending:
                self._flushed(connection)
            elif connection.late_pong:
                output.queue(connection.late_pong)
                connection.late_pong = b""
                self.flush_later(connection)
