"""The server side of the opening handshake (RFC 6455 section 4.2), without a socket: bytes in, a decision or bytes out.

Operations:
- find the end of a request head while it arrives, and refuse at the first bytes what cannot become a request;
- read a head: return the upgrade that it asks for, or refuse it with a reason that the sender understands;
- write the answer.

Goals: whatever a client sends, no exception but `Refused` is raised. Each rule is in one place, beside the section that
it comes from. Reasons are logged, so they never quote what may hold a secret: the query of the target, or the value of
a header. They name the header and say what is wrong with it. What they do quote is short and printable.

Plan: httptools parses the head. It is lenient, in different places in different releases, so three checks come first:
the syntax of the lines, the request line, and the end of the head. Then the headers are grouped by name, and the rules
of section 4.2.1 are checked. The order of the checks is the order in which a person would want to know of faults.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable
from hashlib import sha1
from http import HTTPStatus
from urllib.parse import unquote

import httptools

from zwoole.shared.request import NAMES, TOKEN, list_elements, path_only, split_target

_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_HTTP2_PREFACE = b"PRI * HTTP/2.0"  # RFC 9113 section 3.4
# The first bytes of the PROXY protocol, versions 1 and 2; version 2 without the empty lines before them.
_PROXY_PROTOCOL = (b"PROXY ", b"\0\r\nQUIT\n")
_TLS_HANDSHAKE = 0x16  # content type of the record that carries a ClientHello (RFC 8446 section 5.1)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_MAX_QUOTED = 60  # characters of a client's text that are quoted in a reason
_MAX_TARGET = 200  # characters of a request target that are logged

# The names of headers that browsers send, in lower case.
_LOWER = {name.encode(): name.lower() for name in NAMES}
_TOKEN_TEXT = re.compile(TOKEN)
_REQUEST_LINE = re.compile(rb"[\r\n]*(%b) ([\x21-\x7e]+) HTTP/(\d\.\d)\r\n" % TOKEN.encode())
_TEXT = rb"[^\x00-\x08\x0a-\x1f\x7f]*"  # text of a line: no control character except tab
_FLAWLESS = re.compile(rb"[\r\n]*%b\r\n(?:%b:%b\r\n)*\r\n" % (_TEXT, TOKEN.encode(), _TEXT))
# If that does not match, this finds the flaw: a CR or LF that is not part of a line ending, another control character
# except tab, or the beginning of a line that does not begin with a name and a colon.
_FLAW = re.compile(rb"\r(?!\n)|(?<!\r)\n|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<=\n)(?!%b:|\r\n|\Z)" % TOKEN.encode())
_FORBIDDEN_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NAME = re.compile(rb"(%b)[ \t]*:" % TOKEN.encode())  # at the beginning of a header line
_VISIBLE_TEXT = re.compile(r"[\x21-\x7e]*")
_VERSION_TEXT = re.compile(r"[A-Za-z]{1,8}/\d{1,3}(\.\d{1,3})?")

# Headers that the two answers write themselves or must not have: a 101 must not have a length or a transfer encoding
# (RFC 9110 section 8.6, RFC 9112 section 6.1).
_RESERVED_IN_SWITCH = frozenset(
    {
        *("upgrade", "connection", "sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions"),
        *("content-length", "transfer-encoding"),
    }
)
_RESERVED_IN_REFUSAL = frozenset({"content-type", "content-length", "transfer-encoding"})

# RFC 9110 section 15.5.22: "The server MUST send an Upgrade header field in a 426 response"; section 7.8: together with
# an "Upgrade" connection option.
_UPGRADE_HEADERS = (("Upgrade", "websocket"), ("Connection", "Upgrade"))


class Refused(Exception):
    """A request that is answered with an HTTP error instead of an upgrade.

    Args:
        status: the HTTP status of the answer.
        reason: a sentence for the person who uses the client; it becomes the body of the answer.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, reason: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        self.status = status
        self.reason = reason
        self.headers = tuple(headers)
        super().__init__(status, reason, self.headers)

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


