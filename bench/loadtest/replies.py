"""Reads frames other than the plain expected reply: control frames, fragments, compressed and wrong ones.

``ReplyReader.read()`` takes the available data from a connection's inbox, however little, and returns an event once it
is complete. In the middle of a frame or message it sets the connection's ``odd``, so that connection.py leaves
everything to it.
"""

import zlib
from dataclasses import dataclass
from enum import Enum

from zwoole.bench.loadtest.connection import Connection
from zwoole.bench.loadtest.content import FIN, MASKED, Contents, frame_header
from zwoole.bench.loadtest.deflate import Inflater

OP_CONTINUATION = 0x0
OP_BINARY = 0x2
OP_CLOSE = 0x8
OP_PING = 0x9
OP_PONG = 0xA
RSV1 = 0x40  # set on the first frame of a compressed message

ERROR_KINDS = {
    "header": "a reply's frame header was masked, reserved, out of place or not of minimal length",
    "opcode": "a reply's opcode differed from its message's",
    "length": "a reply's length differed from its message's",
    "deflate": "a reply could not be inflated",
}

_MOST_LENGTH = (1 << 63) - 1


class EventType(Enum):
    """What was read."""

    MESSAGE = "message"
    PING = "ping"
    PONG = "pong"
    CLOSE = "close"
    WRONG = "wrong"
    FATAL = "fatal"  # wrong, and the start of the next frame is unknown


@dataclass(frozen=True)
class Event:
    """Something was read: ``payload`` of a message or a ping, ``kind`` (see ERROR_KINDS) of an error."""

    type: EventType
    payload: bytearray
    kind: str = ""


class ReplyReader:
    """Reads the frames of one connection."""

    def __init__(self, contents: Contents | None, inflater: Inflater | None = None) -> None:
        """Expect messages with these contents, compressed if there is an inflater.

        Without contents, any message is accepted, and its payload is not kept.
        """
        self._contents = contents
        self._inflater = inflater
        self._longest = max(contents.sizes) if contents else 0
        self._most_bytes = inflater.most_bytes(self._longest) if inflater else self._longest
        self._frame: _Frame | None = None
        self._left = 0  # bytes of the frame still to come
        self._payload = bytearray()  # of a control frame
        self._message = bytearray()  # data frames of the message so far
        self._opcode = 0  # of the incomplete message; 0 between messages
        self._compressed = False
        self._wrong = ""  # what is wrong with the incomplete message or frame

    def read(self, connection: Connection) -> Event | None:
        """Take the next event from the connection's inbox; None if it has not arrived completely."""
        while True:
            if self._frame is None:
                self._frame = _read_header(connection)
                if self._frame is None:
                    return None
                connection.odd = True
                event = self._begin(self._frame)
                if event:
                    return event
            taken = min(self._left, connection.inbox_end - connection.inbox_start)
            self._take(self._frame, connection.inbox[connection.inbox_start : connection.inbox_start + taken])
            connection.inbox_start += taken
            self._left -= taken
            if self._left:
                return None
            event = self._end(self._frame)
            self._frame = None
            connection.odd = self._opcode != 0
            if event:
                return event

    def _begin(self, frame: "_Frame") -> Event | None:
        """Check a header; return an event if it already is one."""
        self._left = frame.length + (4 if frame.masked else 0)
        if frame.length > _MOST_LENGTH:
            return Event(EventType.FATAL, bytearray(), "header")
        if frame.opcode >= OP_CLOSE:
            self._payload = bytearray()
            return None
        interrupted = self._opcode != 0 and frame.opcode != OP_CONTINUATION
        if frame.opcode != OP_CONTINUATION:
            self._opcode = frame.opcode
            self._message = bytearray()
            self._compressed = frame.rsv1
            self._wrong = self._wrong_start(frame)
        elif self._opcode == 0 or frame.rsv1 or not frame.well_formed:
            self._wrong = "header"
        return Event(EventType.WRONG, bytearray(), "header") if interrupted else None

    def _wrong_start(self, frame: "_Frame") -> str:
        if not frame.well_formed or (frame.rsv1 and not self._inflater) or frame.opcode > OP_BINARY:
            return "header"
        if self._contents is None:
            return ""
        if frame.opcode != self._contents.opcode:
            return "opcode"
        if frame.final and not frame.rsv1 and frame.length not in self._contents.sizes:
            return "length"
        return ""

    def _take(self, frame: "_Frame", piece: bytearray) -> None:
        if frame.opcode >= OP_CLOSE:
            if len(self._payload) <= 125:
                self._payload += piece
        elif self._contents and not self._wrong:
            self._message += piece
            if len(self._message) > self._most_bytes:
                self._wrong = "length"

    def _end(self, frame: "_Frame") -> Event | None:
        """Return the event that a complete frame makes, if any."""
        if frame.opcode >= OP_CLOSE:
            what = {OP_CLOSE: EventType.CLOSE, OP_PING: EventType.PING, OP_PONG: EventType.PONG}.get(frame.opcode)
            if what is None or frame.rsv1 or not frame.well_formed or not frame.final or frame.length > 125:
                return Event(EventType.WRONG, bytearray(), "header")
            return Event(what, self._payload)
        if not frame.final:
            return None
        self._opcode = 0
        if self._inflater and self._compressed and not self._wrong:
            try:
                self._message = self._inflater.inflate(self._message, self._longest)
            except zlib.error:
                self._wrong = "deflate"
        if self._contents and not self._wrong and len(self._message) not in self._contents.sizes:
            self._wrong = "length"
        return Event(EventType.WRONG if self._wrong else EventType.MESSAGE, self._message, self._wrong)


@dataclass(frozen=True)
class _Frame:
    opcode: int
    final: bool
    rsv1: bool
    masked: bool
    length: int
    well_formed: bool  # not masked, no reserved bit but RSV1, and the length in its shortest form


def _read_header(connection: Connection) -> _Frame | None:
    """Take a header from the inbox; None if it is incomplete."""
    received = connection.inbox[connection.inbox_start : min(connection.inbox_end, connection.inbox_start + 10)]
    if len(received) < 2:
        return None
    masked = bool(received[1] & MASKED)
    length = received[1] & 0x7F
    header_bytes = {126: 4, 127: 10}.get(length, 2)
    if len(received) < header_bytes:
        return None
    if length >= 126:
        length = int.from_bytes(received[2:header_bytes], "big")
    connection.inbox_start += header_bytes
    first = received[0]
    minimal = length > _MOST_LENGTH or received[:header_bytes] == frame_header(first, length, masked * MASKED)
    well_formed = not masked and not first & 0x30 and minimal
    return _Frame(first & 0x0F, bool(first & FIN), bool(first & RSV1), masked, length, well_formed)
