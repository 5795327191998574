"""The client's side of the opening handshake, without a socket: it builds the request and checks the response.

RFC 6455 section 4.1; permessage-deflate is RFC 7692 section 7.1.
"""

import base64
import hashlib
import os
import re
from dataclasses import dataclass

from zwoole.bench.loadtest.plan import Plan

MAX_HEAD_BYTES = 16384
MAX_BODY_BYTES = 16384
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
HEAD_END = b"\r\n\r\n"

ERROR_KINDS = {
    "refused": "a TCP connection was refused or broken off",
    "tls": "a TLS handshake failed",
    "timeout": "a connection was not upgraded in time",
    "status": "an upgrade was answered with an HTTP status other than 101",
    "accept": "an upgrade was answered with a wrong Sec-WebSocket-Accept or with something that is not HTTP",
    "negotiation": "an upgrade was answered with a subprotocol or extension not asked for, or without the latter",
}

_BODY_SHOWN = 200  # characters


class HandshakeError(Exception):
    """A connection could not be opened. ``kind`` is one of ERROR_KINDS; the message says more."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Deflate:
    """The result of negotiating permessage-deflate."""

    client_keeps_context: bool = True
    """Whether messages to the server may refer to earlier ones."""
    server_keeps_context: bool = True


class Upgrade:
    """The handshakes of one plan, which differ only in their keys."""

    def __init__(self, plan: Plan) -> None:
        self._compress = plan.compress
        self._subprotocols = plan.subprotocols
        lines = [
            f"GET {plan.target.resource} HTTP/1.1",
            f"Host: {plan.target.authority}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            *(f"{name}: {value}" for name, value in plan.headers),
        ]
        if plan.subprotocols:
            lines.append(f"Sec-WebSocket-Protocol: {', '.join(plan.subprotocols)}")
        if plan.compress:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate")
        self._head = "\r\n".join((*lines, "Sec-WebSocket-Key: ")).encode()

    def request(self) -> tuple[bytes, bytes]:
        """Return a request and the Sec-WebSocket-Accept that must answer it."""
        key = base64.b64encode(os.urandom(16))
        return self._head + key + HEAD_END, base64.b64encode(hashlib.sha1(key + GUID).digest())

    def check(self, head: bytes, accept: bytes) -> Deflate | None:
        """Check a response with status 101; return what was agreed on for compression, None if nothing was.

        Raises:
            HandshakeError: the response does not answer the request.
        """
        fields = fields_of(head)
        if fields.get(b"sec-websocket-accept") != accept:
            raise HandshakeError("accept", "wrong Sec-WebSocket-Accept")
        subprotocol = fields.get(b"sec-websocket-protocol", b"").decode("latin-1")
        if subprotocol and subprotocol not in self._subprotocols:
            raise HandshakeError(
                "negotiation", f"the server chose the subprotocol {subprotocol!r}, which was not offered"
            )
        return self._check_extensions(fields.get(b"sec-websocket-extensions", b"").decode("latin-1"))

    def _check_extensions(self, chosen: str) -> Deflate | None:
        if not chosen:
            if self._compress:
                raise HandshakeError("negotiation", "the server does not agree to permessage-deflate")
            return None
        name, *parameters = (part.strip().lower() for part in chosen.split(";"))
        if name != "permessage-deflate" or not self._compress:
            raise HandshakeError("negotiation", f"the server chose the extension {chosen!r}, which was not offered")
        # With server_max_window_bits the server promises a smaller window; the largest one can inflate that too.
        known = {"client_no_context_takeover", "server_no_context_takeover", "server_max_window_bits"}
        if not known.issuperset(parameter.partition("=")[0] for parameter in parameters):
            raise HandshakeError("negotiation", f"the server chose {chosen!r}, which was not offered")
        return Deflate(
            client_keeps_context="client_no_context_takeover" not in parameters,
            server_keeps_context="server_no_context_takeover" not in parameters,
        )


def status_of(head: bytes) -> str:
    """Return status and reason of a response, like "403 Forbidden".

    Raises:
        HandshakeError: it is not an HTTP/1.1 response.
    """
    status_line = head.partition(b"\r\n")[0]
    version, _, status = status_line.partition(b" ")
    if version != b"HTTP/1.1":
        raise HandshakeError("accept", f"not an HTTP/1.1 response: {status_line[:40]!r}")
    return status.decode("latin-1").strip()


def fields_of(head: bytes) -> dict[bytes, bytes]:
    """Return the header fields of a response, with names in lower case."""
    fields = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in fields}


def is_body_complete(head: bytes, body: bytes) -> bool:
    """Return whether a response has arrived completely, as far as its header tells."""
    fields = fields_of(head)
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        return body.endswith(b"0\r\n\r\n")
    length = fields.get(b"content-length", b"")
    return len(body) >= (int(length) if re.fullmatch(b"[0-9]{1,20}", length) else MAX_BODY_BYTES)


def refusal(head: bytes, body: bytes) -> HandshakeError:
    """Return the error for a response with a status other than 101: its status, and its body on one line."""
    if fields_of(head).get(b"transfer-encoding", b"").lower() == b"chunked":
        body = b"".join(_chunks(body))
    text = " ".join(body.decode("utf-8", "replace").split())
    shown = text if len(text) <= _BODY_SHOWN else text[:_BODY_SHOWN] + "..."
    return HandshakeError("status", f"HTTP status {status_of(head)}" + (f": {shown}" if shown else ""))


def _chunks(body: bytes) -> list[bytes]:
    """Return the chunks of a chunked body, as far as it has arrived."""
    chunks = []
    while body:
        size, _, body = body.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            break
        chunks.append(body[:length])
        body = body[length + 2 :]
    return chunks
