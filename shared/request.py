"""The request that opened a connection, as callbacks see it, and its packed record.

The master keeps one record per connection for the connection's lifetime and gives it to each worker that asks. So the
record must be small; reading it may be a little slower:

- It is a flat sequence of msgpack scalars (target, address, port, subprotocol, then name, value, name, value ...). The
  decoder refuses containers, so no record can make it recurse or preallocate memory.
- The header names that browsers send are stored as one byte, their index in ``NAMES``.
- Text is latin-1 on the wire (RFC 9110 section 5.5) and ``str`` here, so a worker decodes nothing twice.

Derived values (headers, cookies, query) are computed on first access.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import msgpack

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 section 5.6.2

# Only append to it: records contain indexes into it.
NAMES = (
    "Host",
    "Connection",
    "Upgrade",
    "Origin",
    "User-Agent",
    "Cookie",
    "Authorization",
    "Pragma",
    "Cache-Control",
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol",
    "Sec-Fetch-Dest",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Site",
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Real-IP",
    "X-Request-ID",
)
_NAME_CODES = {name: code for code, name in enumerate(NAMES)}
MAX_STATE_BYTES = 65536  # of the packed `state` of a connection
_PATH_END = re.compile("[?#]")
_USER_INFO = re.compile(r"\A([^/]*//)?[^/]*@")  # at the beginning of a target (RFC 3986 section 3.2.1)
_FIXED_FIELDS = 4  # target, remote_addr, remote_port, subprotocol


class Headers(Mapping[str, str]):
    """The header fields of a request: a read-only mapping with case-insensitive names.

    ``headers["name"]`` joins repeated fields with ``", "`` (``Cookie`` with ``"; "``); ``get_all`` returns them
    separately. Iteration yields each name once, spelled as the client spelled it first.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, tuple[str, list[str]]] = {}
        for name, value in fields:
            self._fields.setdefault(name.lower(), (name, []))[1].append(value)

    def __getitem__(self, name: str) -> str:
        key = name.lower()
        # RFC 9110 section 5.3 joins repeated fields with a comma. A cookie's value may contain commas, so RFC 9113
        # section 8.2.3 joins cookies with the separator of RFC 6265 section 4.2.1.
        return ("; " if key == "cookie" else ", ").join(self._fields[key][1])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._fields.values())

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {name.lower(): self[name] for name in self} == {str(name).lower(): other[name] for name in other}

    __hash__ = None  # type: ignore[assignment]  # equal to plain dicts, and therefore unhashable like them

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"

    def get_all(self, name: str) -> list[str]:
        """Return the values of all fields with that name, in order; an empty list if there are none."""
        _, values = self._fields.get(name.lower(), (name, []))
        return list(values)


