"""A low-level client: a plain socket that sends what a test wants, and reports exactly what came back.

It answers pings by itself unless told not to, so that the server's heartbeat does not close it.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from tests.client_frames import client_frame
from tests.process.waiting import PATIENCE_S

HEAD = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


@dataclass(frozen=True)
class ServerFrame:
    """One frame from the server, which never masks and never fragments."""

    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int:
        """The code of a close frame; 1005 if it has none."""
        assert self.opcode == CLOSE, self
        return int(struct.unpack("!H", self.payload[:2])[0]) if self.payload else 1005


class RawClient:
    """A socket to the server. A reset instead of an orderly end fails the test with ConnectionResetError."""

    def __init__(
        self,
        port: int,
        timeout: float = PATIENCE_S,
        receive_buffer: int = 0,
        answer_pings: bool = True,
        source: str = "",
        segment: int = 0,
    ) -> None:
        """Connect.

        Args:
            port: the server's port.
            timeout: seconds that sending and reading may take.
            receive_buffer: SO_RCVBUF in bytes; 0 for the kernel's default.
            answer_pings: whether `read_frame` answers and skips pings.
            source: the address to connect from; "" for the kernel's choice.
            segment: TCP_MAXSEG in bytes; 0 for the kernel's default. The kernel sizes the server's send buffer by it.
        """
        self.socket = socket.socket()
        self._answer_pings = answer_pings
        if source:
            self.socket.bind((source, 0))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if segment:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.ended = False
        self._received = bytearray()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        """Send bytes unchanged, in one call."""
        self.socket.sendall(b"".join(pieces))

    def upgrade(self, path: str = "/", behind: bytes = b"") -> RawClient:
        """Perform the handshake; `behind` is sent in the same segment as the head."""
        self.send(HEAD.format(path=path).encode(), behind)
        head = self.read_head()
        assert head.startswith("HTTP/1.1 101 "), head
        return self

    def send_frame(self, opcode: int, payload: bytes = b"") -> None:
        """Send one valid frame."""
        self.send(client_frame(opcode, payload))

    def read_head(self) -> str:
        """Read up to the empty line that ends an HTTP head."""
        while b"\r\n\r\n" not in self._received:
            self._read_more()
        end = self._received.index(b"\r\n\r\n") + 4
        return self._take(end).decode()

    def read_frame(self) -> ServerFrame:
        """Read one frame."""
        first, second = self._read(2)
        assert first & 0xF0 == 0x80, f"first byte {first:#x}: FIN and no reserved bit is what a server sends"
        assert second < 0x80, "a server never masks"
        length = second
        if length >= 126:
            length = int.from_bytes(self._read(2 if length == 126 else 8), "big")
        frame = ServerFrame(first & 0x0F, self._read(length))
        if frame.opcode == PING and self._answer_pings:
            self.send_frame(PONG, frame.payload)
            return self.read_frame()
        return frame

    def read_frames(self) -> list[ServerFrame]:
        """Read until the server has closed the connection, answer its close frame, and return all frames."""
        frames = []
        while not self.at_end():
            frames.append(self.read_frame())
            if frames[-1].opcode == CLOSE:
                with suppress(BrokenPipeError):  # the server has ended
                    self.send_frame(CLOSE, frames[-1].payload[:2])
        return frames

    def read_rest(self) -> bytes:
        """Read until the server has closed the connection."""
        while not self.ended:
            self._read_some()
        return self._take(len(self._received))

    def at_end(self) -> bool:
        """Return whether the server sends nothing more."""
        if not self._received and not self.ended:
            self._read_some()
        return self.ended and not self._received

    def _read(self, size: int) -> bytes:
        while len(self._received) < size:
            self._read_more()
        return self._take(size)

    def _read_more(self) -> None:
        self._read_some()
        if self.ended:
            raise AssertionError(f"the server closed the connection behind {bytes(self._received)[:80]!r}")

    def _read_some(self) -> None:
        data = self.socket.recv(65536)
        self.ended = not data
        self._received += data

    def _take(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken
