"""The frame codec: RFC 6455 section 5.2, server side.

Operations: read one header from a buffer that may end anywhere; append one unmasked frame to a buffer.

A header has at most 14 bytes, so an incomplete one is not kept here: the caller keeps its bytes and offers them again
with more behind them. A violation is detected as soon as the field that proves it has arrived. The checks have a fixed
order: reserved bits, opcode, FIN and length of control frames, mask bit, shortest form of the length, its top bit, the
size limit.
"""

from __future__ import annotations

from zwoole.shared.websocket.close_codes import CLOSE_MESSAGE_TOO_BIG, CLOSE_PROTOCOL_ERROR

OP_CONTINUATION = 0x0
OP_TEXT = 0x1
OP_BINARY = 0x2
OP_CLOSE = 0x8
OP_PING = 0x9
OP_PONG = 0xA

MAX_CONTROL_PAYLOAD = 125

# Bits of the first two bytes, and lengths with a meaning; C integers in the compiled module.
_FIN = 0x80
_RSV1 = 0x40
_RSV2_RSV3 = 0x30
_OPCODE = 0x0F
_MASKED = 0x80
_LENGTH = 0x7F
_LENGTH_16 = 126  # the length follows in 2 bytes
_LENGTH_64 = 127  # in 8 bytes
_TOP_BIT = 0x80
_TOO_LONG_FOR_16 = 0x10000
_CONTINUATION = OP_CONTINUATION
_LAST_DATA = OP_BINARY
_FIRST_CONTROL = OP_CLOSE
_LAST_CONTROL = OP_PONG
_MAX_CONTROL_PAYLOAD = MAX_CONTROL_PAYLOAD

# What read_header returns instead of a header's size.
HEADER_INCOMPLETE = 0
HEADER_INVALID = -1


class FrameHeader:
    """The fields of the header that `read_header` read last; after HEADER_INVALID the close code and the reason.

    Attributes:
        fin: whether this is the last fragment of its message.
        rsv1: the first reserved bit; never set unless `allow_rsv1` is.
        opcode: one of the OP_ constants.
        length: payload length in bytes.
        key: the masking key, its four bytes as one big-endian number.
        error_code: close code for the violation.
        error: the violation in words.
    """

    __slots__ = ("error", "error_code", "fin", "key", "length", "opcode", "rsv1")

    def __init__(self) -> None:
        self.fin = True
        self.rsv1 = False
        self.opcode = 0
        self.length = 0
        self.key = 0
        self.error_code = 0
        self.error = ""

    def refuse(self, code: int, error: str) -> int:
        """Store the violation and return HEADER_INVALID."""
        self.error_code = code
        self.error = error
        return HEADER_INVALID


def read_header(header: FrameHeader, buffer: bytearray, start: int, end: int, limit: int, allow_rsv1: bool) -> int:
    """Read the frame header that begins at `buffer[start]`.

    Args:
        header: receives the fields.
        buffer: bytes from a client.
        start: index of the header's first byte.
        end: index past the last byte that has arrived.
        limit: largest payload, in bytes, that a data frame may announce.
        allow_rsv1: whether an extension that uses RSV1 was negotiated.

    Returns:
        The header's size in bytes, HEADER_INCOMPLETE, or HEADER_INVALID with `header.error` set.
    """
    if start >= end:
        return HEADER_INCOMPLETE
    data = buffer
    first = data[start]
    if first & _RSV2_RSV3 or (first & _RSV1 and not allow_rsv1):
        return header.refuse(CLOSE_PROTOCOL_ERROR, "reserved bit set without an extension that defines it")
    opcode = first & _OPCODE
    if opcode > _LAST_CONTROL or _LAST_DATA < opcode < _FIRST_CONTROL:
        return header.refuse(CLOSE_PROTOCOL_ERROR, f"unknown opcode {opcode:#x}")
    control = opcode >= _FIRST_CONTROL
    if control and not first & _FIN:
        return header.refuse(CLOSE_PROTOCOL_ERROR, "fragmented control frame")
    if first & _RSV1 and (control or opcode == _CONTINUATION):  # RFC 7692 section 6.1: first fragments only
        return header.refuse(CLOSE_PROTOCOL_ERROR, "compression bit on a frame that cannot carry it")
    if start + 1 >= end:
        return HEADER_INCOMPLETE
    second = data[start + 1]
    length = second & _LENGTH
    if control and length > _MAX_CONTROL_PAYLOAD:
        return header.refuse(CLOSE_PROTOCOL_ERROR, "control frame longer than 125 bytes")
    if not second & _MASKED:  # section 5.1: a server must fail a connection on an unmasked frame
        return header.refuse(CLOSE_PROTOCOL_ERROR, "client frame without a mask")
    position = start + 2
    if length == _LENGTH_16:
        if position + 2 > end:
            return HEADER_INCOMPLETE
        length = data[position] << 8 | data[position + 1]
        position += 2
        if length < _LENGTH_16:
            return header.refuse(CLOSE_PROTOCOL_ERROR, "length not in its shortest form")
    elif length == _LENGTH_64:
        if position + 8 > end:
            return HEADER_INCOMPLETE
        if data[position] & _TOP_BIT:  # section 5.2: the most significant bit must be 0; tested before it can wrap
            return header.refuse(CLOSE_PROTOCOL_ERROR, "length of 2^63 or more")
        length = 0
        for i in range(8):
            length = length << 8 | data[position + i]
        position += 8
        if length < _TOO_LONG_FOR_16:
            return header.refuse(CLOSE_PROTOCOL_ERROR, "length not in its shortest form")
    if not control and length > limit:
        return header.refuse(CLOSE_MESSAGE_TOO_BIG, "message too big")
    if position + 4 > end:
        return HEADER_INCOMPLETE
    header.fin = first & _FIN != 0
    header.rsv1 = first & _RSV1 != 0
    header.opcode = opcode
    header.length = length
    header.key = data[position] << 24 | data[position + 1] << 16 | data[position + 2] << 8 | data[position + 3]
    return position + 4 - start


def append_header(out: bytearray, first: int, length: int) -> None:
    """Append the header of a server's frame, which is never masked (RFC 6455 section 5.1).

    Args:
        out: the buffer to append to.
        first: the first byte: FIN, reserved bits and opcode.
        length: length in bytes of the payload that follows.
    """
    out.append(first)
    if length < _LENGTH_16:
        out.append(length)
    elif length < _TOO_LONG_FOR_16:
        out.append(_LENGTH_16)
        out.append(length >> 8)
        out.append(length & 0xFF)
    else:
        out.append(_LENGTH_64)
        for shift in range(56, -8, -8):
            out.append(length >> shift & 0xFF)


def build_frame(opcode: int, payload: bytes) -> bytes:
    """Return a complete, unfragmented server frame."""
    out = bytearray()
    append_header(out, _FIN | opcode, len(payload))
    out += payload
    return bytes(out)
