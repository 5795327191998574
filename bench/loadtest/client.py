"""The connections of one load process: the epoll loop around connection.py, for all modes except connect.

``LoadClient.run()`` lets the connections send as their quotas allow until the time or the messages are used up, and
waits for outstanding replies; ``close()`` performs the closing handshakes. Correct replies are handled in
connection.py, so this module may be slow: it handles everything else. replies.py reads it, and judge.py counts it.
"""

import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zwoole.bench.loadtest import judge, replies
from zwoole.bench.loadtest.connection import (
    DONE,
    GONE,
    ODD_FRAME,
    UNKNOWN,
    Connection,
    Stream,
    clock_ns,
    wait_readable,
)
from zwoole.bench.loadtest.content import FIN, Contents, masked_frame
from zwoole.bench.loadtest.deflate import DeflatingConnection, Inflater
from zwoole.bench.loadtest.judge import Judge
from zwoole.bench.loadtest.opener import CLOSE_FRAME, Attempt
from zwoole.bench.loadtest.pace import Pace
from zwoole.bench.loadtest.plan import ECHO, FANOUT, IDLE, Plan
from zwoole.bench.loadtest.replies import OP_PONG, Event, EventType, ReplyReader
from zwoole.bench.loadtest.tally import FOREVER_NS, Tally

ERROR_KINDS = (
    replies.ERROR_KINDS
    | judge.ERROR_KINDS
    | {
        "closed": "the server closed a connection during the run",
        "close": "a closing handshake was not completed in time",
    }
)

CLOSE_TIMEOUT_S = 30.0

_POLL_NS = 50_000_000  # how late a deadline may be noticed if nothing arrives
_AT_ONCE = 128  # connections served per turn, so that no turn takes long
_UNLIMITED = 1 << 40

Sent = dict[int, int]  # sender -> number of its messages


@dataclass(frozen=True)
class Window:
    """When a run starts, and when counting begins and ends, in nanoseconds of clock_ns(). See Tally about intervals."""

    start_ns: int
    opens_ns: int
    interval_ns: int
    intervals: int

    @property
    def closes_ns(self) -> int:
        """The end of the last interval."""
        return min(self.opens_ns + self.intervals * self.interval_ns, FOREVER_NS)


class Clock:
    """The time of a run, and ways to wait."""

    def now_ns(self) -> int:
        """Return the time in nanoseconds."""
        return clock_ns()

    def poll(self, epoll: select.epoll, nanoseconds: int) -> list[tuple[int, int]]:
        """Return epoll's events, waiting ``nanoseconds`` at most; epoll rounds to whole milliseconds."""
        return epoll.poll(nanoseconds / 1e9, _AT_ONCE)

    def poll_exactly(self, epoll: select.epoll, nanoseconds: int) -> list[tuple[int, int]]:
        """Do the same with a timeout that is accurate to microseconds."""
        events = epoll.poll(0, _AT_ONCE)
        if not events and nanoseconds > 0:
            wait_readable(epoll.fileno(), nanoseconds)
            events = epoll.poll(0, _AT_ONCE)
        return events


