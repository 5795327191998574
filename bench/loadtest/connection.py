"""The hot path of the load tester: a connection that sends messages and checks the replies.

Operations
    ``Connection.serve()`` makes one turn: one read, all replies checked, new messages, one write. A ``Stream`` records
    how far a connection has received the messages of one sender. The connections of a process share one ``Tally``.

Goals
    Cheaper than any server it measures: more than a million 64-byte messages a second on one core. Every reply is still
        verified: header, opcode, length, every byte of content, and order.

Plan
    Replies are not parsed but compared with the expected bytes. ``serve()`` stops at the first frame that differs and
    leaves it to its caller (client.py), which has time to find out what it is.

    A message may be sent if the connection's quota allows it. In a closed loop each reply raises the quota by one, and
    latency is measured from the write. In an open loop the clock raises the quota, whatever has been answered, and
    latency is measured from the time the message was due. So time that a message waits in the client because the server
    stalls is included (no coordinated omission).

Types come from connection.pxd. Without a compiler the same source runs many times slower.
"""

# ruff: noqa: RET505 - a kernel needs if/else: after an early return, Cython calls the other body unreachable

import os
import select
import socket
import ssl
import time
from array import array
from collections.abc import Sequence

from zwoole.bench.loadtest.tally import Tally, bucket

try:
    import cython
except ImportError:
    from zwoole.shared.uncompiled import cython  # type: ignore[assignment, no-redef, unused-ignore]


if cython.compiled:
    from cython.cimports.libc.errno import EAGAIN, EINTR, errno
    from cython.cimports.posix.time import CLOCK_MONOTONIC, clock_gettime, timespec
    from cython.cimports.posix.unistd import read, write
    from cython.cimports.zwoole.bench.loadtest.polling import POLLIN, pollfd, ppoll

COMPILED: bool = cython.compiled
UNKNOWN = 1 << 62  # number of a stream's messages that its sender has not reported yet

# What Connection.serve(), proceed() and send() return.
DONE = 0  # nothing to do until epoll reports the connection again
ODD_FRAME = 1  # at inbox_start there is something other than the expected reply or the beginning of it
TOGGLE_WRITING = 2  # start or stop asking epoll for EPOLLOUT
GONE = 3  # the server has closed the connection

_UNKNOWN = UNKNOWN
_AGAIN = -1  # returned by receive_into() and send_from() besides byte counts
_BROKEN = -2

_BUFFER_BYTES = 1 << 18  # read or written per turn and connection, unless one frame is longer
_OPEN_LOOP_FRAMES = 64  # read or written per turn in an open loop, which has no depth
_CONTROL_FRAME_BYTES = 127  # the longest control frame that a server may send
_SENDER_DIGITS = 6


# Kernels: the only functions with two bodies.


def clock_ns() -> int:
    """Return CLOCK_MONOTONIC in nanoseconds; on Linux all processes share it."""
    if cython.compiled:
        moment = cython.declare(timespec)
        clock_gettime(CLOCK_MONOTONIC, cython.address(moment))
        return moment.tv_sec * 1_000_000_000 + moment.tv_nsec  # type: ignore[no-any-return]
    else:
        return time.monotonic_ns()


def wait_readable(fd: int, nanoseconds: int) -> None:
    """Wait until a descriptor is readable or the time is over. epoll would round the time to whole milliseconds."""
    if cython.compiled:
        watched = cython.declare(pollfd)
        limit = cython.declare(timespec)
        watched.fd = fd
        watched.events = POLLIN
        limit.tv_sec = nanoseconds // 1_000_000_000
        limit.tv_nsec = nanoseconds % 1_000_000_000
        ppoll(cython.address(watched), 1, cython.address(limit), cython.NULL)
    else:
        select.select([fd], [], [], nanoseconds / 1e9)


def receive_into(fd: int, buffer: bytearray, start: int, end: int) -> int:
    """Read into ``buffer[start:end]``; return the number of bytes, 0 at the end of the stream, _AGAIN or _BROKEN."""
    if cython.compiled:
        target = cython.declare("unsigned char *", buffer)
        count: int = read(fd, target + start, end - start)
        if count >= 0:
            return count
        return _AGAIN if errno in (EAGAIN, EINTR) else _BROKEN
    else:
        try:
            return os.readv(fd, [memoryview(buffer)[start:end]])
        except BlockingIOError:
            return _AGAIN
        except OSError:
            return _BROKEN


