"""permessage-deflate (RFC 7692), server side, without a socket: negotiation, inflating and deflating.

Operations: answer a client's offers; inflate a message as it arrives, in slices and up to a limit; deflate a message,
at once or in slices.

Goals: a compression bomb costs its sender the connection and costs us no memory beyond the limit; without context
takeover nothing is kept between messages; a broadcast is deflated once for all connections with the same window.

Plan: zlib does the work. A message deflated *in isolation* refers to nothing before it, so every receiver with the same
window size can inflate it. That includes receivers that agreed on context takeover, provided that the connection's own
compressor is reset afterwards: it does not know the isolated message, so later messages must not refer to anything
before it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from zwoole.shared.request import TOKEN
from zwoole.shared.websocket.frames import build_frame

TAIL = b"\x00\x00\xff\xff"  # the end of a sync flush: senders leave it off, receivers append it (section 7.2)
RSV1 = 0x40
MEMORY_LEVEL = 8
SLICE = 16384  # bytes deflated at a time

_PARAMETER = rf'[ \t]*({TOKEN})[ \t]*(?:=[ \t]*(?:({TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*)?'
_EXTENSION = re.compile(rf"{_PARAMETER}(?:;{_PARAMETER})*")
_PART = re.compile(_PARAMETER)
_NAME = "permessage-deflate"
_FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
_BITS = re.compile(r"[89]|1[0-5]")  # section 7.1.2: "an integer value between 8 to 15", without leading zeros

Offer = dict[str, str | None]


class MalformedOffer(Exception):
    """A malformed Sec-WebSocket-Extensions header: the handshake must fail (RFC 6455 section 9.1)."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What this server prefers, from the settings of the same names.

    Attributes:
        window_bits: window size of sent messages and upper limit for received ones, 9 to 15.
        context_takeover: whether windows may be kept between messages.
    """

    window_bits: int
    context_takeover: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    """What server and client agreed on.

    Attributes:
        response: the value of the response's Sec-WebSocket-Extensions header.
        server_bits: window size of what the server sends.
        client_bits: window size of what the client sends.
        server_takeover: whether the server keeps its window between messages.
        client_takeover: whether the client does.
    """

    response: str
    server_bits: int
    client_bits: int
    server_takeover: bool
    client_takeover: bool


# ---- The handshake -----------------------------------------------------------------------------------------------


def agree(headers: Iterable[str], wishes: Wishes) -> Agreement | None:
    """Return the agreement for the first of a client's offers that can be met; None if none can.

    Args:
        headers: the values of the client's Sec-WebSocket-Extensions headers, in order.
        wishes: the server's preferences.

    Raises:
        MalformedOffer: a header violates the grammar of RFC 6455 section 9.1.
    """
    for name, offer in parse_offers(headers):
        if name == _NAME and offer is not None and (agreement := meet(offer, wishes)) is not None:
            return agreement
    return None


def parse_offers(headers: Iterable[str]) -> list[tuple[str, Offer | None]]:
    """Return each offered extension with its parameters; None as parameters if one of them is repeated.

    Raises:
        MalformedOffer: see `agree`.
    """
    offers: list[tuple[str, Offer | None]] = []
    text = ",".join(headers)
    position = 0
    while position < len(text):
        if text[position] in ", \t":  # RFC 9110 section 5.6.1.2: empty elements are to be ignored
            position += 1
            continue
        found = _EXTENSION.match(text, position)
        if found is None or (found.end() < len(text) and text[found.end()] != ","):
            raise MalformedOffer(text)
        position = found.end()
        first, *parts = _PART.finditer(found[0])
        if first[2] is not None or first[3] is not None:
            raise MalformedOffer(text)
        offers.append((first[1], parameters_of(parts)))
    return offers


def parameters_of(parts: Iterable[re.Match[str]]) -> Offer | None:
    """Return an extension's parameters by name; None if a name is repeated."""
    offer: Offer = {}
    for part in parts:
        name, token, quoted = part.groups()
        if name in offer:
            return None
        offer[name] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return offer


def meet(offer: Offer, wishes: Wishes) -> Agreement | None:
    """Return the agreement for one offer of permessage-deflate; None if the offer must be declined (section 7.1)."""
    for name, value in offer.items():
        if name in _FLAGS:
            if value is not None:
                return None
        elif name == "server_max_window_bits":
            if value is None or not _BITS.fullmatch(value):
                return None
        elif name == "client_max_window_bits":
            if value is not None and not _BITS.fullmatch(value):
                return None
        else:
            return None
    server_bits = min(wishes.window_bits, int(offer.get("server_max_window_bits") or 15))
    if server_bits < 9:  # zlib cannot deflate raw data with a window of 256 bytes
        return None
    response = [_NAME]
    server_takeover = wishes.context_takeover and "server_no_context_takeover" not in offer
    client_takeover = wishes.context_takeover and "client_no_context_takeover" not in offer
    response += [flag for flag, kept in zip(_FLAGS, (server_takeover, client_takeover), strict=True) if not kept]
    if server_bits < 15:
        response.append(f"server_max_window_bits={server_bits}")
    client_bits = 15
    if "client_max_window_bits" in offer:  # only then may the response have it (section 7.1.2.2)
        client_bits = min(wishes.window_bits, int(offer["client_max_window_bits"] or 15))
        if client_bits < 15:
            response.append(f"client_max_window_bits={client_bits}")
    return Agreement("; ".join(response), server_bits, client_bits, server_takeover, client_takeover)