class Upgrade:
    """A request for a WebSocket connection that obeys every rule of RFC 6455 section 4.2.1.

    Attributes:
        path: the path of the target, percent-decoded as UTF-8.
        accept: the value of Sec-WebSocket-Accept for its key.
        subprotocols: the offered subprotocols, in the client's order of preference.
        extensions: the values of its Sec-WebSocket-Extensions headers, in order, as sent.
        host: the Host header.
        origin: the Origin header, which browsers always send; None if there is none.
        target: the request target as sent.
        headers: name and value of each header, in order, without white space around values.
    """

    __slots__ = ("accept", "extensions", "headers", "host", "origin", "path", "subprotocols", "target")

    def __init__(
        self,
        path: str,
        accept: str,
        subprotocols: tuple[str, ...],
        extensions: tuple[str, ...],
        host: str,
        origin: str | None,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        self.path = path
        self.accept = accept
        self.subprotocols = subprotocols
        self.extensions = extensions
        self.host = host
        self.origin = origin
        self.target = target
        self.headers = headers


# ---- Receiving ---------------------------------------------------------------------------------------------------


def find_head_end(buffer: bytearray | bytes, start: int) -> int:
    """Return the index after the empty line that ends the head in `buffer`, or -1 if it is not there yet.

    Empty lines before the request line do not end the head.

    Args:
        buffer: the bytes that have arrived.
        start: how many of them earlier calls have searched.
    """
    # RFC 9112 section 2.2: a server "SHOULD ignore at least one empty line (CRLF) received prior to the request-line"
    begin = len(buffer) - len(buffer.lstrip(b"\r\n"))
    end = buffer.find(b"\r\n\r\n", max(start - 3, begin))
    return -1 if end < 0 else end + 4


def request_target(head: bytes | bytearray) -> str:
    """Return the target of a request, of whose `head` only a part may have arrived; or the text in its place.

    The result is cut to _MAX_TARGET characters, but not escaped: it must not be logged as it is. It is empty if a
    header is in the place of the request line, since its value may be a secret.
    """
    words = head.lstrip(b"\r\n").partition(b"\r\n")[0].split(b" ", 2)
    if b":" in words[0]:
        return ""
    return words[min(1, len(words) - 1)][:_MAX_TARGET].decode("latin-1")


def asks_for_head_only(head: bytes | bytearray) -> bool:
    """Tell whether the answer to a request must not have a body (RFC 9110 section 9.3.2)."""
    return head.lstrip(b"\r\n").startswith(b"HEAD ")


def early_refusal(prefix: bytes | bytearray) -> Refused | None:
    """Return the refusal for a client whose first bytes `prefix` cannot begin an HTTP/1.1 request; None if they can."""
    begin = bytes(prefix.lstrip(b"\r\n")[: len(_HTTP2_PREFACE)])
    if not begin:
        return None
    if begin[0] == _TLS_HANDSHAKE:
        return Refused(
            400, "this looks like TLS, but this port is plain: use ws://, or a proxy in front that speaks TLS"
        )
    if begin == _HTTP2_PREFACE:
        return Refused(400, "this looks like HTTP/2, but a WebSocket begins with an HTTP/1.1 request")
    if begin.startswith(_PROXY_PROTOCOL):
        return Refused(
            400, "this looks like the PROXY protocol, which this server does not read: switch it off in the proxy"
        )
    # A method may be any token, but all existing methods begin with a letter.
    if not begin[:1].isalpha():
        return Refused(400, f"this does not look like HTTP: a request begins with a method, got {_quote(begin[:1])}")
    return None


def parse_upgrade(head: bytes) -> Upgrade:
    """Return the upgrade that a request asks for.

    Args:
        head: the request head, up to and including its empty line.

    Raises:
        Refused: it is not HTTP, does not ask for a WebSocket, or breaks a rule of RFC 6455 section 4.2.1.
    """
    if (refused := early_refusal(head)) is not None:
        raise refused
    _check_lines(head)
    method, version = _check_request_line(head)
    target, headers = _read_head(head)

    fields: dict[str, list[str]] = {}
    for name, value in headers:
        key = _LOWER.get(name)
        if key is None:
            key = name.decode("latin-1").lower()
        values = fields.get(key)
        if values is None:
            values = fields[key] = []
        values.append(value.decode("latin-1"))
    _check_target(target)
    _check_host(fields, version)
    _check_no_body(fields)
    _check_upgrade(fields)
    _check_method(method, version)
    _check_version(fields)
    raw_path, _ = split_target(target.decode("latin-1"))
    return Upgrade(
        unquote(raw_path),
        _accept(_key(fields)),
        _subprotocols(fields),
        tuple(fields.get("sec-websocket-extensions", ())),
        fields["host"][0],
        _single(fields, "Origin"),
        target,
        headers,
    )


# ---- Sending -----------------------------------------------------------------------------------------------------


def switching_protocols(
    upgrade: Upgrade,
    subprotocol: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    extensions: str | None = None,
) -> bytes:
    """Return the 101 response that accepts `upgrade` (RFC 6455 section 4.2.2).

    Args:
        upgrade: the request to accept.
        subprotocol: one of the offered subprotocols, or None.
        headers: further headers, such as Set-Cookie.
        extensions: the value of Sec-WebSocket-Extensions; None if no extension is agreed on.

    Raises:
        ValueError: `subprotocol` was not offered, or a header is malformed or reserved.
    """
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {upgrade.accept}",
    ]
    if subprotocol is not None:
        if subprotocol not in upgrade.subprotocols:
            # Neither are the others quoted: some pages send a secret token as a subprotocol.
            raise ValueError(f"subprotocol {subprotocol!r} was not offered")
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    if extensions is not None:
        lines.append(f"Sec-WebSocket-Extensions: {extensions}")
    lines += _header_lines(headers, _RESERVED_IN_SWITCH)
    return _encode_head(lines)