def send_from(fd: int, buffer: bytearray, start: int, end: int) -> int:
    """Write ``buffer[start:end]``; return the number of bytes that the kernel accepted, _AGAIN or _BROKEN."""
    if cython.compiled:
        source = cython.declare("unsigned char *", buffer)
        count: int = write(fd, source + start, end - start)  # Python ignores SIGPIPE, so a closed peer is an errno
        if count >= 0:
            return count
        return _AGAIN if errno in (EAGAIN, EINTR) else _BROKEN
    else:
        try:
            return os.write(fd, memoryview(buffer)[start:end])
        except BlockingIOError:
            return _AGAIN
        except OSError:
            return _BROKEN


def moment(tally: Tally) -> int:
    """Return the run's time in nanoseconds."""
    return clock_ns() if tally.clock is None else tally.clock()


class Stream:
    """The messages of one sender, as one connection receives them."""

    __slots__ = ("expected", "late", "number", "sent")

    def __init__(self, number: int, sent: int = 0) -> None:
        self.number = number  # the sender's number, unique among all processes of the run
        self.sent = sent  # messages it has sent, or UNKNOWN
        self.expected = 0  # sequence number of the next expected reply
        self.late: set[int] = set()  # earlier messages that a later reply has overtaken

    def due(self) -> int:
        """Return the number of outstanding replies; 0 if the number of sent messages is unknown."""
        return 0 if self.sent == _UNKNOWN else self.sent - self.expected + len(self.late)


