"""The event loop: one turn is wait, read, act, flush.

Rules, after redis' ae.c: what was queued in a turn leaves at its end, one call per connection (of very many, some in
each turn) and one ZeroMQ message per worker, and EPOLLOUT is armed only for what is left over; one connection is read
once a turn; connections are accepted last, so that a descriptor closed in this turn cannot mean another client within
it; timers run after I/O.

ZeroMQ's descriptor is edge-triggered in spirit: it tells once. So after every receive and every send the socket is
asked whether it has more, and what it has is read in this turn or the next, which then does not sleep.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from time import monotonic

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.deadlines import Clock, Deadlines, Wheel
from zwoole.reactor.core.output import WRITE_BYTES
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.stages import STAGE_OPEN
from zwoole.reactor.core.worker_link import WorkerLink

IN = select.EPOLLIN
OUT = select.EPOLLOUT
BROKEN = select.EPOLLHUP | select.EPOLLERR
_IN = IN  # C integers in the compiled module
_OUT = OUT
_BROKEN = BROKEN

MAX_EVENTS = 1024
FLUSHES_PER_TURN = 512  # about a millisecond; a broadcast to thousands leaves in several turns
MAX_SLEEP_S = 1.0
FEW_EVENTS = 3.0  # in a turn, below which a wait is no time to do more at once in
LAG_WEIGHT = 1 / 64  # of a turn in the smoothed lag


class Loop:
    """Waits for descriptors and calls who waits for them.

    Attributes:
        turns: how many turns there have been.
        clock: the time that timeouts run on.
        now: its time, as of this turn.
        lag: seconds that a turn takes beyond its wait, smoothed: what comes meanwhile waits that long at most.
        longest_lag: those of the longest turn.
        busy_poll_s: seconds for which it may look again and again before it sleeps.
    """

    def __init__(self, registry: Registry, epoll: select.epoll | None = None, clock: Clock | None = None) -> None:
        """Prepare to turn.

        Args:
            registry: the connections.
            epoll: tells which descriptors are ready; a test may have its own.
            clock: the time that timeouts run on, likewise.
        """
        self.turns = 0
        self.clock = clock or Clock()
        self.now = self.clock.now
        self.lag = 0.0
        self.longest_lag = 0.0
        self.busy_poll_s = 0.0
        self._epoll = epoll or select.epoll()
        self._registry = registry
        self._sources: dict[int, Callable[[], None]] = {}
        self._last_sources: dict[int, Callable[[], None]] = {}
        self._links: dict[int, WorkerLink] = {}
        self._timers: list[Deadlines | Wheel] = []
        self._timers_due = 0.0
        self._dirty: list[Connection] = []
        self._touched: list[WorkerLink] = []
        self._again: list[WorkerLink] = []
        self._reread: list[Connection] = []
        self._served: list[WorkerLink] = []
        self._next_turn: list[Callable[[], None]] = []
        self._received: list[WorkerLink] = []
        self._before_sleep: list[Callable[[], None]] = []
        self._running = False
        self._usual_wait = 0.0
        self._usual_events = 0.0

    def connect(
        self,
        readable: Callable[[Connection], None],
        unread: Callable[[Connection], None],
        broken: Callable[[Connection, int], None],
        flushed: Callable[[Connection], None],
        queue_changed: Callable[[Connection], None],
        batch: Callable[[WorkerLink], bool],
        serve: Callable[[WorkerLink], None],
    ) -> None:
        """Say what is called in a turn; once, before the first turn.

        Args:
            readable: called with a connection that can be read.
            unread: called with a connection of which something read earlier is to be looked at again.
            broken: called with a connection and an errno, 0 if the kernel gave none.
            flushed: called with a connection whose output has left, while its end is in progress.
            queue_changed: called with a connection whose output queue has another size than before.
            batch: called with a worker link that may have batches; returns whether it has more.
            serve: called with a worker link that was to be served in this turn.
        """
        self._readable = readable
        self._unread = unread
        self._broken = broken
        self._flushed = flushed
        self._queue_changed = queue_changed
        self._batch = batch
        self._serve = serve

    # What is listened to.

    def add_source(self, descriptor: int, ready: Callable[[], None], last: bool = False) -> None:
        """Call `ready` whenever the descriptor is readable; `last` after all the connections of the turn."""
        (self._last_sources if last else self._sources)[descriptor] = ready
        self._epoll.register(descriptor, IN)

    def remove_source(self, descriptor: int) -> None:
        """Stop listening to a descriptor added with add_source."""
        if self._sources.pop(descriptor, None) or self._last_sources.pop(descriptor, None):
            self._epoll.unregister(descriptor)

    def add_link(self, link: WorkerLink) -> None:
        """Listen to a worker; its batches go to `on_batch`."""
        self._links[link.descriptor] = link
        self._epoll.register(link.descriptor, IN)
        self._again.append(link)

    def remove_link(self, link: WorkerLink) -> None:
        """Stop listening to a worker."""
        if self._links.pop(link.descriptor, None) is not None:
            self._epoll.unregister(link.descriptor)

    def add_deadlines(self, seconds: float, expired: Callable[[int], None]) -> Deadlines:
        """Return a new kind of timeout that this loop runs."""
        deadlines = Deadlines(self.clock, seconds, expired)
        self._timers.append(deadlines)
        return deadlines

    def add_wheel(self, expired: Callable[[int], None]) -> Wheel:
        """Return a new kind of timeout, whose lengths differ, that this loop runs."""
        wheel = Wheel(self.clock, expired)
        self._timers.append(wheel)
        return wheel

    def before_sleep(self, call: Callable[[], None]) -> None:
        """Call `call` before every sleep, the first included, for sockets whose descriptor does not tell twice."""
        self._before_sleep.append(call)

    # What a connection waits for.

    def listen(self, connection: Connection, mask: int) -> None:
        """Set the epoll mask of a connection; HUP and ERR are reported whatever it is."""
        if connection.descriptor < 0 or connection.interest == mask:
            return
        self._epoll.modify(connection.descriptor, mask)
        connection.interest = mask

    def join(self, connection: Connection) -> None:
        """Begin to read a new connection."""
        self._epoll.register(connection.descriptor, IN)
        connection.interest = IN

    def leave(self, connection: Connection) -> None:
        """Stop listening to a connection whose socket is about to be closed."""
        self._epoll.unregister(connection.descriptor)

    def flush_later(self, connection: Connection) -> None:
        """Send what the connection has queued at the end of this turn."""
        if not connection.dirty:
            connection.dirty = True
            self._dirty.append(connection)

    def flush_connections(self, most: int = WRITE_BYTES) -> None:
        """Send what connections have queued by now, of each at most so many bytes: the rest leaves in the next turn."""
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
        """Look at what is unread or not inflated of the connection at the end of this turn."""
        if not connection.rereading:
            connection.rereading = True
            self._reread.append(connection)

    def next_turn(self, call: Callable[[], None]) -> None:
        """Call `call` once in the next turn, which then does not sleep."""
        self._next_turn.append(call)

    def serve_later(self, link: WorkerLink) -> None:
        """Go on in the next turn with what one turn was too short for."""
        if link not in self._served:
            self._served.append(link)

    # The turn.

    def run(self) -> None:
        """Turn until `stop` is called."""
        self._running = True
        while self._running:
            self.turn()

    def stop(self) -> None:
        """End `run` after this turn."""
        self._running = False

    def turn(self) -> None:
        """Wait for what there is to do, and do it."""
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
                self._again.append(link)
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
        """Return what is ready, after `timeout` seconds at most.

        To be woken takes longer than a short wait. So where the last waits were short and found little, which is when
        nobody else needs the CPU time, what is ready is looked up again and again for a while.
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
        """Return how long the turn may wait, and note from when on a timer may have run out."""
        self._timers_due = 0.0
        # The last two: what came up while flushing.
        if self._again or self._reread or self._served or self._touched or self._dirty or self._next_turn:
            return 0.0
        self._timers_due = self.clock.now + MAX_SLEEP_S
        for timer in self._timers:
            end = timer.next_end()
            if end is not None and end < self._timers_due:
                self._timers_due = end
        return max(self._timers_due - self.clock.now, 0.0)

    def _connection_ready(self, connection: Connection, mask: int) -> None:
        if mask & _IN:  # first: what arrived before a reset still counts
            self._readable(connection)
        elif mask & _BROKEN:
            self._broken(connection, 0)
            return
        if mask & _OUT and connection.descriptor >= 0:
            connection.heard = self.now  # room in a kernel buffer that was full: the peer has taken something
            self.flush_later(connection)

    def _receive(self) -> None:
        again = self._again
        self._again = []
        self._received += again
        for link in again:
            if self._batch(link) and link not in self._again:
                self._again.append(link)

    def _reread_connections(self) -> None:
        connections = self._reread
        self._reread = []
        for connection in connections:
            connection.rereading = False
            self._unread(connection)

    def _flush(self) -> None:
        """Send the batches, then what each connection was sent; of many connections those that were first in the line.

        The rest follow in the next turns, which do not sleep, and only when all are through credit is given back.
        """
        touched = self._touched
        self._touched = []
        for link in touched:
            link.touched = False
            link.flush()
            if link.readable():
                self._again.append(link)
        if self._again:
            self._receive()
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
        for link in received:  # only now their credit is due: word of full buffers has been written before it
            if link.unfinished is None:
                link.settled = link.received
                if link.owes_credit():
                    self.touch(link)

    def _flush_connection(self, connection: Connection, most: int) -> None:
        if connection.descriptor < 0:
            return
        output = connection.output
        error = output.flush(connection.transport, connection.descriptor, most)
        if error:
            self._broken(connection, error)
            return
        if output.queued + output.pending != output.noted:
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
