"""Batches: the form in which events travel between master and workers.

A batch is one ZeroMQ message whose first part is one flat msgpack array:

    [first, credit, kind, number, body, kind, number, body, ...]

- `first`: down, the sequence number of the batch's first event (those of the others follow consecutively); up, the
  number of the batch, so that a lost one would be noticed.
- `credit`: the total number of bytes of batches that the sender has received from its peer and finished. A batch
  without events carries only that.
- `kind`: one of the constants of events.py. A kind that the reader does not know is counted, never fatal.
- `number`: a connection's fd, or what the table of events says.
- `body`: nil, an unsigned integer, text (msgpack str), or bytes (msgpack bin; for the rarer kinds they are a packed
  msgpack value). A payload of ATTACH_BYTES or more is `true` (text) or `false` (binary) in the array, and an additional
  part of the ZeroMQ message, in order. If both sides have mapped the payload ring (payload_ring.py), a payload of
  RING_MIN_BYTES or more lies there. Its body is then a msgpack extension of 8 bytes, type 1 (binary) or 2 (text): its
  position in the ring and its size.

Goals: a batch grows as events are found, without an object per event, and is read without one. The writer emits exactly
the bytes that the msgpack library would for the same list, except for the head's fixed width; the tests compare them.
Everything that arrives is checked against the end of the buffer before it is used; the reader raises WireError only.
"""

from __future__ import annotations

from zwoole.shared.wire.buffers import append_ascii, append_frame, append_slice, is_ascii
from zwoole.shared.wire.payload_ring import RING_MIN_BYTES, PayloadRing

# Types of bodies: the values of BatchReader.body_type.
BODY_NIL = 0
BODY_INTEGER = 1
BODY_TEXT = 2
BODY_BYTES = 3

ATTACH_BYTES = 32768  # payloads of this size or more travel as a separate part
MAX_BATCH_EVENTS = 1 << 20

# Marks of msgpack that batches use; C integers in the compiled module.
_FIXINT_END = 0x80  # below it a mark is itself the integer
_FIXSTR = 0xA0
_FIXSTR_MARK = 0xE0  # the bits of a fixstr's mark; the others are its length
_FIXSTR_LENGTH = 0x1F
_NIL = 0xC0
_BINARY_PART = 0xC2  # false: the payload is the next part, binary
_TEXT_PART = 0xC3  # true: likewise, text
_BIN8 = 0xC4
_BIN16 = 0xC5
_UINT8 = 0xCC
_UINT16 = 0xCD
_UINT32 = 0xCE
_UINT64 = 0xCF
_FIXEXT8 = 0xD7
_STR8 = 0xD9
_STR16 = 0xDA
_ARRAY32 = 0xDD
_BINARY_IN_RING = 1  # extension types
_TEXT_IN_RING = 2
_RING_MIN_BYTES = RING_MIN_BYTES
_ATTACH_BYTES = ATTACH_BYTES

# Where a payload lies.
_INLINE = 0
_PART = 1
_RING = 2

_COUNT_AT = 1  # index of the array's length in a batch
_FIRST_AT = 6
_CREDIT_AT = 15
_EMPTY_BATCH = bytes([_ARRAY32, 0, 0, 0, 2, _UINT64, *bytes(8), _UINT64, *bytes(8)])


class WireError(Exception):
    """A malformed batch."""


