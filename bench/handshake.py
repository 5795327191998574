"""Opens the connections of a load process: TCP connects and HTTP upgrades, a bounded number at once."""

import asyncio
import base64
import hashlib
import os
import socket
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

AT_ONCE = 64  # below the backlog of 100 that asyncio's servers have
TIMEOUT_S = 10.0
MAX_RESPONSE_BYTES = 16384
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3

ERROR_KINDS = {
    "refused": "a TCP connection was refused or broken off",
    "timeout": "a connection was not upgraded in time",
    "status": "an upgrade was answered with another HTTP status than 101",
    "accept": "an upgrade was answered with a wrong Sec-WebSocket-Accept or with something that is not HTTP",
}


@dataclass(frozen=True)
class Target:
    """The server to load."""

    host: str
    port: int
    resource: str  # path and query

    @classmethod
    def from_url(cls, url: str) -> "Target":
        """Take apart a ws:// URL.

        Raises:
            ValueError: it is none, with a message for the user.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError as error:
            raise ValueError(f"bad URL {url!r}: {error}") from None
        if parts.scheme != "ws" or not parts.hostname:
            raise ValueError(f"bad URL {url!r}: expected ws://host:port/path")
        return cls(parts.hostname, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{self.port}{self.resource}"


class HandshakeError(Exception):
    """A connection that was not opened: ``kind`` is one of ERROR_KINDS, the message says more."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Opened:
    """The result of open_connections()."""

    sockets: list[tuple[socket.socket, bytes]] = field(default_factory=list)
    """Nonblocking sockets, each with what it received after the response."""

    errors: Counter[str] = field(default_factory=Counter)
    first_error: str = ""


def open_connections(target: Target, count: int, timeout_s: float = TIMEOUT_S) -> Opened:
    """Open ``count`` connections, each within ``timeout_s``; failures are counted, not raised."""
    return asyncio.run(_open_all(target, count, timeout_s))


async def _open_all(target: Target, count: int, timeout_s: float) -> Opened:
    opened = Opened()
    places = asyncio.Semaphore(AT_ONCE)

    async def open_one() -> None:
        async with places:
            try:
                opened.sockets.append(await asyncio.wait_for(_open(target), timeout_s))
            except asyncio.TimeoutError:
                error = HandshakeError("timeout", f"not upgraded within {timeout_s:g} s")
            except HandshakeError as failure:
                error = failure
            else:
                return
        opened.errors[error.kind] += 1
        opened.first_error = opened.first_error or str(error)

    await asyncio.gather(*(open_one() for _ in range(count)))
    return opened


async def _open(target: Target) -> tuple[socket.socket, bytes]:
    sock = await _connect(target)
    try:
        return sock, await _upgrade(sock, target)
    except OSError as error:
        sock.close()
        raise HandshakeError("refused", error.strerror or str(error)) from None
    except BaseException:
        sock.close()
        raise


async def _connect(target: Target) -> socket.socket:
    """Connect to the first address of the host that accepts, as "localhost" may have one that does not."""
    loop = asyncio.get_running_loop()
    reason = "no address"
    try:
        addresses = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise HandshakeError("refused", error.strerror or str(error)) from None
    for family, kind, protocol, _, address in addresses:
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, address)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            connected, sock = sock, None
            return connected
        finally:
            if sock:
                sock.close()
    raise HandshakeError("refused", reason)


async def _upgrade(sock: socket.socket, target: Target) -> bytes:
    """Run the opening handshake; return what was received after the response."""
    key = base64.b64encode(os.urandom(16))
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _request(target, key))
    received = b""
    while b"\r\n\r\n" not in received:
        more = await loop.sock_recv(sock, 4096)
        if not more:
            raise HandshakeError("refused", "connection closed in the opening handshake")
        received += more
        if len(received) > MAX_RESPONSE_BYTES:
            raise HandshakeError("accept", f"response longer than {MAX_RESPONSE_BYTES} bytes")
    head, _, rest = received.partition(b"\r\n\r\n")
    _check_response(head, key)
    return rest


def _request(target: Target, key: bytes) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    lines = (
        f"GET {target.resource} HTTP/1.1",
        f"Host: {host}:{target.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key.decode()}",
        "Sec-WebSocket-Version: 13",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _check_response(head: bytes, key: bytes) -> None:
    status_line, *header_lines = head.split(b"\r\n")
    version, _, status = status_line.partition(b" ")
    if version != b"HTTP/1.1":
        raise HandshakeError("accept", f"not an HTTP/1.1 response: {status_line[:40]!r}")
    if status[:3] != b"101":
        raise HandshakeError("status", f"HTTP status {status.decode('latin-1')}")
    fields = (line.partition(b":") for line in header_lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    expected = base64.b64encode(hashlib.sha1(key + GUID).digest())
    if headers.get(b"sec-websocket-accept") != expected:
        raise HandshakeError("accept", "wrong Sec-WebSocket-Accept")
