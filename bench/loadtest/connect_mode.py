"""Mode connect: connections are opened, closed, and opened again, as fast as the server allows.

A connection counts when its handshake is complete, with the time from the connect to the response. Then it performs the
closing handshake, and the next connection starts when the server has closed the TCP connection.
"""

import itertools
import select
from collections import Counter
from collections.abc import Callable

from zwoole.bench.loadtest.client import Window
from zwoole.bench.loadtest.connection import clock_ns
from zwoole.bench.loadtest.content import Contents
from zwoole.bench.loadtest.handshake import HandshakeError
from zwoole.bench.loadtest.opener import CLOSE_FRAME, Attempt, Dialer, Opener, Step
from zwoole.bench.loadtest.tally import Tally

ERROR_KINDS = {"goodbye": "a closing handshake was broken off or not completed in time"}

CLOSE_TIMEOUT_S = 30.0


class ShortConnection(Attempt):
    """One connection from its start to its end."""

    def __init__(self, dialer: Dialer, number: int, tally: Tally) -> None:
        super().__init__(dialer, number)
        self._tally = tally
        self._is_open = False

    def expire(self) -> None:
        """End the connection because its time is over."""
        if self._is_open:
            self._fail(HandshakeError("goodbye", "the server has not closed the connection"))
        else:
            super().expire()

    def _opened(self) -> Step:
        now_ns = clock_ns()
        self._tally.end_intervals(now_ns)
        self._tally.record(now_ns - self.began_ns)
        self._is_open = True
        self.deadline_ns = now_ns + int(CLOSE_TIMEOUT_S * 1e9)
        self._outgoing = CLOSE_FRAME
        return self._send_close

    def _send_close(self) -> Step:
        self.wants = select.EPOLLOUT
        while self._outgoing:
            self._outgoing = self._outgoing[self.sock.send(self._outgoing) :]
        return self._await_close

    def _await_close(self) -> None:
        self.wants = select.EPOLLIN
        while more := self.sock.recv(4096):
            self.received += more
        if not has_close_frame(self.received):
            raise HandshakeError("goodbye", "the server closed the connection without a close frame")
        self.sock.close()


def has_close_frame(received: bytes) -> bool:
    """Return whether the last of the received frames is a close frame."""
    at = 0
    while at + 2 <= len(received):
        length = received[at + 1] & 0x7F
        header_bytes = {126: 4, 127: 10}.get(length, 2)
        if length >= 126:
            length = int.from_bytes(received[at + 2 : at + header_bytes], "big")
        if received[at] & 0x0F == 0x8:
            return True
        at += header_bytes + length
    return False


class ConnectClient:
    """The connections of one process in mode connect; ``tally`` and ``errors`` as in LoadClient."""

    def __init__(self, dialer: Dialer, at_once: int, first: int) -> None:
        """Keep ``at_once`` connections busy; ``first`` is the number of the first one."""
        self.tally = Tally(Contents(((0, 1),)), 1)
        self.errors: Counter[str] = Counter()
        self.first_error = ""
        self.still_open = 0
        self.ended_ns = 0
        self._dialer = dialer
        self._at_once = at_once
        self._numbers = itertools.count(first)
        self._opener = Opener()

    @property
    def connections(self) -> int:
        """The number of connections that are being opened or closed."""
        return len(self._opener)

    def run(self, window: Window, report: Callable[[], None] = lambda: None) -> None:
        """Open and close connections until the window closes, and wait for those under way."""
        tally = self.tally
        tally.begin(window.start_ns, window.opens_ns, window.interval_ns, window.intervals)
        opener = self._opener
        failed = 0  # in a row
        while clock_ns() < window.closes_ns and failed <= self._at_once:
            while len(opener) < self._at_once:
                opener.add(ShortConnection(self._dialer, next(self._numbers), tally))
            failed = self._collect_ended(opener, failed)
            tally.end_intervals(clock_ns())
            report()
        self.ended_ns = clock_ns()
        while len(opener):
            self._collect_ended(opener, 0)
        tally.end()
        report()

    def close(self) -> None:
        """Release what is left."""
        self._opener.close()

    def _collect_ended(self, opener: Opener, failed: int) -> int:
        """Count the connections that have ended; return how many have failed in a row, including the ``failed``
        before.
        """
        for visit in opener.turn():
            failed = failed + 1 if visit.error else 0
            if visit.error:
                self.errors[visit.error.kind] += 1
                self.first_error = self.first_error or str(visit.error)
        return failed