class LoadClient:
    """The connections of one process.

    Attributes:
        tally: counts of correct replies.
        errors: counts by ERROR_KINDS.
        first_error: the first error in words, if its kind does not say everything.
        still_open: number of connections open at the end of the run.
        ended_ns: the end of the run, or the end of the last connection if that was earlier.
    """

    def __init__(
        self,
        plan: Plan,
        opened: Sequence[Attempt],
        exchange: Callable[[Sent], Sent] = dict,
        clock: Clock | None = None,
    ) -> None:
        """Take over connections.

        Args:
            plan: the parameters of the run.
            opened: connections after their handshake; ``close()`` closes them.
            exchange: fan-out: called once with the messages that this process has sent; returns those of all processes.
            clock: replaces CLOCK_MONOTONIC.
        """
        self._clock = clock or Clock()
        self._plan = plan
        self._exchange = exchange
        self._spacing_ps = int(1e12 / plan.rate) if plan.rate else 0
        contents = Contents(plan.sizes, plan.binary)
        self.tally = Tally(contents, plan.depth, self._spacing_ps * plan.sending, clock.now_ns if clock else None)
        self._judge = Judge(self.tally)
        self.errors = self._judge.errors
        self.first_error = ""
        self.still_open = 0
        self.ended_ns = 0
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}
        self._readers: dict[int, ReplyReader] = {}
        for attempt in opened:
            self._take_over(attempt)

    @property
    def connections(self) -> int:
        """The number of connections that are open now."""
        return len(self._by_fd)

    def run(self, window: Window, report: Callable[[], None] = lambda: None) -> None:
        """Send as the plan says, then wait for outstanding replies.

        Args:
            window: the time of the run. All replies are checked, and counted per interval.
            report: called often; it may take finished intervals from the tally.
        """
        tally = self.tally
        tally.begin(window.start_ns, window.opens_ns, window.interval_ns, window.intervals)
        tally.limit = self._plan.messages or _UNLIMITED
        tally.now_ns = tally.last_reply_ns = self._clock.now_ns()
        pace = self._pace(window)
        if self._plan.messages:
            self._expect(dict.fromkeys(range(self._plan.senders), self._plan.messages))
        for connection in list(self._by_fd.values()):
            self._attend(connection, connection.proceed())
            self._serve_pending(connection)
        while self._by_fd and not self._plan.messages and self._clock.now_ns() < window.closes_ns:
            self._turn(pace, report)
        self._send_due(pace)
        self.still_open = len(self._by_fd)
        self.ended_ns = self._clock.now_ns()
        self._drain(report)
        if self._plan.messages:
            self.ended_ns = tally.last_reply_ns
        tally.end()
        report()

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send a close frame with 1000 on each connection, wait for the server to close them, and release them.

        The wait ends when no connection was closed for ``timeout_s``.
        """
        self.tally.limit = 0
        for connection in list(self._by_fd.values()):
            connection.close_sent = True
            self._queue(connection, CLOSE_FRAME)
        left = len(self._by_fd)
        deadline_ns = self._clock.now_ns() + int(timeout_s * 1e9)
        while left and self._clock.now_ns() < deadline_ns:
            self._turn(None, lambda: None)
            if len(self._by_fd) < left:
                left = len(self._by_fd)
                deadline_ns = self._clock.now_ns() + int(timeout_s * 1e9)
        for connection in list(self._by_fd.values()):
            connection.close_received = False  # a close frame without the end of the stream is only half of it
            self._end(connection)
        self._epoll.close()

    # The beginning and the end of a run.

    def _take_over(self, attempt: Attempt) -> None:
        own: Stream | None = None
        streams: list[Stream] = []
        if self._plan.mode == ECHO:
            own = Stream(attempt.number)
            streams = [own]
        elif self._plan.mode == FANOUT:
            streams = [Stream(sender, UNKNOWN) for sender in range(self._plan.senders)]
            if attempt.number < self._plan.senders:
                own = streams[attempt.number] = Stream(attempt.number)
        if attempt.deflate:
            connection: Connection = DeflatingConnection(self.tally, attempt, own, streams)
            inflater = Inflater(attempt.deflate)
        else:
            connection = Connection(self.tally, attempt.sock, own, streams, attempt.received)
            inflater = None
        contents = None if self._plan.mode == IDLE else self.tally.contents
        self._readers[connection.fd] = ReplyReader(contents, inflater)
        self._by_fd[connection.fd] = connection
        self._epoll.register(attempt.sock, select.EPOLLIN)

    def _pace(self, window: Window) -> Pace | None:
        sending = [connection for connection in self._by_fd.values() if connection.own]
        if not self._plan.rate or not sending:
            return None
        first = sending[0].own
        assert first
        return Pace(sending, first.number, self._plan.sending, self._spacing_ps, window.start_ns, window.closes_ns)

    def _expect(self, sent: Sent) -> None:
        """Fan-out: store the final number of each sender's messages, if it was unknown."""
        for connection in self._by_fd.values():
            for stream in connection.streams:
                if stream.sent == UNKNOWN:
                    stream.sent = sent.get(stream.number, 0)
                    self.tally.unanswered += stream.due()

    def _drain(self, report: Callable[[], None]) -> None:
        """Wait for outstanding replies, and count those that do not come."""
        tally = self.tally
        if not self._plan.messages:
            if not self._plan.rate:
                tally.limit = 0  # in an open loop, messages that were due but could not be sent still go out
            tally.last_reply_ns = self._clock.now_ns()
            if self._plan.mode == FANOUT:
                own = [connection.own for connection in self._by_fd.values() if connection.own]
                self._expect(self._exchange({stream.number: stream.sent for stream in own}))
        patience_ns = int(self._plan.patience_s * 1e9)
        while self._by_fd and tally.unanswered and self._clock.now_ns() - tally.last_reply_ns < patience_ns:
            self._turn(None, report)
        for connection in self._by_fd.values():
            self._judge.give_up(connection)

    # The loop.

    def _turn(self, pace: Pace | None, report: Callable[[], None]) -> None:
        if pace is None:
            events = self._clock.poll(self._epoll, _POLL_NS)
        else:
            idle_ns = min(pace.next_due_ns - self._clock.now_ns(), _POLL_NS)
            events = self._clock.poll_exactly(self._epoll, idle_ns)
        for fd, event in events:
            connection = self._by_fd[fd]
            result = connection.send() if event == select.EPOLLOUT else connection.serve()
            if result != DONE:
                self._attend(connection, result)
            if self._plan.target.secure:
                self._serve_pending(connection)
        self._send_due(pace)
        now_ns = self._clock.now_ns()
        if now_ns >= self.tally.interval_end_ns:
            self.tally.end_intervals(now_ns)
        report()

    def _send_due(self, pace: Pace | None) -> None:
        for connection in pace.release(self._clock.now_ns()) if pace else ():
            if not connection.writing:
                self._attend(connection, connection.send())

    def _serve_pending(self, connection: Connection) -> None:
        """Serve data that TLS has already read, which epoll does not report."""
        while connection.pending():
            self._attend(connection, connection.serve())

    def _attend(self, connection: Connection, result: int) -> None:
        """Do what serve(), proceed() or send() left undone."""
        while result == ODD_FRAME:
            event = self._readers[connection.fd].read(connection)
            if event is None:
                result = connection.send()
            else:
                self._handle(connection, event)
                if connection.gone:
                    return
                result = connection.proceed()
        if result == GONE:
            self._end(connection)
        elif result != DONE:
            connection.writing = not connection.writing
            self._epoll.modify(connection.fd, select.EPOLLIN | (select.EPOLLOUT if connection.writing else 0))

    def _handle(self, connection: Connection, event: Event) -> None:
        if event.type is EventType.MESSAGE:
            if self._plan.mode != IDLE:
                self._judge.message(connection, event.payload)
        elif event.type is EventType.PING:
            self._queue(connection, masked_frame(FIN | OP_PONG, event.payload))
        elif event.type is EventType.CLOSE:
            connection.close_received = True
            if not connection.close_sent:
                self._end(connection)
        elif event.type in (EventType.WRONG, EventType.FATAL):
            self._judge.wrong(connection, event.kind)
            if event.type is EventType.FATAL:
                self._end(connection)

    def _queue(self, connection: Connection, frame: bytes) -> None:
        """Append a control frame to the outbox, and write."""
        if connection.outbox_start == connection.outbox_end:
            connection.outbox_start = connection.outbox_end = 0
        end = connection.outbox_end + len(frame)
        connection.outbox[connection.outbox_end : end] = frame  # grows the outbox if it is full
        connection.outbox_end = end
        self._attend(connection, connection.send())

    def _end(self, connection: Connection) -> None:
        """Release a connection; count an error unless the closing handshake is complete."""
        if not connection.close_sent:
            self.errors["closed"] += 1
        elif not connection.close_received:
            self.errors["close"] += 1
        self._judge.give_up(connection)
        self._epoll.unregister(connection.fd)
        del self._by_fd[connection.fd], self._readers[connection.fd]
        connection.gone = True
        connection.sock.close()