class BatchWriter:
    """Collects events into a batch.

    Attributes:
        ring: carries large payloads; None while the other side has not mapped it.
        events: number of events added since the last `take`.
        size: bytes collected, including attached payloads and those in the ring.
        ring_bytes: bytes in the ring.
    """

    __slots__ = ("_buffer", "_parts", "events", "ring", "ring_bytes", "size")

    def __init__(self) -> None:
        self._buffer = bytearray(_EMPTY_BATCH)
        self._parts: list[bytes] = []
        self.ring: PayloadRing | None = None
        self.events = 0
        self.size = 0
        self.ring_bytes = 0

    def add_bytes(self, kind: int, number: int, body: bytes) -> None:
        """Add an event with a binary body."""
        buffer = self._buffer
        size = len(body)
        buffer.append(kind)
        append_integer(buffer, number)
        if size >= _RING_MIN_BYTES and self._put(_BINARY_IN_RING, body):
            pass
        elif size >= _ATTACH_BYTES:
            self._attach(_BINARY_PART, body)
        else:
            if size < 256:
                buffer.append(_BIN8)
            else:
                buffer.append(_BIN16)
                buffer.append(size >> 8)
            buffer.append(size & 0xFF)
            append_slice(buffer, body, 0, size)
        self.events += 1
        self.size += size + 8

    def add_text(self, kind: int, number: int, body: bytes) -> None:
        """Add an event with a text body, given as UTF-8."""
        buffer = self._buffer
        size = len(body)
        buffer.append(kind)
        append_integer(buffer, number)
        if size >= _RING_MIN_BYTES and self._put(_TEXT_IN_RING, body):
            pass
        elif size >= _ATTACH_BYTES:
            self._attach(_TEXT_PART, body)
        else:
            append_text_head(buffer, size)
            append_slice(buffer, body, 0, size)
        self.events += 1
        self.size += size + 8

    def add_str(self, kind: int, number: int, text: str) -> None:
        """Add an event with a text body. ASCII is copied once, straight into the batch or the ring.

        Raises:
            UnicodeEncodeError: the text has lone surrogates, which no UTF-8 has.
        """
        if not is_ascii(text):
            self.add_text(kind, number, text.encode("utf-8"))
            return
        buffer = self._buffer
        size = len(text)
        buffer.append(kind)
        append_integer(buffer, number)
        ring = self.ring if size >= _RING_MIN_BYTES else None
        if ring is not None and self._note(_TEXT_IN_RING, size, ring.put_ascii(text)):
            pass
        elif size >= _ATTACH_BYTES:
            self._attach(_TEXT_PART, text.encode())
        else:
            append_text_head(buffer, size)
            append_ascii(buffer, text)
        self.events += 1
        self.size += size + 8

    def add_integer(self, kind: int, number: int, body: int) -> None:
        """Add an event whose body is an unsigned integer."""
        self._buffer.append(kind)
        append_integer(self._buffer, number)
        append_integer(self._buffer, body)
        self.events += 1
        self.size += 8

    def add(self, kind: int, number: int) -> None:
        """Add an event without a body."""
        self._buffer.append(kind)
        append_integer(self._buffer, number)
        self._buffer.append(_NIL)
        self.events += 1
        self.size += 8

    def take(self, first: int, credit: int) -> list[bytearray | bytes]:
        """Return the parts of the batch and start a new one.

        Args:
            first: sequence number of the first event, or the batch's number.
            credit: total bytes received from the peer and finished.
        """
        buffer = self._buffer
        count = 2 + 3 * self.events
        for i in range(4):
            buffer[_COUNT_AT + i] = count >> (24 - 8 * i) & 0xFF
        for i in range(8):
            buffer[_FIRST_AT + i] = first >> (56 - 8 * i) & 0xFF
            buffer[_CREDIT_AT + i] = credit >> (56 - 8 * i) & 0xFF
        parts: list[bytearray | bytes] = [buffer]
        parts += self._parts
        self._buffer = bytearray(_EMPTY_BATCH)
        self._parts = []
        self.events = 0
        self.size = 0
        self.ring_bytes = 0
        return parts

    def _put(self, extension: int, body: bytes) -> bool:
        """Put a payload into the ring; return False if it must travel with the batch."""
        ring = self.ring
        return ring is not None and self._note(extension, len(body), ring.put(body))

    def _note(self, extension: int, size: int, position: int) -> bool:
        """Note where a payload lies in the ring; return False if the position is -1: it lies nowhere."""
        if position < 0:
            return False
        self._buffer.append(_FIXEXT8)
        self._buffer.append(extension)
        self._buffer += (position << 32 | size).to_bytes(8, "big")
        self.ring_bytes += size
        return True

    def _attach(self, mark: int, body: bytes) -> None:
        self._buffer.append(mark)
        self._parts.append(body)