def refusal(refused: Refused, head_only: bool = False) -> bytes:
    """Return the complete response that refuses a client; the connection is closed after it.

    Args:
        refused: status, reason and headers. Connection options among the headers are added to ``close``.
        head_only: whether to leave out the body, as in the answer to a HEAD request; its length is still given.

    Raises:
        ValueError: a header of `refused` is malformed or reserved.
    """
    body = refused.reason.encode("utf-8", "replace") + b"\n"
    options = ["close"] + [value for name, value in refused.headers if name.lower() == "connection"]
    others = [(name, value) for name, value in refused.headers if name.lower() != "connection"]
    lines = [
        f"HTTP/1.1 {refused.status} {_PHRASES.get(refused.status, '')}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        *_header_lines([("Connection", ", ".join(options)), *others], _RESERVED_IN_REFUSAL),
    ]
    return _encode_head(lines) + (b"" if head_only else body)


def _header_lines(headers: Iterable[tuple[str, str]], reserved: frozenset[str]) -> list[str]:
    """Return a line per header; ValueError if one is malformed (RFC 9110 section 5.5) or `reserved`."""
    lines = []
    for name, value in headers:
        if not _TOKEN_TEXT.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in reserved:
            raise ValueError(f"header {name} is not the caller's to set")
        # Above all CR and LF, with which a value could inject headers or a body.
        if forbidden := _FORBIDDEN_IN_VALUE.search(value):
            raise ValueError(f"header {name} has a control character: 0x{ord(forbidden[0]):02x}")
        lines.append(f"{name}: {value}")
    return lines


def _encode_head(lines: list[str]) -> bytes:
    """Return `lines` and the empty line after them; ValueError if one has characters outside latin-1."""
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


# ---- Reading the head --------------------------------------------------------------------------------------------


