"""The hot part of the load tester: message contents, and a connection that sends them and checks the replies.

Operations
    ``Content`` writes the frame of any message and recognises its reply. ``Connection.serve()`` makes one turn of a
    closed loop: one read, all replies checked, new messages for the answered ones, one write. ``Tally`` is what the
    connections of a process count together.

Goals
    Cheaper than any server it measures: more than a million 64-byte messages a second on one core. No reply is taken
    on trust all the same: header, opcode, length, every byte of content, and order.

Plan
    No reply is parsed: it is compared with the bytes it has to consist of. ``serve()`` stops at the first frame that
    differs and leaves it to its caller (loadclient.py), which has time to find out what is wrong with it.

Types come from loadcore.pxd. Without a compiler the same source runs as it is, many times slower.
"""

# ruff: noqa: RET505 - in a kernel the branch that does not apply has to go as a whole, or Cython calls it unreachable

import os
import random
import socket
import time
from array import array

try:
    import cython
except ImportError:

    class cython:  # type: ignore[no-redef]
        """Stands in for the compiler's module, which need not be installed where this runs uncompiled."""

        compiled = False


if cython.compiled:
    from cython.cimports.libc.errno import EAGAIN, EINTR, errno
    from cython.cimports.libc.string import memcmp, memcpy
    from cython.cimports.posix.time import CLOCK_MONOTONIC, clock_gettime, timespec
    from cython.cimports.posix.unistd import read, write

COMPILED: bool = cython.compiled
HISTOGRAM_BUCKETS = 4352  # enough for latencies below 2**40 ns, 18 minutes

OP_TEXT = 0x1
OP_BINARY = 0x2
FIN = 0x80
MASKED = 0x80

# What Connection.serve(), proceed() and send() return.
DONE = 0  # nothing is to be done until epoll reports the connection again
ODD_FRAME = 1  # at inbox_start is something else than the right reply or the beginning of one
TOGGLE_WRITING = 2  # epoll has to be asked for EPOLLOUT from now on, or no longer
GONE = 3  # the server has ended the connection

_LAST_BUCKET = HISTOGRAM_BUCKETS - 1
_AGAIN = -1  # what receive_into() and send_from() return besides a number of bytes
_BROKEN = -2

_HEX = b"0123456789abcdef"
_STAMP_BYTES = 16  # 6 hexadecimal digits of connection number, 10 of sequence number
_TEXT_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ,.-"
_FILLER_SHIFTS = 251  # a prime, so that fillers repeat in step with no power of two
_BUFFER_BYTES = 1 << 18  # what a connection may read or write per turn, unless one frame is longer
_CONTROL_FRAME_BYTES = 127  # the longest control frame a server may send


# Kernels: the only functions with two bodies.


def clock_ns() -> int:
    """Return CLOCK_MONOTONIC in nanoseconds, on Linux one clock for all processes."""
    if cython.compiled:
        moment = cython.declare(timespec)
        clock_gettime(CLOCK_MONOTONIC, cython.address(moment))
        return moment.tv_sec * 1_000_000_000 + moment.tv_nsec  # type: ignore[no-any-return]
    else:
        return time.monotonic_ns()


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
    """Write ``buffer[start:end]``; return the number of bytes the kernel took, _AGAIN or _BROKEN."""
    if cython.compiled:
        source = cython.declare("unsigned char *", buffer)
        count: int = write(fd, source + start, end - start)  # Python ignores SIGPIPE, so a gone peer is an errno
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


def same_bytes(left: bytearray, left_start: int, right: bytearray, right_start: int, count: int) -> bool:
    """Return whether ``count`` bytes are equal in both buffers."""
    if cython.compiled:
        left_bytes = cython.declare("unsigned char *", left)
        right_bytes = cython.declare("unsigned char *", right)
        difference: int = memcmp(left_bytes + left_start, right_bytes + right_start, count)
        return difference == 0
    else:
        return left[left_start : left_start + count] == right[right_start : right_start + count]