class BatchReader:
    """Iterates over the events of one batch.

    Attributes:
        first: see the module's docstring.
        credit: see the module's docstring.
        left: number of events after the current one.
        kind: the current event's kind.
        number: the current event's number.
        body_type: one of the BODY_ constants.
        body_integer: the body, if it is BODY_INTEGER.
        body_size: the body's length in bytes, if it is BODY_TEXT or BODY_BYTES.
        ring_bytes: total bytes of the payloads in the ring, of the events so far.
    """

    __slots__ = (
        "_attached",
        "_buffer",
        "_end",
        "_parts",
        "_parts_read",
        "_position",
        "_ring",
        "_start",
        "body_integer",
        "body_size",
        "body_type",
        "credit",
        "first",
        "kind",
        "left",
        "number",
        "ring_bytes",
    )

    def __init__(self, parts: list[bytes], ring: PayloadRing | None = None) -> None:
        """Open a batch.

        Args:
            parts: the parts of the ZeroMQ message.
            ring: the sender's payload ring.

        Raises:
            WireError: the head of the batch is malformed.
        """
        self._parts = parts
        self._parts_read = 0
        self._buffer = parts[0]
        self._end = len(self._buffer)
        self._position = 0
        self._start = 0
        self._attached = _INLINE
        self._ring = ring
        self.ring_bytes = 0
        self.first = 0
        self.credit = 0
        self.kind = 0
        self.number = 0
        self.body_type = BODY_NIL
        self.body_integer = 0
        self.body_size = 0
        if self._end < 5 or self._buffer[0] != _ARRAY32:
            raise WireError("not a batch")
        self._position = 1
        count = self._unsigned(4)
        if count < 2 or (count - 2) % 3 or count > 3 * MAX_BATCH_EVENTS + 2:
            raise WireError(f"a batch of {count} values")
        self.left = (count - 2) // 3
        self.first = self._integer()
        self.credit = self._integer()

    def next(self) -> bool:
        """Advance to the next event; return False at the end.

        Raises:
            WireError: the batch ends too early or too late, or contains an invalid value.
        """
        if not self.left:
            if self._position != self._end or self._parts_read + 1 != len(self._parts):
                raise WireError("something behind the last event")
            return False
        self.left -= 1
        self.kind = self._integer()
        self.number = self._integer()
        self._read_body()
        return True

    def data(self) -> bytes:
        """Return the body as bytes; text as its UTF-8."""
        if self._attached:
            return self._parts[self._parts_read] if self._attached == _PART else self._in_ring()
        buffer = self._buffer
        return buffer[self._start : self._start + self.body_size]

    def view(self) -> memoryview | None:
        """Return the body in place if it lies in the ring, else None. The view is valid until the sender gets its
        credit.
        """
        if self._attached != _RING or self._ring is None:
            return None
        return self._ring.view(self._start, self.body_size)

    def text(self) -> str:
        """Return the body as text.

        Raises:
            WireError: it is not UTF-8.
        """
        try:
            if self._attached == _PART:
                return str(self._parts[self._parts_read], "utf-8")
            if self._attached == _RING and self._ring is not None:
                return self._ring.text(self._start, self.body_size)
            buffer = self._buffer
            return buffer[self._start : self._start + self.body_size].decode("utf-8")
        except UnicodeDecodeError:
            raise WireError("text that is not UTF-8") from None

    def append_frame(self, out: bytearray | None, first: int) -> bytearray:
        """Append a frame around the body, which must be shorter than 65536 bytes.

        Args:
            out: the buffer to append to; None: a new one.
            first: the frame's first byte: FIN, reserved bits and opcode.

        Returns:
            The buffer.
        """
        if not self._attached:
            return append_frame(out, first, self._buffer, self._start, self.body_size)
        return append_frame(out, first, self.data(), 0, self.body_size)

    def _read_body(self) -> None:
        """Read the body's type and length; its bytes are not copied."""
        mark = self._byte()
        self._attached = _INLINE
        self.body_size = 0
        if mark < _FIXINT_END or _UINT8 <= mark <= _UINT64:
            self._position -= 1
            self.body_integer = self._integer()
            self.body_type = BODY_INTEGER
        elif mark == _NIL:
            self.body_type = BODY_NIL
        elif mark == _BIN8:
            self._span(BODY_BYTES, self._unsigned(1))
        elif mark == _BIN16:
            self._span(BODY_BYTES, self._unsigned(2))
        elif mark & _FIXSTR_MARK == _FIXSTR:
            self._span(BODY_TEXT, mark & _FIXSTR_LENGTH)
        elif mark == _STR8:
            self._span(BODY_TEXT, self._unsigned(1))
        elif mark == _STR16:
            self._span(BODY_TEXT, self._unsigned(2))
        elif mark in (_BINARY_PART, _TEXT_PART):
            self._parts_read += 1
            if self._parts_read >= len(self._parts):
                raise WireError("a payload's part is missing")
            self._attached = _PART
            self.body_type = BODY_TEXT if mark == _TEXT_PART else BODY_BYTES
            self.body_size = len(self._parts[self._parts_read])
        elif mark == _FIXEXT8:
            self._read_place()
        else:
            raise WireError(f"a body that begins with {mark:#x}")

    def _read_place(self) -> None:
        """Read the position and the size of a body in the ring."""
        extension = self._byte()
        place = self._unsigned(8)
        self._start = place >> 32
        self.body_size = place & 0xFFFFFFFF
        if (
            extension not in (_BINARY_IN_RING, _TEXT_IN_RING)
            or self._ring is None
            or self._start + self.body_size > self._ring.capacity
        ):
            raise WireError("a payload that lies in no ring")
        self._attached = _RING
        self.body_type = BODY_TEXT if extension == _TEXT_IN_RING else BODY_BYTES
        self.ring_bytes += self.body_size

    def _in_ring(self) -> bytes:
        ring: PayloadRing = self._ring  # type: ignore[assignment]
        return ring.data(self._start, self.body_size)

    def _span(self, body_type: int, size: int) -> None:
        if size > self._end - self._position:
            raise WireError("a body longer than its batch")
        self.body_type = body_type
        self.body_size = size
        self._start = self._position
        self._position += size

    def _integer(self) -> int:
        mark = self._byte()
        if mark < _FIXINT_END:
            return mark
        if mark == _UINT8:
            return self._unsigned(1)
        if mark == _UINT16:
            return self._unsigned(2)
        if mark == _UINT32:
            return self._unsigned(4)
        if mark == _UINT64:
            return self._unsigned(8)
        raise WireError(f"{mark:#x} where an unsigned integer stands")

    def _unsigned(self, size: int) -> int:
        if size > self._end - self._position:
            raise WireError("a batch that was cut off")
        data = self._buffer
        value = 0
        for i in range(self._position, self._position + size):
            value = value << 8 | data[i]
        self._position += size
        return value

    def _byte(self) -> int:
        if self._position >= self._end:
            raise WireError("a batch that was cut off")
        data = self._buffer
        self._position += 1
        return data[self._position - 1]


def append_text_head(buffer: bytearray, size: int) -> None:
    """Append the mark and the length of a text of `size` bytes, below 65536."""
    if size <= _FIXSTR_LENGTH:
        buffer.append(_FIXSTR | size)
    elif size < 256:
        buffer.append(_STR8)
        buffer.append(size)
    else:
        buffer.append(_STR16)
        buffer.append(size >> 8)
        buffer.append(size & 0xFF)


def append_integer(buffer: bytearray, value: int) -> None:
    """Append an unsigned integer below 2^64 in msgpack's shortest form."""
    if value < _FIXINT_END:
        buffer.append(value)
        return
    if value < 256:
        buffer.append(_UINT8)
        size = 8
    elif value < 1 << 16:
        buffer.append(_UINT16)
        size = 16
    elif value < 1 << 32:
        buffer.append(_UINT32)
        size = 32
    else:
        buffer.append(_UINT64)
        size = 64
    while size:
        size -= 8
        buffer.append(value >> size & 0xFF)
