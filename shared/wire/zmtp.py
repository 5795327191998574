"""ZMTP 3.1, the protocol of ZeroMQ: the bytes of one connection in, whole messages out. No socket.

https://rfc.zeromq.org/spec/37/. Both ends are DEALER sockets and the mechanism is NULL, so any DEALER of libzmq can be
the other end. Master and worker speak it themselves, in their loops, because libzmq would do it in threads of its own:
each message then takes two more wake-ups on each side.

Operations: give the greeting and, after the peer's, READY; take what was read; return the next message; return the
header of a frame.

Goals: a message costs one copy out of the read buffer. Nothing that the peer announces takes memory before it arrives:
the buffer grows with what has been read, at most to twice of that.

Plan: bytes are read to the end of `buffer`, and messages are taken from its beginning. When all is taken the buffer
begins anew. Commands (READY, PING, ERROR) are handled in between; `replies` has what must be sent for them.
"""

from __future__ import annotations

from zwoole.shared.wire.buffers import copy_out

GREETING_BYTES = 64
BUFFER_BYTES = 1 << 18
MAX_MESSAGE_BYTES = 1 << 32  # of all parts together
MAX_COMMAND_BYTES = 8192  # READY may carry metadata of the peer's own
MAX_PING_CONTEXT = 16

_BUFFER_BYTES = BUFFER_BYTES  # these are C integers in the compiled module
_MAX_MESSAGE_BYTES = MAX_MESSAGE_BYTES
_MAX_COMMAND_BYTES = MAX_COMMAND_BYTES
_PART_COST = 64  # bytes of memory that a part takes besides its data
_MIN_ROOM = 4096
_MAX_REPLIES_BYTES = 1024

# Flags of a frame (section 2.2 of the RFC); the others are reserved and must be 0.
_MORE = 0x01
_LONG = 0x02
_COMMAND = 0x04
_RESERVED = 0xF8
_SHORT_HEADER = 2
_LONG_HEADER = 9
_MAX_SHORT = 255

# Stages of a connection.
_AWAITS_GREETING = 0
_AWAITS_READY = 1
_OPEN = 2

_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"  # the eight bytes between these two are padding, and may be anything
_VERSION_AT = 10
_MECHANISM_AT = 12
_MECHANISM_END = 32
_NULL = b"NULL".ljust(_MECHANISM_END - _MECHANISM_AT, b"\0")

GREETING = (_SIGNATURE + b"\x03\x01" + _NULL).ljust(GREETING_BYTES, b"\0")


class ZmtpError(Exception):
    """The peer has broken the protocol, or refuses to go on; the connection is of no use any more."""


def header(size: int, more: bool) -> bytes:
    """Return the header of a message frame.

    Args:
        size: the length of the frame's body in bytes.
        more: whether another part of the same message follows.
    """
    if size <= _MAX_SHORT:
        return bytes((_MORE if more else 0, size))
    return bytes((_LONG | (_MORE if more else 0),)) + size.to_bytes(8, "big")


def command(name: bytes, data: bytes) -> bytes:
    """Return the frame of a command. Its name and data must be shorter than 255 bytes together."""
    return bytes((_COMMAND, 1 + len(name) + len(data), len(name))) + name + data


def metadata(name: bytes, value: bytes) -> bytes:
    """Return one property of a READY command."""
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


READY = command(b"READY", metadata(b"Socket-Type", b"DEALER") + metadata(b"Identity", b""))


