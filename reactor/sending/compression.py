"""Compressing what is sent (permessage-deflate), without holding up the loop.

A message of up to AT_ONCE bytes is deflated when it is pushed. A larger one becomes a *job* of its connection: each
turn of the loop has a share of time for jobs, taken in slices, one connection after the other. While a connection has a
job, everything that must stay behind it (messages, the close frame) joins its line; pongs do not wait.

A broadcast is deflated once for all connections with the same window. It refers to nothing before it, so it suits those
with context takeover too, whose own compressor forgets what it had before.
"""

from __future__ import annotations

import time
from collections import deque

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.sending.output_limits import OutputLimits
from zwoole.shared.websocket.deflate import RSV1, Deflater, Job, finish, new_compressor
from zwoole.shared.websocket.frames import build_frame

AT_ONCE = 32768  # bytes that take less than a millisecond, whatever they are
SHARE_S = 0.001  # of a turn, for all jobs


class Compression:
    """Deflates and queues messages for connections that agreed on it."""

    def __init__(self, loop: Loop, limits: OutputLimits, threshold: int, level: int) -> None:
        """Begin without jobs; `threshold` is the size in bytes from which on messages are compressed."""
        self._loop = loop
        self._limits = limits
        self._min_size = threshold
        self._level = level
        self._busy: deque[Connection] = deque()  # connections with a line
        self._working = False

    def push(self, connection: Connection, opcode: int, data: bytes) -> bool:
        """Queue a message, now or behind the line; answer whether there was room for it."""
        deflater: Deflater = connection.deflater  # type: ignore[assignment]
        if not self._limits.admit(connection, len(data)):
            return False
        if len(data) < self._min_size:
            connection.output.queue_behind(build_frame(opcode, data))
        elif len(data) > AT_ONCE or connection.output.line is not None:
            self._join_line(connection, Job(opcode, data, deflater.compressor(), False))
        else:
            compressor = deflater.compressor()
            connection.output.queue(build_frame(opcode | RSV1, compressor.compress(data) + finish(compressor)))
        self._loop.flush_later(connection)
        return True

    def broadcast(self, opcode: int, data: bytes) -> Broadcast:
        """Return a message that is to be queued for many connections."""
        return Broadcast(self, opcode, data, self._level, len(data) >= self._min_size)

    def queue_job(self, connection: Connection, job: Job) -> bool:
        """Queue an isolated job's frame; answer whether there was room for it."""
        if not self._limits.admit(connection, job.size):
            return False
        if job.frame is not None and connection.output.line is None:
            connection.output.queue(job.frame)
            if job.isolated and connection.deflater is not None:
                connection.deflater.forget()
        else:
            self._join_line(connection, job)
        self._loop.flush_later(connection)
        return True

    def _join_line(self, connection: Connection, job: Job) -> None:
        if connection.output.line is None:
            connection.output.line = deque()
            self._busy.append(connection)
            if not self._working:
                self._working = True
                self._loop.next_turn(self._work)
        connection.output.line.append(job)
        connection.output.pending += job.size

    def _work(self) -> None:
        """Spend a turn's share on the lines."""
        ends = time.perf_counter() + SHARE_S
        while self._busy and time.perf_counter() < ends:
            connection = self._busy.popleft()
            if self._serve(connection):
                self._busy.append(connection)
        self._working = bool(self._busy)
        if self._working:
            self._loop.next_turn(self._work)

    def _serve(self, connection: Connection) -> bool:
        """Go on with the first of a connection's line, and queue what is ready; answer whether a line is left."""
        line: deque[Job] | None = connection.output.line
        if line is None:  # its socket was closed
            return False
        if line[0].frame is None:
            line[0].step()
        while line and (frame := line[0].frame) is not None:
            job = line.popleft()
            connection.output.pending -= job.size
            connection.output.queue(frame)
            if job.isolated and connection.deflater is not None:
                connection.deflater.forget()
            self._loop.flush_later(connection)
        if not line:
            connection.output.line = None
        return bool(line)


class Broadcast:
    """One message for many connections: deflated once for each size of window."""

    def __init__(self, compression: Compression, opcode: int, data: bytes, level: int, worthwhile: bool) -> None:
        self._compression = compression
        self._opcode = opcode
        self._data = data
        self._level = level
        self._worthwhile = worthwhile
        self._jobs: dict[int, Job] = {}  # by window bits; 0: not deflated

    def queue_for(self, connection: Connection) -> bool:
        """Queue it for one connection; answer whether there was room for it."""
        deflater: Deflater = connection.deflater  # type: ignore[assignment]
        bits = deflater.bits if self._worthwhile else 0
        job = self._jobs.get(bits)
        if job is None:
            job = self._jobs[bits] = self._job(bits)
        return self._compression.queue_job(connection, job)

    def _job(self, bits: int) -> Job:
        if not bits:
            return Job(0, build_frame(self._opcode, self._data), None, False)
        job = Job(self._opcode, self._data, new_compressor(bits, self._level), True)
        while job.frame is None and job.size <= AT_ONCE:
            job.step()
        return job
