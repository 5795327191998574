"""The output queue of one connection.

Small frames are appended to one bytearray, so that all output of a turn leaves in one call. A payload of LARGE bytes or
more is not copied into it: the payload becomes a chunk of its own. When the bytearray has grown to FULL_CHUNK bytes it
becomes a chunk too. Chunks leave together by writev; the memory of a chunk is freed when all of it has left.
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
# Larger payloads in the ring are copied before they are sent. From memory that another core has just written the
# kernel copies more slowly than the C library: at 256 KiB that costs as much as the copy, at 1 MiB much more.
MOST_FROM_RING = 131072
MAX_CHUNKS_PER_WRITE = 64
# Bytes that one connection may send in a turn, so that a fast reader does not delay the others: a message of 1 MiB and
# its header.
WRITE_BYTES = (1 << 20) + LARGE
ALL_BYTES = 1 << 62
FULL_CHUNK = 65536  # small, since a partial write moves the rest of a chunk, and its memory stays until all has left
_MOST_FROM_RING = MOST_FROM_RING
_LARGE = LARGE  # these are C integers in the compiled module
_FULL_CHUNK = FULL_CHUNK
_FIN = 0x80  # the first bit of a frame (RFC 6455 section 5.2)
CHUNK_COST = 64  # bytes of memory that a chunk takes in addition to its data


class Output:
    """The output queued for one client.

    Attributes:
        queued: bytes that are ready to be sent.
        framed: whether each frame is a chunk of its own, so that the oldest can be dropped.
        jobs: a queue of messages that are being compressed, and of frames that must stay behind them; None if there are
            none.
        pending: bytes of what is in `jobs`; they are not counted in `queued`.
        noted: bytes of memory that are counted for this queue in `OutputLimits.total`.
        full: whether it has reached the high watermark, and not fallen to the low one since.
        full_told: the value of `full` that the worker was told last.
    """

    __slots__ = ("_chunks", "_out", "framed", "full", "full_told", "jobs", "noted", "pending", "queued")

    def __init__(self) -> None:
        self.queued = 0
        self.framed = False
        self.jobs: deque[Job] | None = None
        self.pending = 0
        self.noted = 0
        self.full = False
        self.full_told = False
        self._out: bytearray | None = None
        self._chunks: deque[bytes | bytearray | memoryview] | None = None

    def queue(self, data: bytes) -> None:
        """Queue bytes as they are: a complete frame, an HTTP response."""
        if self.framed or len(data) >= _LARGE:
            self._queue_chunk(data)
        else:
            out = self._out
            if out is None or len(out) >= _FULL_CHUNK:
                out = self._open_chunk()
            out += data
        self.queued += len(data)

    def queue_behind(self, data: bytes) -> None:
        """Queue bytes behind all other output, also behind messages that are still being compressed."""
        if self.jobs is None:
            self.queue(data)
        else:
            self.jobs.append(Job(0, data, None, False))
            self.pending += len(data)

    def queue_message(self, opcode: int, event: BatchReader) -> None:
        """Queue the payload of the current event of a batch as one frame; a large payload is not copied again."""
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

    def send_from_ring(self, transport: Transport, descriptor: int, opcode: int, event: BatchReader) -> int:
        """Send the payload of the current event of a batch as one frame, straight from the ring in which it lies. What
        the kernel does not take is copied and queued.

        Args:
            transport: writes to the socket.
            descriptor: the socket.
            opcode: the frame's opcode.
            event: the event.

        Returns:
            1; 0 if nothing was done, because the payload is small or very large, lies elsewhere, or would overtake
            other output; or a negative errno if the connection is broken.
        """
        size = event.body_size
        if size < _LARGE or size > _MOST_FROM_RING or self.queued or self.framed or self.jobs is not None:
            return 0
        view = event.view()
        if view is None:
            return 0
        header = bytearray()
        append_header(header, _FIN | opcode, len(view))
        count = transport.write_all(descriptor, [header, view])
        if count < 0:
            if -count not in (errno.EAGAIN, errno.EINTR):
                return count
            count = 0
        if count < len(header):
            self.queue(bytes(header[count:]))
            count = len(header)
        rest = bytes(view[count - len(header) :])
        if rest:
            self._queue_chunk(rest)
            self.queued += len(rest)
        return 1

    def flush(self, transport: Transport, descriptor: int, most: int = WRITE_BYTES) -> int:
        """Send as much as the kernel takes; if `queued` is not 0 afterwards, EPOLLOUT or another turn is needed.

        Args:
            transport: writes to the socket.
            descriptor: the socket.
            most: bytes to send at most. If there is only one buffer of small frames, it is written whole.

        Returns:
            0, or the errno if the connection is broken.
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
        """Return the bytes of memory that the queue holds, with the part of the first chunk that has already left."""
        size = self.queued + self.pending
        chunks = self._chunks
        if chunks:
            first = chunks[0]
            if isinstance(first, memoryview):
                size += memoryview(first.obj).nbytes - len(first)
            size += len(chunks) * CHUNK_COST
        return size if self.framed else size + size // 8  # a growing bytearray allocates about 1/8 more than it holds

    def drop_oldest(self, size: int) -> int:
        """Drop the oldest frames that have not begun to leave, until `size` bytes are free or no such frame is left.

        Returns:
            How many frames were dropped.
        """
        chunks = self._chunks
        if chunks is None:
            return 0
        dropped = 0
        first = 1 if chunks and isinstance(chunks[0], memoryview) else 0  # a memoryview is a frame that is partly sent
        while size > 0 and len(chunks) > first:
            size -= len(chunks[first])
            self.queued -= len(chunks[first])
            del chunks[first]
            dropped += 1
        return dropped

    def drop(self) -> None:
        """Discard all output."""
        self._out = None
        self._chunks = None
        self.queued = 0
        self.jobs = None
        self.pending = 0

    def _open_chunk(self) -> bytearray:
        """Return a new bytearray for small frames; the present one, if there is one, becomes a chunk before it."""
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
        """Send chunks, many per call, until the kernel takes no more, `most` bytes have left or the queue is empty."""
        chunks = self._chunks
        if chunks is None:
            return 0
        while True:
            if not chunks:
                if self._out is None:
                    break
                chunks.append(self._out)  # only now: while the kernel's buffer is full, small frames share one buffer
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