class Request:
    """The HTTP request that opened connection `fd`.

    Args:
        fd: the connection's id, as callbacks see it.
        target: the request target as the client sent it, in origin or absolute form (RFC 9112 section 3.2).
        headers: name and value of each field, in order.
        remote_addr: the address of the peer.
        remote_port: the port of the peer.
        subprotocol: the agreed subprotocol, if any.
    """

    __slots__ = (
        "_cookies",
        "_fields",
        "_headers",
        "_query",
        "_record",
        "fd",
        "path",
        "query_string",
        "raw_path",
        "remote_addr",
        "remote_port",
        "state",
        "subprotocol",
    )

    fd: int
    """The connection's id, as `push` and the other commands take it. It is never used for another connection."""
    path: str
    """The path that the client asked for, percent-decoded as UTF-8; bytes that are not UTF-8 become U+FFFD."""
    raw_path: str
    """The path as the client sent it."""
    query_string: str
    """The part after the first ``?``, as the client sent it; "" if there is none. `query` is the decoded form."""
    remote_addr: str
    """The IP address of the peer. Behind a proxy it is the proxy's address."""
    remote_port: int
    """The TCP port of the peer."""
    subprotocol: str | None
    """The agreed subprotocol; None if there is none."""

    state: Any
    """The app's own value for the connection; None if unset. A `handshake` callback may assign it; `open`, or the
    handler, receives it. `Server.set_state` changes it later, and `adopt` receives that value. It must consist of types
    that msgpack can pack (None, numbers, strings, bytes, lists, dicts) and have at most 64 KiB packed."""

    def __init__(
        self,
        fd: int,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        remote_addr: str = "",
        remote_port: int = 0,
        subprotocol: str | None = None,
    ) -> None:
        self.fd = fd
        self.raw_path, self.query_string = split_target(target)
        self.path = unquote(self.raw_path)
        self.remote_addr = remote_addr
        self.remote_port = remote_port
        self.subprotocol = subprotocol
        self.state = None
        self._fields = tuple(headers)
        self._headers: Headers | None = None
        self._query: dict[str, str] | None = None
        self._cookies: dict[str, str] | None = None
        self._record = b""

    if not TYPE_CHECKING:  # a checker would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Decode the record of a request that `request_of` made; called for what it has not set yet."""
            if name not in _DECODED:
                raise AttributeError(f"a request has no {name!r}")
            decoded = unpack_request(self.fd, self._record)
            for slot in _DECODED:
                try:
                    object.__getattribute__(self, slot)  # what the app has assigned stays
                except AttributeError:
                    object.__setattr__(self, slot, getattr(decoded, slot))
            return getattr(self, name)

    def __repr__(self) -> str:
        return f"<Request fd={self.fd} path={self.path!r} from {self.remote_addr} port {self.remote_port}>"

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _ATTRIBUTES:
            raise AttributeError(
                f"a request has no {name!r}, and takes no attributes of the app: keep a value in `request.state`, which"
                " reaches `open` and `adopt`"
            )
        object.__setattr__(self, name, value)

    @property
    def headers(self) -> Headers:
        """The header fields."""
        if self._headers is None:
            self._headers = Headers(self._fields)
        return self._headers

    @property
    def query(self) -> dict[str, str]:
        """The decoded query parameters, including empty ones. If a name is repeated, its last value counts."""
        if self._query is None:
            self._query = dict(parse_qsl(self.query_string, keep_blank_values=True))
        return self._query

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies with their values as sent, without enclosing double quotes; malformed ones are skipped."""
        if self._cookies is None:
            self._cookies = parse_cookies(self.headers.get("Cookie", ""))
        return self._cookies

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offered, in its order of preference."""
        return tuple(list_elements(self.headers.get("Sec-WebSocket-Protocol", "")))


_ATTRIBUTES = frozenset(Request.__slots__)
_DECODED = _ATTRIBUTES - {"_record", "fd", "state"}


class _Draft(Request):
    """A request that is being built. Creating one is four times as fast as it skips the check of every attribute."""

    __slots__ = ()
    __setattr__ = object.__setattr__  # type: ignore[assignment]


# ---- The packed record -----------------------------------------------------------------------------------------


def pack_request(
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    remote_addr: str,
    remote_port: int,
    subprotocol: str | None,
) -> bytes:
    """Return the record that `unpack_request` turns back into the request."""
    fields: list[str | int | None] = [target.decode("latin-1"), remote_addr, remote_port, subprotocol]
    for raw_name, value in headers:
        name = raw_name.decode("latin-1")
        fields.append(_NAME_CODES.get(name, name))
        fields.append(value.decode("latin-1"))
    packed: bytes = msgpack.packb(fields)
    return packed[_head_bytes(len(fields)) :]


def _head_bytes(count: int) -> int:
    """Return the size of the head of a msgpack array with so many values."""
    if count < 16:
        return 1
    return 3 if count < 65536 else 5


