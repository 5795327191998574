"""Compresses output (permessage-deflate, RFC 7692) without blocking the loop.

A message of up to AT_ONCE bytes is deflated when it is pushed. A larger one becomes a *job* in a queue of its
connection (`Output.jobs`). Each turn of the loop spends SHARE_S on jobs, in steps, one connection after the other.
While a connection has jobs, everything that must stay behind them (messages, the close frame) joins this queue. Pongs
do not wait.

A broadcast is deflated once for all connections with the same window size. It does not refer to earlier messages, so it
is valid on connections with context takeover too; their own compressors then start with an empty window.
"""

from __future__ import annotations

import time
from collections import deque

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.sending.output_limits import OutputLimits
from zwoole.shared.websocket.deflate import RSV1, Deflater, Job, finish, new_compressor
from zwoole.shared.websocket.frames import build_frame

AT_ONCE = 32768  # bytes of a message; this many take less than 1 ms, whatever they are
SHARE_S = 0.001  # seconds of a turn for all jobs


class Compression:
    """Deflates and queues messages for connections that agreed on it."""

    def __init__(self, loop: Loop, limits: OutputLimits, threshold: int, level: int) -> None:
        """Create without jobs.

        Args:
            loop: the master's loop.
            limits: decides whether a message may be queued.
            threshold: messages of at least that many bytes are compressed.
            level: zlib's compression level.
        """
        self._loop = loop
        self._limits = limits
        self._min_size = threshold
        self._level = level
        self._busy: deque[Connection] = deque()  # connections with jobs
        self._working = False

    def push(self, connection: Connection, opcode: int, data: bytes) -> bool:
        """Queue a message, behind the connection's jobs if it has some; return whether there was room for it."""
        deflater: Deflater = connection.deflater  # type: ignore[assignment]
        if not self._limits.admit(connection, len(data)):
            return False
        if len(data) < self._min_size:
            connection.output.queue_behind(build_frame(opcode, data))
        elif len(data) > AT_ONCE or connection.output.jobs is not None:
            self._add_job(connection, Job(opcode, data, deflater.compressor(), False))
        else:
            compressor = deflater.compressor()
            connection.output.queue(build_frame(opcode | RSV1, compressor.compress(data) + finish(compressor)))
        self._loop.flush_later(connection)
        return True

    def broadcast(self, opcode: int, data: bytes) -> Broadcast:
        """Return a message to be queued for many connections."""
        return Broadcast(self, opcode, data, self._level, len(data) >= self._min_size)

    def queue_job(self, connection: Connection, job: Job) -> bool:
        """Queue a job of a broadcast; return whether there was room for it."""
        if not self._limits.admit(connection, job.size):
            return False
        if job.frame is not None and connection.output.jobs is None:
            connection.output.queue(job.frame)
            if job.isolated and connection.deflater is not None:
                connection.deflater.forget()
        else:
            self._add_job(connection, job)
        self._loop.flush_later(connection)
        return True

    def _add_job(self, connection: Connection, job: Job) -> None:
        if connection.output.jobs is None:
            connection.output.jobs = deque()
            self._busy.append(connection)
            if not self._working:
                self._working = True
                self._loop.next_turn(self._work)
        connection.output.jobs.append(job)
        connection.output.pending += job.size

    def _work(self) -> None:
        """Spend this turn's share of time on jobs."""
        ends = time.perf_counter() + SHARE_S
        while self._busy and time.perf_counter() < ends:
            connection = self._busy.popleft()
            if self._serve(connection):
                self._busy.append(connection)
        self._working = bool(self._busy)
        if self._working:
            self._loop.next_turn(self._work)

    def _serve(self, connection: Connection) -> bool:
        """Continue the first job of a connection, and queue the frames that are ready; return whether jobs are left."""
        jobs: deque[Job] | None = connection.output.jobs
        if jobs is None:  # the socket was closed
            return False
        if jobs[0].frame is None:
            jobs[0].step()
        while jobs and (frame := jobs[0].frame) is not None:
            job = jobs.popleft()
            connection.output.pending -= job.size
            connection.output.queue(frame)
            if job.isolated and connection.deflater is not None:
                connection.deflater.forget()
            self._loop.flush_later(connection)
        if not jobs:
            connection.output.jobs = None
        return bool(jobs)


class Broadcast:
    """One message for many connections, deflated once for each window size."""

    def __init__(self, compression: Compression, opcode: int, data: bytes, level: int, worthwhile: bool) -> None:
        self._compression = compression
        self._opcode = opcode
        self._data = data
        self._level = level
        self._worthwhile = worthwhile
        self._jobs: dict[int, Job] = {}  # by window bits; 0 for the message that is not deflated

    def queue_for(self, connection: Connection) -> bool:
        """Queue it for one connection; return whether there was room for it."""
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