# ---- Receiving ---------------------------------------------------------------------------------------------------


class Inflater:
    """Inflates one connection's messages.

    A deflate block may be marked as the last one (BFINAL; RFC 7692 section 7.2.3.4). The sender's next block then
    refers to nothing before it, so it gets a decompressor with an empty window. After such a block a message ends in
    one of two ways: with the octet 00, which forms an empty block together with the tail that the receiver appends, or
    with nothing. In the second case the tail alone is half a block, and the decompressor that has read it must not see
    the next message.

    Attributes:
        rest: input that is not consumed yet, because the output reached its limit or a last block ended.
        taken: bytes of this message that the decompressor has consumed, since the message's start or a last block.
    """

    __slots__ = ("_bits", "_decoder", "_takeover", "rest", "taken")

    def __init__(self, bits: int, takeover: bool) -> None:
        """Start with an empty window of 2^`bits` bytes. `takeover`: whether it is kept between messages."""
        self._bits = max(bits, 9)
        self._takeover = takeover
        self._decoder: zlib._Decompress | None = None
        self.rest = b""
        self.taken = 0

    def inflate(self, data: bytes, limit: int) -> bytes:
        """Return the inflated form of the next piece of a message's payload, at most `limit` bytes per call.

        The caller must append TAIL to the end of a payload that is not empty.

        Raises:
            zlib.error: the data is not deflated data.
        """
        decoder = self._decoder
        if decoder is None:
            decoder = self._decoder = zlib.decompressobj(-self._bits)
        out = decoder.decompress(data, limit)
        if decoder.eof:
            self.rest = decoder.unused_data
            self.taken = 0
            self._decoder = None
        else:
            self.rest = decoder.unconsumed_tail
            self.taken += len(data) - len(self.rest)
        return out

    def end_message(self) -> None:
        """Finish a message."""
        if not self._takeover or self.taken == len(TAIL):  # of this message, the decompressor has seen only the tail
            self._decoder = None
        self.taken = 0


# ---- Sending -----------------------------------------------------------------------------------------------------


class Deflater:
    """Deflates one connection's messages.

    Attributes:
        bits: window size; connections with the same one can share isolated messages.
    """

    __slots__ = ("_compressor", "_level", "_takeover", "bits")

    def __init__(self, bits: int, takeover: bool, level: int) -> None:
        """Start with an empty window of 2^`bits` bytes. `takeover`: whether it is kept between messages."""
        self.bits = bits
        self._takeover = takeover
        self._level = level
        self._compressor: zlib._Compress | None = None

    def compressor(self) -> zlib._Compress:
        """Return the compressor for the next message; a new one each time without takeover."""
        if not self._takeover:
            return new_compressor(self.bits, self._level)
        if self._compressor is None:
            self._compressor = new_compressor(self.bits, self._level)
        return self._compressor

    def forget(self) -> None:
        """Reset the window after a message that was deflated in isolation: later messages must not refer to what
        came before it.
        """
        self._compressor = None


def new_compressor(bits: int, level: int) -> zlib._Compress:
    """Return a compressor with a window of 2^`bits` bytes, without header and checksum."""
    return zlib.compressobj(level, zlib.DEFLATED, -bits, MEMORY_LEVEL)


def finish(compressor: zlib._Compress) -> bytes:
    """Return the end of a message's deflated payload, without the tail that the receiver appends."""
    return compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]


class Job:
    """A message that is being deflated for one connection or, in isolation, for all connections that share it.

    Attributes:
        frame: the frame to send; None until it is ready.
        size: length of the message in bytes.
        isolated: whether the message refers to nothing before it.
    """

    __slots__ = ("_compressor", "_data", "_opcode", "_parts", "_position", "frame", "isolated", "size")

    def __init__(self, opcode: int, data: bytes, compressor: zlib._Compress | None, isolated: bool) -> None:
        """Start a job. Without a compressor it is ready at once: `data` is already the frame, or other data to send."""
        self._opcode = opcode
        self._data = data
        self._compressor = compressor
        self._position = 0
        self._parts: list[bytes] = []
        self.isolated = isolated
        self.size = len(data)
        self.frame = data if compressor is None else None

    def step(self) -> None:
        """Deflate one slice."""
        compressor = self._compressor
        if compressor is None:
            return
        end = self._position + SLICE
        self._parts.append(compressor.compress(self._data[self._position : end]))
        self._position = end
        if end >= self.size:
            self._parts.append(finish(compressor))
            self.frame = build_frame(self._opcode | RSV1, b"".join(self._parts))
            self._compressor = None
            self._data = b""