def unpack_request(fd: int, record: bytes) -> Request:
    """Return the request of connection `fd` from its record.

    Raises:
        ValueError: `record` was not made by `pack_request`.
    """
    target, remote_addr, remote_port, subprotocol, *fields = _unpack_scalars(record)
    if not (isinstance(target, str) and isinstance(remote_addr, str)):
        raise ValueError("malformed request record: the target and the address must be text")
    if type(remote_port) is not int or not 0 <= remote_port <= 0xFFFF:
        raise ValueError(f"malformed request record: {remote_port!r} is not a port")
    if not (subprotocol is None or isinstance(subprotocol, str)):
        raise ValueError("malformed request record: the subprotocol must be text")
    if len(fields) % 2:
        raise ValueError("malformed request record: a header without a value")
    headers = [_unpack_header(name, value) for name, value in zip(fields[::2], fields[1::2], strict=True)]
    request: Request = _Draft(fd, target, headers, remote_addr, remote_port, subprotocol)
    request.__class__ = Request
    return request


def request_of(fd: int, record: bytes, state: Any = None) -> Request:
    """Return the request of connection `fd`, which is decoded when the app first reads something of it: many do not.

    Args:
        fd: the connection's id.
        record: the record, as `pack_request` made it.
        state: the app's own value for the connection.
    """
    request: Request = _Draft.__new__(_Draft)
    request.fd = fd
    request.state = state
    request._record = record
    request.__class__ = Request
    return request


def _unpack_scalars(record: bytes) -> list[object]:
    """Return the msgpack scalars in `record`, at least `_FIXED_FIELDS` of them; ValueError if it is anything else."""
    # A scalar is never longer than the buffer that contains it, so the record's length bounds the memory.
    unpacker = msgpack.Unpacker(
        max_buffer_size=len(record) or 1, max_array_len=0, max_map_len=0, max_ext_len=0, strict_map_key=True
    )
    unpacker.feed(record)
    try:
        scalars = list(unpacker)
    except ValueError as error:
        raise ValueError(f"malformed request record: {error}") from None
    # Iteration stops silently at an incomplete last item.
    if unpacker.tell() != len(record) or len(scalars) < _FIXED_FIELDS:
        raise ValueError("malformed request record: it ends early")
    return scalars


def _unpack_header(name: object, value: object) -> tuple[str, str]:
    """Return a header from its value and its packed name, a text or an index into `NAMES`."""
    if type(name) is int and 0 <= name < len(NAMES):
        name = NAMES[name]
    if not (isinstance(name, str) and isinstance(value, str)):
        raise ValueError("malformed request record: a header must be a name and a text")
    return name, value


# ---- The parts of a request ------------------------------------------------------------------------------------


def path_only(target: str) -> str:
    """Return a request target without what may hold a secret: its query, its fragment, and a user's name and password.

    Args:
        target: the target, which may be malformed.
    """
    return _USER_INFO.sub(r"\1", _PATH_END.split(target, maxsplit=1)[0], count=1)


def split_target(target: str) -> tuple[str, str]:
    """Return path and query of a request target, both as sent.

    Scheme and authority of a target in absolute form (``ws://host/path?query``) are dropped; an empty path then becomes
    ``/`` (RFC 9110 section 4.2.3).
    """
    if not target.startswith("/") and "://" in target:
        _, _, rest = target.partition("://")
        # RFC 3986 section 3.2: the authority ends at the next slash, question mark or the end.
        authority = rest.partition("?")[0].partition("/")[0]
        target = rest[len(authority) :]
        if not target.startswith("/"):
            target = "/" + target
    path, _, query = target.partition("?")
    return path, query


def list_elements(value: str) -> list[str]:
    """Return the elements of a comma-separated header value without surrounding white space."""
    # RFC 9110 section 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements"
    return [element for part in value.split(",") if (element := part.strip(" \t"))]


def parse_cookies(value: str) -> dict[str, str]:
    """Return the cookies of a Cookie header; pairs without ``=`` or without a name are skipped.

    Never fails: cookies come from every site and script of a domain, and a malformed one must not cost the others.
    """
    cookies: dict[str, str] = {}
    for pair in value.split(";"):
        name, equals, text = (part.strip(" \t") for part in pair.partition("="))
        if len(text) >= 2 and text[0] == text[-1] == '"':
            text = text[1:-1]
        if name and equals:
            # RFC 6265 section 5.4: cookies with longer paths come first, so the first one is the most specific.
            cookies.setdefault(name, text)
    return cookies
