"""One established connection as RFC 6455 defines it, without a socket: bytes in, events out.

Operations wanted:
- lend it a buffer of bytes that have just arrived, and take events from it until there are no more;
- stop in the middle of a buffer (backpressure) and take the unread bytes back;
- know which frames may still be sent.

Goals: only payloads are copied; an idle connection holds a few numbers and no buffer; nothing that a client sends
raises an exception.

Plan: `receive_data` only remembers the caller's buffer. `next_event` reads one header (frames.py) and as much of its
payload as has arrived. A complete payload is unmasked straight into the event's bytes. An incomplete one, or a
fragment, is unmasked, inflated and checked for UTF-8 as far as it has arrived, and kept in `_partial`
(partial_message.py). An incomplete header or control frame is kept as raw bytes and written in front of the next
buffer: the caller leaves HEADROOM bytes free there.
"""

from __future__ import annotations

import codecs
import zlib

from zwoole.shared.websocket.close_codes import (
    CLOSE_INVALID_DATA,
    CLOSE_MESSAGE_TOO_BIG,
    CLOSE_NO_STATUS,
    CLOSE_POLICY_VIOLATION,
    CLOSE_PROTOCOL_ERROR,
    MAX_REASON_BYTES,
    is_sendable,
)
from zwoole.shared.websocket.deflate import TAIL, Inflater
from zwoole.shared.websocket.frames import (
    OP_CLOSE,
    OP_CONTINUATION,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    FrameHeader,
    build_frame,
    read_header,
)
from zwoole.shared.websocket.mask import is_utf8, unmask
from zwoole.shared.websocket.partial_message import Pieces

# What next_event returns.
NEED_DATA = 0  # the buffer is used up
MESSAGE = 1  # `opcode`, `data`
PING = 2  # `data`, which the pong must repeat
PONG = 3  # `data`
CLOSED_BY_PEER = 4  # `close_code`, `close_reason`; nothing more will be read
YIELD = 6  # inflating has used its share of this turn: call again in the next turn
FAILED = 5  # the peer violated the protocol: `close_code`, `close_reason` say how; nothing more will be read

INFLATE_BYTES = 262144  # inflated per turn and connection: takes well below a millisecond
_SLICE = 65536  # inflated in one step at most
LAST_BLOCK_COST = 4096  # bytes that a last block (BFINAL) counts as, since it takes a new decompressor

HEADROOM = 136  # more than a control frame's 6 bytes of header and 125 of payload

_HEADER = FrameHeader()  # filled and used within one call, so all connections of a process share it


