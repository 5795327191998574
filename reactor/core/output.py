"""The output queue of one connection: what waits to be sent to its client.

Small frames grow in one bytearray, so that all a connection was sent in a turn leaves in one call. A payload of LARGE
bytes or more is not copied there: it is queued by itself, and so is what has grown to FULL_CHUNK bytes; chunks leave
together by writev. A chunk is let go of when all of it has left.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from zwoole.shared.websocket.deflate import Job
from zwoole.shared.websocket.frames import append_header, build_frame

if TYPE_CHECKING:
    from zwoole.reactor.core.transport import Transport
    from zwoole.shared.wire.batches import BatchReader

LARGE = 16384
MAX_CHUNKS_PER_WRITE = 64
# Of one connection in a turn, so that a fast reader of much does not hold up the others: 1 MiB with its header.
WRITE_BYTES = (1 << 20) + LARGE
ALL_BYTES = 1 << 62
FULL_CHUNK = 65536  # not more, since one is moved as a whole when the kernel took a part, and kept until it took all
_LARGE = LARGE  # C integers in the compiled module
_FULL_CHUNK = FULL_CHUNK
_FIN = 0x80  # the first bit of a frame (RFC 6455 section 5.2)
CHUNK_COST = 64  # bytes of memory that a chunk takes beside those it holds


class Output:
    """What waits to be sent to one client.

    Attributes:
        queued: bytes waiting to be sent.
        framed: whether frames are queued one by one, so that the oldest can be dropped.
        line: messages that are being compressed, and what must stay behind them; None if there are none.
        pending: their bytes, which wait too and are not in `queued`.
        noted: the memory for all of it, as the account of all connections has it.
        full: whether it has risen to the high mark, and not fallen to the low one since.
        full_told: whether a worker was told so last.
    """

    __slots__ = ("_chunks", "_out", "framed", "full", "full_told", "line", "noted", "pending", "queued")

    def __init__(self) -> None:
        self.queued = 0
        self.framed = False
        self.line: deque[Job] | None = None
        self.pending = 0
        self.noted = 0
        self.full = False
        self.full_told = False
        self._out: bytearray | None = None
        self._chunks: deque[bytes | bytearray | memoryview] | None = None

    def queue(self, data: bytes) -> None:
        """Queue bytes as they are: a frame that is built, an HTTP response."""
        if self.framed or len(data) >= _LARGE:
            self._queue_chunk(data)
        else:
            out = self._out
            if out is None or len(out) >= _FULL_CHUNK:
                out = self._open_chunk()
            out += data
        self.queued += len(data)

    def queue_behind(self, data: bytes) -> None:
        """Queue bytes behind everything, also behind messages that are still being compressed."""
        if self.line is None:
            self.queue(data)
        else:
            self.line.append(Job(0, data, None, False))
            self.pending += len(data)

    def queue_message(self, opcode: int, event: BatchReader) -> None:
        """Queue the current event's payload as one frame, without a copy of its own where it is large."""
        size = event.body_size
        if self.framed:
            self.queue(build_frame(opcode, event.data()))
            return
        out = self._out
        if out is not None and len(out) >= _FULL_CHUNK:
            out = self._open_chunk()
        before = 0 if out is None else len(out)
        if size < _LARGE:
            out = self._out = event.append_frame(out, _FIN | opcode)
            self.queued += len(out) - before
            return
        if out is None:
            out = self._open_chunk()
        append_header(out, _FIN | opcode, size)
        self.queued += len(out) - before + size
        self._queue_chunk(event.data())

    def flush(self, transport: Transport, descriptor: int, most: int = WRITE_BYTES) -> int:
        """Send what the kernel takes, up to `most` bytes; return 0, or the errno of a connection that is broken.

        After it, `queued` tells whether EPOLLOUT is needed. Small frames, at most FULL_CHUNK bytes, leave as a whole.
        """
        if self._chunks is not None:
            return self._flush_chunks(transport, descriptor, most)
        out = self._out
        if out is None:
            return 0
        count = transport.write(descriptor, out)
        if count < 0:
            count = -count
            return 0 if count in (errno.EAGAIN, errno.EINTR) else count
        self.queued -= count
        if self.queued == 0:
            self._out = None
        else:
            del out[:count]
        return 0

    def held(self) -> int:
        """Return how much memory is held for what waits, the part of the first chunk that has left already included."""
        size = self.queued + self.pending
        chunks = self._chunks
        if chunks:
            first = chunks[0]
            if isinstance(first, memoryview):
                size += memoryview(first.obj).nbytes - len(first)
            size += len(chunks) * CHUNK_COST
        return size if self.framed else size + size // 8  # a buffer that grows has so much room to spare

    def drop_oldest(self, size: int) -> int:
        """Drop frames that have not begun to leave, the oldest first, until `size` bytes are free or none is left.

        Returns:
            How many were dropped.
        """
        chunks = self._chunks
        if chunks is None:
            return 0
        dropped = 0
        first = 1 if chunks and isinstance(chunks[0], memoryview) else 0  # a frame that has begun to leave
        while size > 0 and len(chunks) > first:
            size -= len(chunks[first])
            self.queued -= len(chunks[first])
            del chunks[first]
            dropped += 1
        return dropped

    def drop(self) -> None:
        """Forget what was queued."""
        self._out = None
        self._chunks = None
        self.queued = 0
        self.line = None
        self.pending = 0

    def _open_chunk(self) -> bytearray:
        """Return a new chunk in which small frames grow; the last one waits, full, in front of it."""
        if self._out is not None:
            if self._chunks is None:
                self._chunks = deque()
            self._chunks.append(self._out)
        out = self._out = bytearray()
        return out

    def _queue_chunk(self, data: bytes) -> None:
        if self._chunks is None:
            self._chunks = deque()
        if self._out is not None:
            self._chunks.append(self._out)
            self._out = None
        self._chunks.append(data)

    def _flush_chunks(self, transport: Transport, descriptor: int, most: int) -> int:
        """Send from the queue of chunks, many in a call, until the kernel is full, `most` have left or nothing is."""
        chunks = self._chunks
        if chunks is None:
            return 0
        while True:
            if not chunks:
                if self._out is None:
                    break
                chunks.append(self._out)  # not before: small frames behind a full kernel go on growing in one buffer
                self._out = None
            if most <= 0:
                return 0
            batch: list[bytes | bytearray | memoryview] = []
            size = 0
            while size < most and len(batch) < min(len(chunks), MAX_CHUNKS_PER_WRITE):
                chunk = chunks[len(batch)]
                size += len(chunk)
                batch.append(chunk if size <= most else memoryview(chunk)[: len(chunk) - (size - most)])
            count = transport.write_all(descriptor, batch)
            if count < 0:
                count = -count
                return 0 if count in (errno.EAGAIN, errno.EINTR) else count
            self.queued -= count
            most -= count
            while chunks and count >= len(chunks[0]):
                count -= len(chunks.popleft())
            if count:
                chunks[0] = memoryview(chunks[0])[count:]
                return 0
        self._chunks = None
        return 0
