"""permessage-deflate (RFC 7692) for the load tester: a connection that compresses its messages, and an inflater.

Slower than the plain connection: each message goes through zlib separately.
"""

import zlib
from collections.abc import Sequence

from zwoole.bench.loadtest.connection import Connection, Stream
from zwoole.bench.loadtest.content import FIN, masked_frame
from zwoole.bench.loadtest.handshake import Deflate
from zwoole.bench.loadtest.opener import Attempt
from zwoole.bench.loadtest.tally import Tally

RSV1 = 0x40  # set on the first frame of a compressed message

_TAIL = b"\x00\x00\xff\xff"  # ends every message and is not sent (section 7.2.1)
_AT_ONCE = 64  # messages compressed per turn


class DeflatingConnection(Connection):
    """A connection that compresses its messages."""

    def __init__(self, tally: Tally, attempt: Attempt, own: Stream | None, streams: Sequence[Stream]) -> None:
        """Take over a connection whose handshake agreed on compression."""
        super().__init__(tally, attempt.sock, own, streams, attempt.received)
        assert attempt.deflate
        self._terms = tally
        self._compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        self._keeps_context = attempt.deflate.client_keeps_context

    def fill_outbox(self) -> bool:
        """Fill the empty outbox with compressed messages; return whether there are any."""
        own = self.own
        if own is None:
            return False
        first = own.sent
        limit = min(self.quota, self._terms.limit, first + _AT_ONCE)
        frames = []
        while own.sent < limit:
            payload = self._terms.contents.of(own.number, own.sent).payload(own.number, own.sent)
            frames.append(masked_frame(FIN | RSV1 | self._terms.contents.opcode, self._compress(payload)))
            own.sent += 1
        self.outbox[:] = b"".join(frames)
        return self.note_sent(first, len(self.outbox))

    def _compress(self, payload: bytearray) -> bytes:
        if not self._keeps_context:
            self._compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        compressed = self._compressor.compress(payload) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return compressed[: -len(_TAIL)]


class Inflater:
    """Inflates the messages of one connection."""

    def __init__(self, deflate: Deflate) -> None:
        self._keeps_context = deflate.server_keeps_context
        self._decompressor = zlib.decompressobj(-zlib.MAX_WBITS)

    def most_bytes(self, longest: int) -> int:
        """Return the largest compressed size of a message of ``longest`` bytes: zlib stores incompressible data in
        blocks with headers.
        """
        return longest + longest // 1024 + 1024

    def inflate(self, message: bytearray, longest: int) -> bytearray:
        """Return the inflated message; longer ones are cut to ``longest`` + 1 bytes.

        Raises:
            zlib.error: the message is not valid compressed data.
        """
        if not self._keeps_context:
            self._decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
        return bytearray(self._decompressor.decompress(message + _TAIL, longest + 1))