class Zmtp:
    """One end of a connection.

    Attributes:
        ready: whether both ends have said READY, so that messages may be sent.
        buffer: read to `buffer[end:]`, after `make_room`.
        end: the end of what was read.
        replies: bytes that must be sent before any message: the greeting, READY and PONG. The sender empties it.
    """

    __slots__ = ("_parts", "_parts_size", "_stage", "_start", "buffer", "end", "ready", "replies")

    def __init__(self) -> None:
        self.ready = False
        self.buffer = bytearray(_BUFFER_BYTES)
        self.end = 0
        self.replies = bytearray(GREETING)
        self._stage = _AWAITS_GREETING
        self._start = 0
        self._parts: list[bytes] = []  # of the message that has not arrived whole
        self._parts_size = 0

    def make_room(self) -> None:
        """Make room for reading behind `end`: move what is left to the beginning, or enlarge the buffer."""
        left = self.end - self._start
        capacity = len(self.buffer)
        if left == 0:
            self._start = self.end = 0
            if capacity > _BUFFER_BYTES:
                self.buffer = bytearray(_BUFFER_BYTES)
            return
        if self._start > 0:
            self.buffer[:left] = self.buffer[self._start : self.end]
            self._start = 0
            self.end = left
        if capacity - self.end < _MIN_ROOM:
            self.buffer += bytes(capacity)

    def next_message(self) -> list[bytes] | None:
        """Return the parts of the next message that has arrived whole; None if there is none.

        Raises:
            ZmtpError: the peer has broken the protocol, or has sent ERROR.
        """
        buffer = self.buffer
        while self._stage != _AWAITS_GREETING or self._take_greeting():
            start = self._start
            available = self.end - start
            if available < _SHORT_HEADER:
                return None
            flags = buffer[start]
            if flags & _RESERVED or (flags & _COMMAND and flags & _MORE):
                raise ZmtpError(f"a frame with the flags {flags:#04x}")
            if flags & _LONG:
                if available < _LONG_HEADER:
                    return None
                head = _LONG_HEADER
                if buffer[start + 1] & 0x80:  # the highest bit must be 0: sizes are below 2^63
                    raise ZmtpError("a frame of 2^63 bytes or more")
                size = 0
                for i in range(start + 1, start + _LONG_HEADER):
                    size = size << 8 | buffer[i]
            else:
                head = _SHORT_HEADER
                size = buffer[start + 1]
            most = _MAX_COMMAND_BYTES if flags & _COMMAND else _MAX_MESSAGE_BYTES - self._parts_size
            if size > most:
                raise ZmtpError(f"a frame of {size} bytes, where {most} are allowed")
            if available - head < size:
                return None
            begin = start + head
            self._start = begin + size
            part = copy_out(buffer, begin, size)
            if flags & _COMMAND:
                self._take_command(part)
                continue
            if self._stage != _OPEN:
                raise ZmtpError("a message before READY")
            if not flags & _MORE and not self._parts_size:
                return [part]
            self._parts.append(part)
            self._parts_size += size + _PART_COST
            if not flags & _MORE:
                parts = self._parts
                self._parts = []
                self._parts_size = 0
                return parts
        return None

    def _take_greeting(self) -> bool:
        """Check the peer's greeting, as far as it has arrived; return whether it is complete."""
        come = bytes(self.buffer[: min(self.end, GREETING_BYTES)])
        if come[:1] not in (b"", b"\xff") or come[9:10] not in (b"", b"\x7f"):
            raise ZmtpError("a greeting that is not ZMTP's")
        version = come[_VERSION_AT : _VERSION_AT + 1]
        if version and version[0] < 3:
            raise ZmtpError(f"a peer that speaks ZMTP {version[0]}; 3.0 is the oldest that is understood")
        if len(come) < GREETING_BYTES:
            return False
        mechanism = come[_MECHANISM_AT:_MECHANISM_END]
        if mechanism != _NULL:
            raise ZmtpError(f"the mechanism {mechanism.rstrip(bytes(1))!r} where NULL is expected")
        self._start = GREETING_BYTES
        self._stage = _AWAITS_READY
        self.replies += READY
        return True

    def _take_command(self, body: bytes) -> None:
        """Handle a command: a name, whose length is its first byte, and data. Unknown ones are ignored."""
        length = body[0] if body else 0
        if not 0 < length < len(body):
            raise ZmtpError("a command without a name")
        name = body[1 : 1 + length]
        data = body[1 + length :]
        if name == b"ERROR":
            reason = data[1 : 1 + data[0]] if data else b""
            raise ZmtpError(f"the peer says: {reason.decode('ascii', 'backslashreplace')!r}")
        if self._stage == _AWAITS_READY:
            if name != b"READY":
                raise ZmtpError(f"the command {name!r} before READY")
            kind = unpack_metadata(data).get(b"socket-type")
            if kind != b"DEALER":
                raise ZmtpError(f"a peer of the type {kind!r} where DEALER is expected")
            self._stage = _OPEN
            self.ready = True
        elif name == b"PING":
            context = data[2:]  # the first two bytes are the time to live
            if len(data) < 2 or len(context) > MAX_PING_CONTEXT:
                raise ZmtpError("a malformed PING")
            if len(self.replies) < _MAX_REPLIES_BYTES:  # the rest is for a peer that does not read them anyway
                self.replies += command(b"PONG", context)


def unpack_metadata(data: bytes) -> dict[bytes, bytes]:
    """Return the properties of a READY command by their names, in lower case: case does not matter in a name.

    Raises:
        ZmtpError: they are malformed.
    """
    found = {}
    at = 0
    while at < len(data):
        begin = at + 1
        value = begin + data[at] + 4
        end = value + int.from_bytes(data[value - 4 : value], "big")
        if data[at] == 0 or value > len(data) or end > len(data):
            raise ZmtpError("malformed metadata")
        found[data[begin : value - 4].lower()] = data[value:end]
        at = end
    return found
