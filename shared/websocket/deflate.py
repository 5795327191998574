"""permessage-deflate (RFC 7692), server side, without a socket: what is agreed on, and both directions of it.

Operations: answer a client's offers; inflate a message as it arrives, no further than its limit and in slices; deflate
a message, at once or in slices.

Goals: a bomb costs its sender the connection and us nothing beyond the limit; without context takeover nothing is kept
between messages; a broadcast is deflated once for all who agreed on the same window.

Plan: zlib does the work. A message deflated *in isolation* refers to nothing before it, so every receiver of the same
window takes it. One that agreed on context takeover does too, if its own compressor forgets what it had before: later
messages then refer to nothing before the isolated one, of which the compressor knows nothing.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from zwoole.shared.request import TOKEN
from zwoole.shared.websocket.frames import build_frame

TAIL = b"\x00\x00\xff\xff"  # what a sync flush ends with: left off by senders, appended by receivers (section 7.2)
RSV1 = 0x40
MEMORY_LEVEL = 8
SLICE = 16384  # bytes that are deflated at a time

_PARAMETER = rf'[ \t]*({TOKEN})[ \t]*(?:=[ \t]*(?:({TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*)?'
_EXTENSION = re.compile(rf"{_PARAMETER}(?:;{_PARAMETER})*")
_PART = re.compile(_PARAMETER)
_NAME = "permessage-deflate"
_FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
_BITS = re.compile(r"[89]|1[0-5]")  # section 7.1.2: "an integer value between 8 to 15", without leading zeros

Offer = dict[str, str | None]


class MalformedOffer(Exception):
    """A Sec-WebSocket-Extensions header that is none: the handshake must fail (RFC 6455 section 9.1)."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What this server would like; the settings of the same names.

    Attributes:
        window_bits: of the window of what it sends, and at most of what it receives; 9 to 15.
        context_takeover: whether windows may outlast a message.
    """

    window_bits: int
    context_takeover: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    """What server and client agreed on.

    Attributes:
        response: the value of Sec-WebSocket-Extensions that says so.
        server_bits: window of what the server sends.
        client_bits: window of what the client sends.
        server_takeover: whether the server's window outlasts a message.
        client_takeover: whether the client's does.
    """

    response: str
    server_bits: int
    client_bits: int
    server_takeover: bool
    client_takeover: bool


# ---- The handshake -----------------------------------------------------------------------------------------------


def agree(headers: Iterable[str], wishes: Wishes) -> Agreement | None:
    """Return what comes of a client's offers, the first that can be met; None where none is.

    Args:
        headers: the values of its Sec-WebSocket-Extensions headers, in order.
        wishes: the server's own.

    Raises:
        MalformedOffer: a header does not have the form that RFC 6455 section 9.1 gives it.
    """
    for name, offer in parse_offers(headers):
        if name == _NAME and offer is not None and (agreement := meet(offer, wishes)) is not None:
            return agreement
    return None


def parse_offers(headers: Iterable[str]) -> list[tuple[str, Offer | None]]:
    """Return each extension offered and its parameters; None for the parameters where one stands there twice.

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
    """Return an extension's parameters by name; None where a name stands there twice."""
    offer: Offer = {}
    for part in parts:
        name, token, quoted = part.groups()
        if name in offer:
            return None
        offer[name] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return offer


def meet(offer: Offer, wishes: Wishes) -> Agreement | None:
    """Return the agreement that meets one offer of permessage-deflate; None where it must be declined (section 7.1)."""
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
    if server_bits < 9:  # zlib cannot deflate with a window of 256 bytes without a header of its own
        return None
    response = [_NAME]
    server_takeover = wishes.context_takeover and "server_no_context_takeover" not in offer
    client_takeover = wishes.context_takeover and "client_no_context_takeover" not in offer
    response += [flag for flag, kept in zip(_FLAGS, (server_takeover, client_takeover), strict=True) if not kept]
    if server_bits < 15:
        response.append(f"server_max_window_bits={server_bits}")
    client_bits = 15
    if "client_max_window_bits" in offer:  # only who offers it can be asked for a smaller window (section 7.1.2.2)
        client_bits = min(wishes.window_bits, int(offer["client_max_window_bits"] or 15))
        if client_bits < 15:
            response.append(f"client_max_window_bits={client_bits}")
    return Agreement("; ".join(response), server_bits, client_bits, server_takeover, client_takeover)


