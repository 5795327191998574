"""One client as the master holds it: its socket, its protocol state, its place in the flow, what waits to be sent.

It knows no policy. Reading belongs to inbound.py, the order of messages to router.py, the end to closing.py;
they change the fields below. What it does itself is the output queue.

Output: small frames grow in one bytearray, so that all a connection was sent in a turn leaves in one call. A
payload of LARGE bytes or more is not copied there: it is queued by itself, and so is what has grown to FULL_CHUNK
bytes; chunks leave together by writev. A chunk is let go of when all of it has left.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from zwoole.reactor.core.syscalls import write_from
from zwoole.shared.websocket.deflate import Deflater, Job
from zwoole.shared.websocket.frames import append_header, build_frame
from zwoole.shared.websocket.protocol import Protocol

if TYPE_CHECKING:
    from zwoole.shared.wire.batches import BatchReader

LARGE = 16384
MAX_CHUNKS_PER_WRITE = 64
# Of one connection in a turn, so that a fast reader of much does not hold up the others: 1 MiB with its header.
WRITE_BYTES = (1 << 20) + LARGE
ALL_BYTES = 1 << 62
FULL_CHUNK = 65536  # not more, since one is moved as a whole when the kernel took a part, and kept until it took all
_LARGE = LARGE  # C integers in the compiled module
_FULL_CHUNK = FULL_CHUNK
CHUNK_COST = 64  # bytes of memory that a chunk takes beside those it holds

# Stages of a connection's life.
HANDSHAKE = 0  # its HTTP head is arriving
OPEN = 1
ENDING = 2  # no more messages will be read; those accepted are being finished before the close frame goes out
CLOSING = 3  # our close frame is queued; the peer's is awaited
LINGERING = 4  # both close frames are through (or none will be): half-closed, waiting for the peer to go
GONE = 5  # the socket is closed


class Connection:
    """A client's connection.

    Attributes:
        fd: its public id.
        descriptor: its socket, -1 once closed.
        stage: one of the constants above.
        remote_addr, remote_port: the peer's address.
        accepted_at: when it was accepted, in monotonic seconds.
        head: the HTTP head as far as it has arrived, in HANDSHAKE.
        protocol: its RFC 6455 state, from OPEN on.
        handler: whether a coroutine handler serves it.
        state: what callbacks keep with it, packed; handed over with it.
        slot: the worker slot it belongs to, from OPEN on.
        owner: the link of the worker that was told of it, and is to be told the rest; None between two workers.
        adopting: whether it stands in its slot's line of those to be handed over.
        replays: how often in a row its messages went to a worker that died before it began them.
        outstanding, outstanding_bytes: events with its worker that have not finished.
        parked: (opcode, data) of messages accepted but not yet sent down, or None.
        parked_bytes: their size.
        unread: bytes read from the socket behind the last parked message, not yet parsed.
        waiting: whether it stands in its slot's line of those that the window stopped.
        interest: the epoll mask it is registered with.
        close_code, close_reason, close_initiator: how it ends, for the `close` callback.
        closed_down: whether the worker was told.
        eof: whether the client sent FIN.
        half_closed: whether we did.
        queued: bytes waiting to be sent.
        noted: the memory for them, as the account of all connections has it.
        full: whether what waits has risen to the high mark, and not fallen to the low one since.
        full_told: whether a worker was told so last.
        framed: whether frames are queued one by one, so that the oldest can be dropped.
        deflater: where permessage-deflate was agreed on: what compresses its messages; else None.
        line: messages that are being compressed, and what must stay behind them; None where there are none.
        pending: their bytes, which wait too and are not in `queued`.
        rereading: whether it stands in the loop's line of those to be looked at again.
        dirty: whether it stands in the line to be flushed at the end of the turn.
        heard: when it last gave a sign of life, on the loop's clock.
        pinged: when it was last pinged.
        late_pong: the pong that waits until the client has caught up, or b"".
        throttled: whether it is not read because it sent more than a rate allows.
        message_bucket, byte_bucket, control_bucket: when these will be full again.
        partial: bytes of a message that is not whole, as the account of all connections has them.
    """

    __slots__ = (
        "_chunks",
        "_out",
        "accepted_at",
        "adopting",
        "byte_bucket",
        "close_code",
        "close_initiator",
        "close_reason",
        "closed_down",
        "control_bucket",
        "deflater",
        "descriptor",
        "dirty",
        "eof",
        "fd",
        "framed",
        "full",
        "full_told",
        "half_closed",
        "handler",
        "head",
        "heard",
        "interest",
        "late_pong",
        "line",
        "message_bucket",
        "noted",
        "outstanding",
        "outstanding_bytes",
        "owner",
        "parked",
        "parked_bytes",
        "partial",
        "pending",
        "pinged",
        "protocol",
        "queued",
        "record",
        "remote_addr",
        "remote_port",
        "replays",
        "rereading",
        "slot",
        "stage",
        "state",
        "throttled",
        "unread",
        "waiting",
    )

    def __init__(self, fd: int, descriptor: int, remote_addr: str, remote_port: int) -> None:
        self.fd = fd
        self.descriptor = descriptor
        self.remote_addr = remote_addr
        self.remote_port = remote_port
        self.accepted_at = time.monotonic()
        self.stage = HANDSHAKE
        self.head: bytearray | None = None
        self.protocol: Protocol | None = None
        self.record = b""
        self.handler = False
        # Way down.
        self.state = b""
        self.slot: Any = None  # a WorkerSlot, which this module does not know
        self.owner: Any = None  # a WorkerLink
        self.adopting = False
        self.replays = 0
        self.outstanding = 0
        self.outstanding_bytes = 0
        self.parked: deque[tuple[int, bytes]] | None = None
        self.parked_bytes = 0
        self.unread = b""
        self.waiting = False
        self.interest = 0
        # What it may send, and whether it is there.
        self.heard = 0.0
        self.pinged = 0.0
        self.late_pong = b""
        self.throttled = False
        self.message_bucket = 0.0
        self.byte_bucket = 0.0
        self.control_bucket = 0.0
        self.partial = 0
        # The end.
        self.close_code = 0
        self.close_reason = ""
        self.close_initiator = ""
        self.closed_down = False
        self.eof = False
        self.half_closed = False
        # Way out.
        self.queued = 0
        self.noted = 0
        self.full = False
        self.full_told = False
        self.framed = False
        self.dirty = False
        self.deflater: Deflater | None = None
        self.line: deque[Job] | None = None
        self.pending = 0
        self.rereading = False
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
            out = self._out = event.append_frame(out, 0x80 | opcode)
            self.queued += len(out) - before
            return
        if out is None:
            out = self._open_chunk()
        append_header(out, 0x80 | opcode, size)
        self.queued += len(out) - before + size
        self._queue_chunk(event.data())

    def flush(self, most: int = WRITE_BYTES) -> int:
        """Send what the kernel takes, up to `most` bytes; return 0, or the errno of a connection that is broken.

        After it, `queued` tells whether EPOLLOUT is needed. Small frames, at most FULL_CHUNK bytes, leave as a whole.
        """
        if self._chunks is not None:
            return self._flush_chunks(most)
        out = self._out
        if out is None:
            return 0
        count = write_from(self.descriptor, out)
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

    def drop_output(self) -> None:
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

    def _flush_chunks(self, most: int) -> int:
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
            try:
                count = os.writev(self.descriptor, batch)
            except (BlockingIOError, InterruptedError):
                return 0
            except OSError as error:
                return error.errno or errno.EIO
            self.queued -= count
            most -= count
            while chunks and count >= len(chunks[0]):
                count -= len(chunks.popleft())
            if count:
                chunks[0] = memoryview(chunks[0])[count:]
                return 0
        self._chunks = None
        return 0
