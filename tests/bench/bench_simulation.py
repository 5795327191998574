"""A simulated server with its clients' connections and its clock: deterministic runs of the load tester.

Time advances when the client is idle, and while the server works.
"""

from __future__ import annotations

import select
import socket
from typing import Any, cast

from zwoole.bench.loadtest import histogram
from zwoole.bench.loadtest.client import Clock, LoadClient, Window
from zwoole.bench.loadtest.opener import Attempt
from zwoole.bench.loadtest.plan import Plan, Target

MS = 1_000_000
NOWHERE = Target("127.0.0.1", 1, "/")
START_NS = 10**12


class Opened:
    """What a LoadClient needs of an open connection."""

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self.sock = sock
        self.received = b""
        self.deflate = None


class ServerEnd:
    """The server's end of a connection: it echoes, and answers a close frame."""

    def __init__(self, number: int) -> None:
        """Connect it to the client's connection of that number."""
        self.sock, self._near = socket.socketpair()
        self.sock.setblocking(False)
        self._near.setblocking(False)
        self._received = bytearray()
        self._outgoing = bytearray()
        self.attempt = cast(Attempt, Opened(number, self._near))

    def take(self) -> None:
        """Read everything available."""
        try:
            while data := self.sock.recv(1 << 20):
                self._received += data
        except (BlockingIOError, ConnectionResetError):
            pass

    def echo(self) -> bool:
        """Answer one frame; return whether there was a complete one."""
        if len(self._received) < 2:
            return False
        size, head = self._received[1] & 0x7F, 2
        if size >= 126:
            head = 4 if size == 126 else 10
            size = int.from_bytes(self._received[2:head], "big")
        whole = head + 4 + size
        if len(self._received) < whole:
            return False
        key = int.from_bytes(bytes(self._received[head : head + 4]) * (size // 4 + 1), "big") >> 8 * (4 - size % 4)
        payload = int.from_bytes(self._received[head + 4 : whole], "big") ^ key
        self._outgoing += bytes([self._received[0], self._received[1] & 0x7F]) + self._received[2:head]
        self._outgoing += payload.to_bytes(size, "big")
        is_close = self._received[0] == 0x88
        del self._received[:whole]
        self.flush()
        if is_close:
            self.sock.shutdown(socket.SHUT_WR)
        return True

    def flush(self) -> None:
        """Write as much as the kernel accepts."""
        try:
            while self._outgoing:
                del self._outgoing[: self.sock.send(self._outgoing)]
        except (BlockingIOError, BrokenPipeError):
            pass


class Simulation(Clock):
    """A clock, and a server that stalls between two times (in ms) and works for a fixed time on each message.

    Attributes:
        arrivals: when the server started with each message, in ns since the start.
    """

    def __init__(self, connections: int, *, stall_ms: tuple[int, int] = (0, 0), work_ns: int = 0) -> None:
        self.ends = [ServerEnd(number) for number in range(connections)]
        self.arrivals: list[int] = []
        self._now_ns = START_NS
        self._stall_ns = [START_NS + moment * MS for moment in stall_ms]
        self._work_ns = work_ns
        self._next = -1

    def now_ns(self) -> int:
        return self._now_ns

    def close(self) -> None:
        """Release its connections."""
        for end in self.ends:
            end.sock.close()

    def poll(self, epoll: select.epoll, nanoseconds: int) -> list[tuple[int, int]]:
        self._serve()
        events = epoll.poll(0)
        end_ns = self._now_ns + max(nanoseconds, 0)
        while not events and self._now_ns < end_ns:
            began, ended = self._stall_ns
            self._now_ns = min(end_ns, ended) if began <= self._now_ns < ended else end_ns
            self._serve()
            events = epoll.poll(0)
        return events

    poll_exactly = poll

    def _serve(self) -> None:
        """Answer one message, and write as many bytes as the sockets accept."""
        if self._stall_ns[0] <= self._now_ns < self._stall_ns[1]:
            return
        for end in self.ends:
            end.flush()
            end.take()
        for _ in self.ends:
            self._next = (self._next + 1) % len(self.ends)
            if self.ends[self._next].echo():
                self.arrivals.append(self._now_ns - START_NS)
                self._now_ns += self._work_ns
                return


class Run:
    """The counts of a LoadClient, in a window and, in ``later``, after it; times in ms."""

    def __init__(self, simulation: Simulation, duration_ms: int, opens_ms: int = 0, **terms: Any) -> None:
        plan = Plan(NOWHERE, connections=len(simulation.ends), **terms)
        client = LoadClient(plan, [end.attempt for end in simulation.ends], clock=simulation)
        client.run(Window(START_NS, START_NS + opens_ms * MS, duration_ms * MS, 1))
        self.ended_ms = (client.ended_ns - START_NS) / MS
        self.last_reply_ms = (client.tally.last_reply_ns - START_NS) / MS
        client.close()
        simulation.close()
        self.errors = dict(client.errors)
        parts = client.tally.take_finished()
        self.messages = sum(part[1] for part in parts if part[0] == 0)
        self.later = sum(part[1] for part in parts if part[0] > 0)
        self._latencies = histogram.empty()
        for part in parts:
            if part[0] >= 0:
                histogram.add_counts(self._latencies, part[3])

    def percentile_ms(self, percentile: float) -> float:
        """Return a percentile of all latencies."""
        return float(self._latencies.get_value_at_percentile(percentile)) / MS