def mask_into(target: bytearray, at: int, source: bytearray, start: int, count: int, key: bytearray) -> None:
    """Write ``source[start:start + count]`` to ``target[at:]``, masked with the eight bytes of ``key`` in turn."""
    if cython.compiled:
        to = cython.declare("unsigned char *", target)
        of = cython.declare("unsigned char *", source)
        key_bytes = cython.declare("unsigned char *", key)
        key_word = cython.declare("unsigned long long")
        word = cython.declare("unsigned long long")
        done = cython.declare("Py_ssize_t", 0)
        memcpy(cython.address(key_word), key_bytes, 8)
        while done + 8 <= count:  # eight bytes a step; the C compiler makes it sixteen
            memcpy(cython.address(word), of + start + done, 8)
            word ^= key_word
            memcpy(to + at + done, cython.address(word), 8)
            done += 8
        while done < count:
            to[at + done] = of[start + done] ^ key_bytes[done & 7]
            done += 1
    else:
        plain = int.from_bytes(source[start : start + count], "little")
        repeated = int.from_bytes((key * (count // 8 + 1))[:count], "little")
        target[at : at + count] = (plain ^ repeated).to_bytes(count, "little")


def bucket(nanoseconds: int) -> int:
    """Return the histogram bucket of a latency: 128 to each power of two, so none is wider than 0.8 % of its values."""
    shift = 0
    while nanoseconds >> shift >= 256:
        shift += 1
    index = (shift << 7) + (nanoseconds >> shift)
    return index if index < _LAST_BUCKET else _LAST_BUCKET


def frame_header(opcode: int, length: int, mask_bit: int) -> bytes:
    """Return the header of an unfragmented frame as far as the mask key."""
    if length < 126:
        return bytes((FIN | opcode, mask_bit | length))
    if length < 1 << 16:
        return bytes((FIN | opcode, mask_bit | 126)) + length.to_bytes(2, "big")
    return bytes((FIN | opcode, mask_bit | 127)) + length.to_bytes(8, "big")


class Content:
    """What the messages say and their frames: a stamp that no other message of the run has, then filler.

    The filler is a piece of one random text that starts elsewhere for each message, so that bytes of another message,
    or the right ones at another place, are never the expected ones. Messages shorter than the stamp have its tail:
    they are told apart only from their neighbours (15 of them with one byte, none with no byte).
    """

    __slots__ = (
        "_filler",
        "_filler_bytes",
        "_header",
        "_key",
        "_key_state",
        "_reply_header",
        "_stamp",
        "_stamp_bytes",
        "frame_bytes",
        "opcode",
        "reply_bytes",
        "reply_header_bytes",
        "size",
    )

    def __init__(self, size: int, binary: bool = False, seed: int = 1) -> None:
        chance = random.Random(seed)
        self.size = size
        self.opcode = OP_BINARY if binary else OP_TEXT
        self._stamp = bytearray(_STAMP_BYTES)
        self._stamp_bytes = min(size, _STAMP_BYTES)
        self._filler_bytes = size - self._stamp_bytes
        letters = range(256) if binary else _TEXT_LETTERS
        self._filler = bytearray(chance.choices(letters, k=self._filler_bytes + _FILLER_SHIFTS))
        self._key = bytearray(8)
        self._key_state = chance.randrange(1, 1 << 32)
        self._header = bytearray(frame_header(self.opcode, size, MASKED))
        self._reply_header = bytearray(frame_header(self.opcode, size, 0))
        self.reply_header_bytes = len(self._reply_header)
        self.reply_bytes = self.reply_header_bytes + size
        self.frame_bytes = len(self._header) + 4 + size

    def write_frame(self, target: bytearray, at: int, number: int, sequence: int) -> None:
        """Write the masked frame of one message to ``target[at:at + frame_bytes]``."""
        for index in range(self.reply_header_bytes):
            target[at + index] = self._header[index]
        at += self.reply_header_bytes
        self._next_key()
        for index in range(4):
            target[at + index] = self._key[index]
        at += 4
        self._write_stamp(number, sequence)
        mask_into(target, at, self._stamp, _STAMP_BYTES - self._stamp_bytes, self._stamp_bytes, self._key)
        # 16 bytes of stamp are whole turns of the key, and a shorter one has no filler after it
        mask_into(
            target, at + self._stamp_bytes, self._filler, self._shift(number, sequence), self._filler_bytes, self._key
        )

    def is_header(self, received: bytearray, at: int) -> bool:
        """Return whether the header of every right reply is at ``received[at:]``."""
        return same_bytes(received, at, self._reply_header, 0, self.reply_header_bytes)

    def is_payload(self, received: bytearray, at: int, number: int, sequence: int) -> bool:
        """Return whether the payload of that message is at ``received[at:at + size]``."""
        self._write_stamp(number, sequence)
        return same_bytes(
            received, at, self._stamp, _STAMP_BYTES - self._stamp_bytes, self._stamp_bytes
        ) and same_bytes(
            received, at + self._stamp_bytes, self._filler, self._shift(number, sequence), self._filler_bytes
        )

    def _write_stamp(self, number: int, sequence: int) -> None:
        digits = (number << 40) | sequence
        for index in range(_STAMP_BYTES):
            self._stamp[index] = _HEX[(digits >> (60 - 4 * index)) & 15]

    def _shift(self, number: int, sequence: int) -> int:
        return (number * 31 + sequence) % _FILLER_SHIFTS

    def _next_key(self) -> None:
        # xorshift32: a few operations, and never 0, which would leave the frame unmasked
        state = self._key_state
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        self._key_state = state
        for index in range(8):
            self._key[index] = (state >> (8 * (index & 3))) & 255


class Tally:
    """What the connections of one process share: the content, the terms of the run, and the counts.

    ``messages`` counts the right replies that came from ``opens_ns`` until ``closes_ns``. ``latencies`` is their
    histogram (see bucket()), from just before the write of a message to just after the read that ended its reply.
    """

    __slots__ = (
        "_latencies",
        "closes_ns",
        "content",
        "depth",
        "last_reply_ns",
        "latencies",
        "limit",
        "messages",
        "now_ns",
        "opens_ns",
        "ring",
        "unanswered",
    )

    def __init__(self, content: Content, depth: int) -> None:
        self.content = content
        self.depth = depth  # messages outstanding per connection
        self.ring = (1 << (depth - 1).bit_length()) - 1  # sequence & ring is the place of a message's send time
        self.opens_ns = self.closes_ns = 0
        self.limit = 0  # messages per connection
        self.now_ns = 0  # time of the last read
        self.last_reply_ns = 0
        self.unanswered = 0  # on all connections
        self.messages = 0
        self.latencies = self._latencies = array("Q", bytes(8 * HISTOGRAM_BUCKETS))


class Connection:
    """One connection after its handshake: its buffers, and the messages it has sent and waits for."""

    __slots__ = (
        "_inbox_bytes",
        "_outbox_bytes",
        "_sent_at",
        "_tally",
        "close_received",
        "close_sent",
        "expected",
        "fd",
        "inbox",
        "inbox_end",
        "inbox_start",
        "late",
        "number",
        "outbox",
        "outbox_end",
        "outbox_start",
        "sent",
        "skip",
        "sock",
        "unanswered",
        "writing",
    )

    def __init__(self, tally: Tally, sock: socket.socket, number: int, received: bytes = b"") -> None:
        """Take a connected nonblocking socket and what it received after the handshake's response."""
        content = tally.content
        self._tally = tally
        self.sock = sock
        self.fd = sock.fileno()
        self.number = number  # unique among all processes of the run

        self._inbox_bytes = max(min(tally.depth * content.reply_bytes, _BUFFER_BYTES), content.reply_bytes)
        self._inbox_bytes += _CONTROL_FRAME_BYTES + len(received)
        self.inbox = bytearray(received + bytes(self._inbox_bytes - len(received)))
        self.inbox_start = 0
        self.inbox_end = len(received)
        self.skip = 0  # bytes yet to come of a frame that is already judged

        self._outbox_bytes = max(min(tally.depth * content.frame_bytes, _BUFFER_BYTES), content.frame_bytes)
        self.outbox = bytearray(self._outbox_bytes)
        self.outbox_start = 0
        self.outbox_end = 0
        self.writing = False  # whether epoll is asked for EPOLLOUT

        self.sent = 0  # sequence number of the next message
        self.expected = 0  # sequence number of the message whose reply is due next
        self.late: set[int] = set()  # those before it that a later reply has overtaken
        self.unanswered = 0
        self._sent_at = array("Q", bytes(8 * (tally.ring + 1)))

        self.close_sent = False
        self.close_received = False

    def serve(self) -> int:
        """Read once, check the replies, and write once; return DONE, ODD_FRAME, TOGGLE_WRITING or GONE."""
        if self.inbox_start:
            rest = self.inbox_end - self.inbox_start
            if rest:
                self.inbox[:rest] = self.inbox[self.inbox_start : self.inbox_end]
            self.inbox_start = 0
            self.inbox_end = rest
        count = receive_into(self.fd, self.inbox, self.inbox_end, self._inbox_bytes)
        if count == 0 or count == _BROKEN:
            return GONE
        if count > 0:
            self._tally.now_ns = clock_ns()
            self.inbox_end += count
        return self.proceed()

    def proceed(self) -> int:
        """Check what the inbox holds, then write; return the same as serve()."""
        if self._check_replies():
            return self.send()
        return ODD_FRAME

    def send(self) -> int:
        """Write the outbox, filled again when it is empty; return DONE, TOGGLE_WRITING or GONE."""
        while self.outbox_start < self.outbox_end or self._fill_outbox():
            count = send_from(self.fd, self.outbox, self.outbox_start, self.outbox_end)
            if count == _BROKEN:
                return GONE
            if count > 0:
                self.outbox_start += count
            if self.outbox_start < self.outbox_end:
                return DONE if self.writing else TOGGLE_WRITING
        return TOGGLE_WRITING if self.writing else DONE

    def count_right(self) -> None:
        """Count the reply to the expected message as right."""
        tally = self._tally
        if tally.opens_ns <= tally.now_ns < tally.closes_ns:
            tally.messages += 1
            tally._latencies[bucket(tally.now_ns - self._sent_at[self.expected & tally.ring])] += 1
        self.expected += 1
        self.settle()

    def settle(self) -> None:
        """Note that one message more has its reply, right or wrong."""
        self.unanswered -= 1
        self._tally.unanswered -= 1
        self._tally.last_reply_ns = self._tally.now_ns

    def _check_replies(self) -> bool:
        """Count right replies as far as they go; return whether nothing is left but the beginning of another."""
        content = self._tally.content
        if self.skip:
            skipped = min(self.skip, self.inbox_end - self.inbox_start)
            self.inbox_start += skipped
            self.skip -= skipped
        while self.inbox_start < self.inbox_end:
            available = self.inbox_end - self.inbox_start
            if available < content.reply_header_bytes or not content.is_header(self.inbox, self.inbox_start):
                return False
            if available < content.reply_bytes:
                return True
            payload = self.inbox_start + content.reply_header_bytes
            if self.expected == self.sent or not content.is_payload(self.inbox, payload, self.number, self.expected):
                return False
            self.count_right()
            self.inbox_start += content.reply_bytes
        return True

    def _fill_outbox(self) -> bool:
        """Fill the empty outbox with the messages that may join those outstanding; return whether there are any."""
        tally = self._tally
        content = tally.content
        first = self.sent
        end = 0
        while (
            self.unanswered < tally.depth
            and self.sent < tally.limit
            and end + content.frame_bytes <= self._outbox_bytes
        ):
            content.write_frame(self.outbox, end, self.number, self.sent)
            end += content.frame_bytes
            self.sent += 1
            self.unanswered += 1
        self.outbox_start = 0
        self.outbox_end = end
        if end == 0:
            return False
        tally.unanswered += self.sent - first
        now_ns = clock_ns()
        for sequence in range(first, self.sent):
            self._sent_at[sequence & tally.ring] = now_ns
        return True