# ---- Receiving ---------------------------------------------------------------------------------------------------


class Inflater:
    """Inflates one connection's messages.

    A block may say that it is the last one (BFINAL; RFC 7692 section 7.2.3.4). The sender's next block then refers to
    nothing before it, so it gets a decompressor with an empty window. Behind such a block a message ends in one of two
    ways: with the octet 00, which makes an empty block together with the tail that the receiver appends, or with
    nothing. In the second case the tail is half a block, and its decompressor must not see the next message.

    Attributes:
        rest: input that was given and not yet looked at: the output had reached its limit, or a last block ended.
        taken: bytes of this message that the decompressor has taken, since the message's beginning or a last block.
    """

    __slots__ = ("_bits", "_decoder", "_takeover", "rest", "taken")

    def __init__(self, bits: int, takeover: bool) -> None:
        """Begin with an empty window of 2^`bits` bytes, which outlasts a message where `takeover` says so."""
        self._bits = max(bits, 9)
        self._takeover = takeover
        self._decoder: zlib._Decompress | None = None
        self.rest = b""
        self.taken = 0

    def inflate(self, data: bytes, limit: int) -> bytes:
        """Return what the next piece of a message's payload inflates to, at most `limit` bytes at a time.

        To the end of a payload that is not empty TAIL must be appended.

        Raises:
            zlib.error: it is not deflated data.
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
        """The message is whole."""
        if not self._takeover or self.taken == len(TAIL):  # of the message, nothing but the tail
            self._decoder = None
        self.taken = 0


# ---- Sending -----------------------------------------------------------------------------------------------------


class Deflater:
    """Deflates one connection's messages.

    Attributes:
        bits: of its window; connections with the same can share isolated messages.
    """

    __slots__ = ("_compressor", "_level", "_takeover", "bits")

    def __init__(self, bits: int, takeover: bool, level: int) -> None:
        """Begin with an empty window of 2^`bits` bytes, which outlasts a message where `takeover` says so."""
        self.bits = bits
        self._takeover = takeover
        self._level = level
        self._compressor: zlib._Compress | None = None

    def compressor(self) -> zlib._Compress:
        """Return what deflates the next message; without takeover it is a new one."""
        if not self._takeover:
            return new_compressor(self.bits, self._level)
        if self._compressor is None:
            self._compressor = new_compressor(self.bits, self._level)
        return self._compressor

    def forget(self) -> None:
        """A message was sent that was deflated in isolation: what came before it must not be referred to any more."""
        self._compressor = None


def new_compressor(bits: int, level: int) -> zlib._Compress:
    """Return a compressor with a window of 2^`bits` bytes, without header and checksum."""
    return zlib.compressobj(level, zlib.DEFLATED, -bits, MEMORY_LEVEL)


def finish(compressor: zlib._Compress) -> bytes:
    """Return the last of a message's deflated payload, without the tail that its receiver appends."""
    return compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]


class Job:
    """A message that is being deflated, for one connection or, isolated, for all that share it.

    Attributes:
        frame: what is to be sent, None while it is not ready.
        size: of the message.
        isolated: whether it refers to nothing before it.
    """

    __slots__ = ("_compressor", "_data", "_opcode", "_parts", "_position", "frame", "isolated", "size")

    def __init__(self, opcode: int, data: bytes, compressor: zlib._Compress | None, isolated: bool) -> None:
        """Begin a job; without a compressor it is ready at once: `data` is the frame, or what else is to be sent."""
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