class _HeadReader:
    """Receives the parts of one request head from httptools."""

    __slots__ = ("headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value.rstrip(b" \t")))  # httptools strips only leading white space


def _read_head(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return target and headers of a request `head`, parsed by httptools."""
    # httptools would parse bytes after the empty line as a second request, and add its headers to those of the first.
    if find_head_end(head, 0) != len(head):
        raise Refused(400, "malformed HTTP: the request head does not end with its first empty line")
    reader = _HeadReader()
    try:
        httptools.HttpRequestParser(reader).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # httptools raises this for every upgrade
    except httptools.HttpParserInvalidURLError as error:
        raise Refused(400, f"malformed HTTP: {error}, got the target {_quote_path(request_target(head))}") from None
    except httptools.HttpParserError as error:
        raise Refused(400, f"malformed HTTP: {error}") from None
    return reader.target, reader.headers


# ---- The rules ---------------------------------------------------------------------------------------------------


def _check_lines(head: bytes) -> None:
    """Refuse a head with stray control characters, or with lines that are not headers."""
    # RFC 9112 section 2.2 (bare CR), 5.1 (white space before the colon), 5.2 (folded lines) and RFC 9110 section 5.5
    # (NUL and the like): requests can be smuggled if a proxy in front reads such lines differently from this server.
    if _FLAWLESS.fullmatch(head):  # several times as fast as the search for the flaw
        return
    lines = head.lstrip(b"\r\n")
    flaw = _FLAW.search(lines)
    if flaw is None:
        return
    number = lines.count(b"\n", 0, flaw.start()) + 1
    name = _NAME.match(lines, lines.rfind(b"\n", 0, flaw.start()) + 1)
    if flaw[0]:
        where = f"line {number}" if name is None else f"the header {_quote(name[1])}"
        where = "the request line" if number == 1 else where
        raise Refused(400, f"malformed HTTP: stray control character 0x{flaw[0].hex()} in {where}")
    fault = ""
    if name is not None:
        fault = f", but white space follows the name {_quote(name[1])}"
    elif lines[flaw.start()] in b" \t":
        fault = ", but it begins with white space"
    raise Refused(400, f"malformed HTTP: line {number} must begin with the name of a header and a colon{fault}")


def _check_request_line(head: bytes) -> tuple[bytes, bytes]:
    """Return method and version; refuse requests other than GET or HEAD in HTTP/1.1 or HTTP/1.0.

    Load balancers use HEAD and HTTP/1.0 for health checks. They get the same answer as all clients that do not ask for
    a WebSocket. `_check_method` checks what an upgrade needs.
    """
    # httptools accepts RTSP, ICE and a line without a version, and its errors do not say what is wrong.
    line = _REQUEST_LINE.match(head)
    if line is None:
        fault = _fault_of_request_line(_first_line(head).decode("latin-1"))
        raise Refused(400, f"malformed HTTP: the request line must read 'GET /path HTTP/1.1', but {fault}")
    method, _, version = line.groups()
    if method not in (b"GET", b"HEAD"):
        _check_method(method, version)
    if version not in (b"1.1", b"1.0"):
        _check_method(b"GET", version)
    return method, version


def _fault_of_request_line(line: str) -> str:
    """Return what is wrong with a request line that _REQUEST_LINE does not match."""
    words = line.split(" ")
    if len(words) != 3:
        return f"the number of its spaces is {len(words) - 1}, not 2"
    method, target, version = words
    if not _TOKEN_TEXT.fullmatch(method):
        return "it begins with something else than a method"
    if not target:
        return "it has no path"
    if not _VISIBLE_TEXT.fullmatch(target):
        path = path_only(target)
        part = "its query" if _VISIBLE_TEXT.fullmatch(path) else f"its path {_quote(path)}"
        return f"{part} has other characters than visible ASCII: such characters are percent-encoded"
    return f"it ends in {_quote(version)}" if _VERSION_TEXT.fullmatch(version) else "it ends in no version"


def _check_method(method: bytes, version: bytes) -> None:
    """Refuse an upgrade that is not ``GET target HTTP/1.1`` (RFC 6455 section 4.2.1 item 1)."""
    if method != b"GET":
        raise Refused(405, f"the method must be GET, got {_quote(method)}", [("Allow", "GET, HEAD")])
    if version != b"1.1":
        raise Refused(400, f"the request must be HTTP/1.1, got HTTP/{version.decode()}")


def _check_target(target: bytes) -> None:
    """Refuse a target that is neither a path nor a URL, or has a fragment (RFC 6455 section 4.2.1 item 1)."""
    # RFC 9112 section 3.2: a target has no fragment. RFC 6455 section 3: a ws URI has none either.
    if b"#" in target:
        quoted = _quote_path(target.decode("latin-1"))
        raise Refused(400, f"the request target must not have a fragment (#), got one behind {quoted}")
    if not target.startswith(b"/") and b"://" not in target:
        quoted = _quote_path(target.decode("latin-1"))
        raise Refused(400, f"the request target must be a path or a URL, got {quoted}")


def _check_host(fields: dict[str, list[str]], version: bytes) -> None:
    """Refuse all but exactly one Host (RFC 9112 section 3.2, RFC 6455 section 4.2.1 item 2); HTTP/1.0 needs none."""
    if not _single(fields, "Host") and version != b"1.0":
        raise Refused(400, "the Host header is missing or empty")


def _check_no_body(fields: dict[str, list[str]]) -> None:
    """Refuse a request that announces a body: its bytes would be read as frames."""
    if "transfer-encoding" in fields:
        raise Refused(400, "a WebSocket handshake must not have a body, got a Transfer-Encoding header")
    for length in fields.get("content-length", ()):
        if length.strip("0"):  # not int(), which fails on very many zeros; httptools has checked the digits
            raise Refused(400, "a WebSocket handshake must not have a body, got a Content-Length other than 0")


def _check_upgrade(fields: dict[str, list[str]]) -> None:
    """Refuse a request that does not ask for a WebSocket (RFC 6455 section 4.2.1 items 3 and 4)."""
    if not _lists(fields, "upgrade", "websocket"):
        # A client may offer other protocols to a server that ignores them (RFC 9110 section 7.8): this is plain HTTP.
        raise Refused(
            426,
            "this is a WebSocket endpoint; connect with a WebSocket client. If you did, something in between has"
            " removed the header 'Upgrade: websocket'",
            _UPGRADE_HEADERS,
        )
    if not _lists(fields, "connection", "upgrade"):
        missing = "" if "connection" in fields else ", but it is missing"
        raise Refused(400, f"the Connection header must include 'Upgrade'{missing}")


def _check_version(fields: dict[str, list[str]]) -> None:
    """Refuse any version but 13 (RFC 6455 sections 4.2.1 item 6 and 4.4)."""
    version = _single(fields, "Sec-WebSocket-Version")
    if version is None:
        raise Refused(400, "the Sec-WebSocket-Version header is missing")
    if version != "13":
        # RFC 6455 section 4.2.2 item 4: the server MUST answer with the versions that it supports.
        headers = [("Sec-WebSocket-Version", "13"), *_UPGRADE_HEADERS]
        raise Refused(426, "Sec-WebSocket-Version must be 13", headers)


def _key(fields: dict[str, list[str]]) -> str:
    """Return the Sec-WebSocket-Key, 16 bytes in base64 (RFC 6455 section 4.2.1 item 5)."""
    key = _single(fields, "Sec-WebSocket-Key")
    if key is None:
        raise Refused(400, "the Sec-WebSocket-Key header is missing")
    try:
        nonce = a2b_base64(key)
    except ValueError:
        nonce = b""
    # Encoding it again finds what decoders tolerate: other characters, bits after the last byte, too much padding.
    if len(nonce) != 16 or _base64(nonce) != key:
        raise Refused(400, f"Sec-WebSocket-Key must be 16 bytes in base64, 24 characters in all; it has {len(key)}")
    return key


def _accept(key: str) -> str:
    """Return the Sec-WebSocket-Accept for `key` (RFC 6455 section 4.2.2 item 5.4)."""
    return _base64(sha1(key.encode() + _ACCEPT_GUID, usedforsecurity=False).digest())


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def _subprotocols(fields: dict[str, list[str]]) -> tuple[str, ...]:
    """Return the offered subprotocols; refuse all but unique tokens (RFC 6455 section 4.1 item 10)."""
    values = fields.get("sec-websocket-protocol")
    if values is None:
        return ()
    offered: dict[str, None] = {}  # an ordered set
    for name in list_elements(",".join(values)):
        number = len(offered) + 1
        if not _TOKEN_TEXT.fullmatch(name):
            raise Refused(400, f"Sec-WebSocket-Protocol must list tokens, but its element {number} is none")
        if name in offered:
            raise Refused(400, f"Sec-WebSocket-Protocol must not repeat a token, but its element {number} does")
        offered[name] = None
    return tuple(offered)


def _single(fields: dict[str, list[str]], name: str) -> str | None:
    """Return the value of header `name`; None if it is missing; Refused if it is repeated."""
    values = fields.get(name.lower(), [])
    if len(values) > 1:
        raise Refused(400, f"the {name} header must not be repeated, got {len(values)} of them")
    return values[0] if values else None


def _lists(fields: dict[str, list[str]], key: str, token: str) -> bool:
    """Tell whether a token is among the elements of all headers `key`; case does not matter."""
    text = ",".join(fields.get(key, ())).lower()
    return text == token or token in list_elements(text)  # most clients send nothing else


def _first_line(lines: bytes) -> bytes:
    """Return the first of `lines` that is not empty."""
    return lines.lstrip(b"\r\n").partition(b"\r\n")[0]


def _quote_path(target: str) -> str:
    """Return what a reason may quote of a request target."""
    return _quote(path_only(target))


def _quote(text: bytes | str) -> str:
    """Return text of a client quoted for a reason: in printable ASCII, and short."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return ascii(text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 3] + "...")