class Connection:
    """One connection after its handshake: its buffers, the stream it sends, and the streams it receives."""

    __slots__ = (
        "_inbox_bytes",
        "_outbox_bytes",
        "_sent_at",
        "_stream",
        "_tally",
        "_tls",
        "close_received",
        "close_sent",
        "fd",
        "first_due_ns",
        "gone",
        "inbox",
        "inbox_end",
        "inbox_start",
        "odd",
        "outbox",
        "outbox_end",
        "outbox_start",
        "own",
        "quota",
        "sock",
        "streams",
        "writing",
    )

    def __init__(
        self,
        tally: Tally,
        sock: socket.socket,
        own: Stream | None = None,
        streams: Sequence[Stream] = (),
        received: bytes = b"",
    ) -> None:
        """Take over a connection after its handshake.

        Args:
            tally: counts the replies.
            sock: the nonblocking socket.
            own: the stream it sends, if any.
            streams: the streams it receives, ordered by number from 0 unless there is only one.
            received: data that followed the handshake's response.
        """
        contents = tally.contents
        self._tally = tally
        self.sock = sock
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self.fd = sock.fileno()
        self.own = own
        self.streams = list(streams)
        self._stream = streams[0] if len(streams) == 1 else None

        at_once = tally.depth or _OPEN_LOOP_FRAMES
        self._inbox_bytes = max(min(at_once * contents.most_reply_bytes, _BUFFER_BYTES), contents.most_reply_bytes)
        self._inbox_bytes += _CONTROL_FRAME_BYTES + len(received)
        self.inbox = bytearray(received + bytes(self._inbox_bytes - len(received)))
        self.inbox_start = 0
        self.inbox_end = len(received)
        self.odd = False  # whether the caller is reading a frame or message itself

        self._outbox_bytes = max(min(at_once * contents.most_frame_bytes, _BUFFER_BYTES), contents.most_frame_bytes)
        self.outbox = bytearray(self._outbox_bytes if own else 0)
        self.outbox_start = 0
        self.outbox_end = 0
        self.writing = False  # whether epoll reports EPOLLOUT

        self.quota = tally.depth  # number of messages it may have sent by now
        self.first_due_ns = 0  # open loop: when its first message is due
        self._sent_at = array("Q", bytes(8 * (tally.ring + 1) if own else 0))

        self.close_sent = False
        self.close_received = False
        self.gone = False

    def serve(self) -> int:
        """Read once, check the replies, and write once; return DONE, ODD_FRAME, TOGGLE_WRITING or GONE."""
        tally = self._tally
        if self.inbox_start:
            rest = self.inbox_end - self.inbox_start
            if rest:
                self.inbox[:rest] = self.inbox[self.inbox_start : self.inbox_end]
            self.inbox_start = 0
            self.inbox_end = rest
        if self._tls is None:
            count = receive_into(self.fd, self.inbox, self.inbox_end, self._inbox_bytes)
        else:
            count = self._receive_tls()
        if count == 0 or count == _BROKEN:
            return GONE
        if count > 0:
            tally.now_ns = moment(tally)
            if tally.now_ns >= tally.interval_end_ns:
                tally.end_intervals(tally.now_ns)
            self.inbox_end += count
        return self.proceed()

    def proceed(self) -> int:
        """Check the replies in the inbox, then write; return the same as serve()."""
        if self._check_replies():
            return self.send()
        return ODD_FRAME

    def send(self) -> int:
        """Write the outbox and refill it while there are messages; return DONE, TOGGLE_WRITING or GONE."""
        while self.outbox_start < self.outbox_end or self.fill_outbox():
            if self._tls is None:
                count = send_from(self.fd, self.outbox, self.outbox_start, self.outbox_end)
            else:
                count = self._send_tls()
            if count == _BROKEN:
                return GONE
            if count > 0:
                self.outbox_start += count
            if self.outbox_start < self.outbox_end:
                return DONE if self.writing else TOGGLE_WRITING
        return TOGGLE_WRITING if self.writing else DONE

    def pending(self) -> bool:
        """Return whether TLS has already read data that epoll does not report."""
        return self._tls is not None and not self.gone and self._tls.pending() > 0

    def count_right(self, stream: Stream, size: int) -> None:
        """Count the reply to a stream's expected message as correct."""
        tally = self._tally
        tally.messages += 1
        tally.payload_bytes += size
        if stream is self.own:
            if tally.gap_ps:
                since_ns = self.first_due_ns + stream.expected * tally.gap_ps // 1000
            else:
                since_ns = self._sent_at[stream.expected & tally.ring]
            tally._latencies[bucket(tally.now_ns - since_ns)] += 1
        stream.expected += 1
        self.settle(stream)

    def settle(self, stream: Stream) -> None:
        """Record that one more message has its reply, correct or not."""
        tally = self._tally
        if stream.sent != _UNKNOWN:
            tally.unanswered -= 1
        tally.last_reply_ns = tally.now_ns
        if stream is self.own and not tally.gap_ps:
            self.quota += 1

    def fill_outbox(self) -> bool:
        """Fill the empty outbox with the messages that may be sent; return whether there are any."""
        own = self.own
        if own is None:
            return False
        contents = self._tally.contents
        limit = min(self.quota, self._tally.limit)
        first = own.sent
        end = 0
        while own.sent < limit:
            content = contents.of(own.number, own.sent)
            if end + content.frame_bytes > self._outbox_bytes:
                break
            content.write_frame(self.outbox, end, own.number, own.sent)
            end += content.frame_bytes
            own.sent += 1
        return self.note_sent(first, end)

    def note_sent(self, first: int, end: int) -> bool:
        """Record that the own messages from ``first`` on are in ``outbox[:end]``; return whether there are any."""
        own = self.own
        self.outbox_start = 0
        self.outbox_end = end
        if own is None or own.sent == first:
            return False
        tally = self._tally
        tally.unanswered += own.sent - first
        if not tally.gap_ps:
            now_ns = moment(tally)
            for sequence in range(first, own.sent):
                self._sent_at[sequence & tally.ring] = now_ns
        return True

    def _check_replies(self) -> bool:
        """Count correct replies; return whether the inbox then holds nothing but the beginning of another one."""
        if self.odd:
            return False
        contents = self._tally.contents
        while self.inbox_start < self.inbox_end:
            stream = self._stream if self._stream is not None else self._find_stream()
            if stream is None:
                return False
            content = contents.of(stream.number, stream.expected)
            available = self.inbox_end - self.inbox_start
            if available < content.reply_header_bytes or not content.is_header(self.inbox, self.inbox_start):
                return False
            if available < content.reply_bytes:
                return True
            payload = self.inbox_start + content.reply_header_bytes
            if stream.expected == stream.sent or not content.is_payload(
                self.inbox, payload, stream.number, stream.expected
            ):
                return False
            self.count_right(stream, content.size)
            self.inbox_start += content.reply_bytes
        return True

    def _find_stream(self) -> Stream | None:
        """Return the stream of the frame at ``inbox_start``, by the number in its stamp; None if there is none."""
        available = self.inbox_end - self.inbox_start
        if available < 2:
            return None
        length = self.inbox[self.inbox_start + 1]
        header = 2 if length < 126 else 4 if length == 126 else 10
        if available < header + _SENDER_DIGITS:
            return None
        number = 0
        for index in range(_SENDER_DIGITS):
            digit = self.inbox[self.inbox_start + header + index]
            number = (number << 4) + (digit - 48 if digit < 58 else digit - 87)
        return self.streams[number] if 0 <= number < len(self.streams) else None

    def _receive_tls(self) -> int:
        assert self._tls is not None
        try:
            with memoryview(self.inbox)[self.inbox_end : self._inbox_bytes] as room:
                return self._tls.recv_into(room)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return _AGAIN
        except OSError:
            return _BROKEN

    def _send_tls(self) -> int:
        assert self._tls is not None
        try:
            with memoryview(self.outbox)[self.outbox_start : self.outbox_end] as waiting:
                return self._tls.send(waiting)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return _AGAIN
        except OSError:
            return _BROKEN