class Protocol:
    """The state of one server-side connection after its handshake.

    Attributes:
        opcode: OP_TEXT or OP_BINARY, after MESSAGE.
        data: the payload, after MESSAGE, PING or PONG; text is valid UTF-8.
        close_code: after CLOSED_BY_PEER the peer's code (1005 if it sent none), after FAILED the code to send.
        close_reason: the peer's reason, or the violation in words.
        close_sent: whether a close frame was made; no frame may follow it (section 5.5.1).
        receiving: False after the peer's close frame or a violation.
    """

    __slots__ = (
        "_buffer",
        "_compressed",
        "_end",
        "_fin",
        "_fragments",
        "_inflated",
        "_inflater",
        "_key",
        "_max_fragments",
        "_max_message",
        "_message_opcode",
        "_partial",
        "_pending",
        "_phase",
        "_position",
        "_remaining",
        "_tail",
        "_utf8_tail",
        "close_code",
        "close_reason",
        "close_sent",
        "data",
        "opcode",
        "receiving",
    )

    def __init__(self, max_message: int, max_fragments: int, inflater: Inflater | None = None) -> None:
        """Start after the handshake.

        Args:
            max_message: largest message in bytes: inflated, and joined from its fragments.
            max_fragments: largest number of frames in one message.
            inflater: inflates the client's messages; None if permessage-deflate was not agreed on.
        """
        self._max_message = max_message
        self._max_fragments = max_fragments
        self.opcode = 0
        self.data = b""
        self.close_code = 0
        self.close_reason = ""
        self.close_sent = False
        self.receiving = True
        # The buffer lent by receive_data.
        self._buffer: bytearray | None = None
        self._position = 0
        self._end = 0
        self._tail = b""  # an incomplete header or control frame
        # The frame whose payload is still arriving; _remaining is 0 between frames.
        self._fin = False
        self._remaining = 0
        self._key = 0
        self._phase = 0
        # The message that is still arriving: its opcode, or 0 if there is none.
        self._message_opcode = 0
        self._fragments = 0
        self._partial: Pieces | None = None
        self._utf8_tail = b""  # the first bytes of an incomplete character
        # If permessage-deflate was agreed on.
        self._inflater = inflater
        self._compressed = False  # whether the arriving message is compressed
        self._pending: bytes | None = None  # payload that has arrived and is not inflated yet
        self._inflated = 0  # bytes since receive_data

    # Public methods for receiving data.

    def receive_data(self, buffer: bytearray, start: int, end: int) -> None:
        """Lend `buffer[start:end]`, until `next_event` returns NEED_DATA or nothing more will be read, or until
        `take_rest`.

        The HEADROOM bytes before `start` belong to this method too: it may write the beginning of a frame there.
        """
        size = len(self._tail)
        if size:
            buffer[start - size : start] = self._tail
            self._tail = b""
        self._buffer = buffer
        self._position = start - size
        self._end = end
        self._inflated = 0

    def next_event(self) -> int:
        """Advance to the next event and return its kind. Its fields are valid until the next call."""
        self.data = b""
        while self.receiving:
            if self._pending is not None:
                if self._inflated >= INFLATE_BYTES:
                    return YIELD
                event = self._inflate()
            elif self._remaining:
                if self._position == self._end:
                    break
                event = self._continue_payload()
            else:
                event = self._begin_frame()
                if event == NEED_DATA and self._buffer is None:
                    return NEED_DATA
            if event != NEED_DATA:
                return event
        self._buffer = None
        return NEED_DATA

    def take_rest(self) -> bytes:
        """Take the lent buffer back and return its unread bytes."""
        rest = b""
        if self._buffer is not None:
            if self.receiving:
                rest = bytes(self._buffer[self._position : self._end])
            self._buffer = None
        return rest

    def partial_bytes(self) -> int:
        """Return the number of bytes kept for an incomplete message."""
        partial = self._partial
        return 0 if partial is None else partial.size

    def stop_receiving(self) -> None:
        """Read nothing more, and drop everything that has arrived incompletely."""
        self.receiving = False
        self._buffer = None
        self._partial = None
        self._tail = b""
        self._utf8_tail = b""
        self._pending = None
        self._inflater = None

    def give_up(self, code: int, reason: str) -> None:
        """Fail the connection for a reason outside of the protocol. As after a violation, nothing more is read and
        partial data is dropped.
        """
        self._fail(code, reason)

    # Public methods for sending data.

    def close_frame(self, code: int, reason: str) -> bytes:
        """Return a close frame, after which nothing may be sent; b"" if one was made before.

        Args:
            code: the close code; 0 or 1005 for a frame without a code.
            reason: cut between characters if it is longer than a control frame can carry.
        """
        if self.close_sent:
            return b""
        self.close_sent = True
        return build_frame(OP_CLOSE, close_payload(code, reason))

    # Private methods for receiving data.

    def _begin_frame(self) -> int:
        """Read a header and, if it is complete, its payload. NEED_DATA with `_buffer` None means that the buffer is
        used up.
        """
        buffer = self._buffer
        if buffer is None:
            return NEED_DATA
        if self._position == self._end:
            self._buffer = None
            return NEED_DATA
        partial = self._partial
        held = 0 if partial is None else partial.size
        # Incompressible data grows a little when deflated; the limit proper applies to the inflated message.
        slack = 0 if self._inflater is None else 64 + (self._max_message >> 10)
        limit = self._max_message - held + slack
        size = read_header(_HEADER, buffer, self._position, self._end, limit, slack != 0)
        if size == 0:
            self._tail = bytes(buffer[self._position : self._end])
            self._buffer = None
            return NEED_DATA
        if size < 0:
            return self._fail(_HEADER.error_code, _HEADER.error)
        opcode = _HEADER.opcode
        length = _HEADER.length
        if opcode < OP_CLOSE:
            if opcode == OP_CONTINUATION:
                if not self._message_opcode:
                    return self._fail(CLOSE_PROTOCOL_ERROR, "continuation frame without a message to continue")
            elif self._message_opcode:
                return self._fail(CLOSE_PROTOCOL_ERROR, "new message before the fragments of the last were complete")
            elif (
                _HEADER.fin
                and not _HEADER.rsv1
                and length <= self._end - self._position - size
                and length <= self._max_message
            ):
                start = self._position + size
                self._position = start + length
                self.opcode = opcode
                self.data = unmask(buffer, start, self._position, _HEADER.key, 0)
                if opcode == OP_TEXT and not is_utf8(self.data):
                    return self._fail(CLOSE_INVALID_DATA, "text that is not UTF-8")
                return MESSAGE
            self._fragments += 1
            if self._fragments > self._max_fragments:
                return self._fail(CLOSE_POLICY_VIOLATION, "message in too many fragments")
            if opcode:
                self._message_opcode = opcode
                self._compressed = _HEADER.rsv1
            if slack and not self._compressed and length > self._max_message - held:
                return self._fail(CLOSE_MESSAGE_TOO_BIG, "")
            if self._partial is None:
                self._partial = Pieces()
        elif length <= self._end - self._position - size:
            start = self._position + size
            self._position = start + length
            return self._control_frame(opcode, unmask(buffer, start, self._position, _HEADER.key, 0))
        else:
            # 125 bytes at most: kept raw and offered again, so that the state of a fragmented message stays untouched.
            self._tail = bytes(buffer[self._position : self._end])
            self._buffer = None
            return NEED_DATA
        self._position += size
        self._fin = _HEADER.fin
        self._remaining = length
        self._key = _HEADER.key
        self._phase = 0
        if length == 0 and self._fin:
            if self._compressed:
                return self._end_compressed()
            return self._finish_message()
        return NEED_DATA

    def _continue_payload(self) -> int:
        """Take as much of the current data frame's payload as the buffer has."""
        buffer = self._buffer
        partial = self._partial
        if buffer is None or partial is None:
            return NEED_DATA
        size = self._end - self._position
        if size > self._remaining:
            size = self._remaining
        chunk = unmask(buffer, self._position, self._position + size, self._key, self._phase)
        self._position += size
        self._remaining -= size
        self._phase = (self._phase + size) & 3
        if self._compressed:
            self._pending = chunk + TAIL if self._remaining == 0 and self._fin else chunk
            return NEED_DATA
        if self._message_opcode == OP_TEXT and not self._check_text(chunk, False):
            return self._fail(CLOSE_INVALID_DATA, "text that is not UTF-8")
        partial.add(chunk)
        if self._remaining == 0 and self._fin:
            return self._finish_message()
        return NEED_DATA

    def _inflate(self) -> int:
        """Inflate a slice of the arrived part of a compressed message (RFC 7692 section 7.2.2)."""
        inflater: Inflater = self._inflater  # type: ignore[assignment]
        partial: Pieces = self._partial  # type: ignore[assignment]
        room = self._max_message - partial.size
        # One byte more than allowed is enough to detect a message that is too big.
        limit = room + 1 if room < _SLICE else _SLICE
        try:
            out = inflater.inflate(self._pending, limit)  # type: ignore[arg-type]
        except zlib.error:
            return self._fail(CLOSE_INVALID_DATA, "compressed data that cannot be inflated")
        size = len(out)
        if size > room:
            return self._fail(CLOSE_MESSAGE_TOO_BIG, "")
        # Output that fills its limit exactly may have more behind it, even if all input is consumed.
        more = len(inflater.rest) > 0 or size == limit
        self._inflated += size
        if more and size < limit:
            self._inflated += LAST_BLOCK_COST
        if self._message_opcode == OP_TEXT and not self._check_text(out, False):
            return self._fail(CLOSE_INVALID_DATA, "text that is not UTF-8")
        partial.add(out)
        self._pending = inflater.rest if more else None
        if not more and self._remaining == 0 and self._fin:
            inflater.end_message()
            self._compressed = False
            return self._finish_message()
        return NEED_DATA

    def _end_compressed(self) -> int:
        """Finish a compressed message whose last frame has no payload."""
        inflater: Inflater = self._inflater  # type: ignore[assignment]
        if inflater.taken:
            self._pending = TAIL
            return NEED_DATA
        inflater.end_message()  # the payload is empty, or its last block is read: nothing is left to inflate
        self._compressed = False
        return self._finish_message()

    def _check_text(self, chunk: bytes, final: bool) -> bool:
        """Check the text so far, so that an invalid byte fails the connection when it arrives, not when the message
        is complete.
        """
        if self._utf8_tail:
            chunk = self._utf8_tail + chunk
        elif is_utf8(chunk):  # most chunks end between two characters
            return True
        try:
            used = codecs.utf_8_decode(chunk, "strict", final)[1]
        except UnicodeDecodeError:
            return False
        self._utf8_tail = chunk[used:]
        # Python's decoder takes the first two bytes of a surrogate for an incomplete character.
        return not b"\xed\xa0" <= self._utf8_tail < b"\xee"

    def _finish_message(self) -> int:
        """Return MESSAGE with the message that arrived in pieces."""
        if self._utf8_tail and not self._check_text(b"", True):
            return self._fail(CLOSE_INVALID_DATA, "text that is not UTF-8")
        self.opcode = self._message_opcode
        self.data = b"" if self._partial is None else self._partial.join()
        self._message_opcode = 0
        self._fragments = 0
        self._partial = None
        return MESSAGE

    def _control_frame(self, opcode: int, payload: bytes) -> int:
        """Handle a complete control frame (section 5.5)."""
        self.data = payload
        if opcode == OP_PING:
            return PING
        if opcode == OP_PONG:
            return PONG
        return self._close_frame(payload)

    def _close_frame(self, payload: bytes) -> int:
        """Handle the peer's close frame (sections 5.5.1 and 7.4)."""
        if not payload:
            self.close_code = CLOSE_NO_STATUS
            self.close_reason = ""
        elif len(payload) == 1:
            return self._fail(CLOSE_PROTOCOL_ERROR, "close frame with half a code")
        else:
            code = payload[0] << 8 | payload[1]
            if not is_sendable(code):
                return self._fail(CLOSE_PROTOCOL_ERROR, f"close code {code} is not one that may be sent")
            if not is_utf8(payload[2:]):
                return self._fail(CLOSE_INVALID_DATA, "close reason that is not UTF-8")
            self.close_code = code
            self.close_reason = payload[2:].decode()
        self.stop_receiving()
        return CLOSED_BY_PEER

    def _fail(self, code: int, reason: str) -> int:
        """Fail the connection: section 7.1.7 forbids processing any more data from the peer."""
        if code == CLOSE_MESSAGE_TOO_BIG:
            reason = f"message bigger than {self._max_message} bytes"
        self.close_code = code
        self.close_reason = reason
        self.stop_receiving()
        return FAILED


def close_payload(code: int, reason: str) -> bytes:
    """Return the payload of a close frame. Without a code (0 or 1005) it is empty, and the reason is dropped."""
    if code in (0, CLOSE_NO_STATUS):
        return b""
    text = reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")
    return code.to_bytes(2, "big") + text.encode()
