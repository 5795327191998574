"""What a `handshake` callback can answer: the client may connect, or an HTTP error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgpack

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class Accept:
    """The client may connect.

    Args:
        headers: additional headers of the 101 response, such as Set-Cookie.
        subprotocol: one of the subprotocols that the client offered, instead of the one chosen by the setting.
    """

    def __init__(self, headers: Headers = (), subprotocol: str | None = None) -> None:
        self.headers = pairs(headers)
        self.subprotocol = subprotocol

    def pack(self) -> bytes:
        """Return the body of an accept event."""
        packed: bytes = msgpack.packb([self.subprotocol, self.headers])
        return packed


class Refuse:
    """The client gets an HTTP error.

    Args:
        status: the HTTP status, from 300 to 599, other than 304, which answers a conditional request and has no body.
        body: the reason, as text.
        headers: additional headers, such as WWW-Authenticate or Location.

    Raises:
        ValueError: it is another status.
    """

    def __init__(self, status: int = 403, body: str = "", headers: Headers = ()) -> None:
        if not isinstance(status, int) or not 300 <= status <= 599 or status == 304:
            raise ValueError(f"a refusal's status is from 300 to 599, other than 304, not {status!r}")
        self.status = status
        self.body = body
        self.headers = pairs(headers)

    def pack(self) -> bytes:
        """Return the body of a refuse event."""
        packed: bytes = msgpack.packb([self.status, self.body, self.headers])
        return packed


Answer = Accept | Refuse


def pairs(headers: Headers) -> list[tuple[str, str]]:
    """Return headers as pairs of name and value.

    Raises:
        TypeError: a name or a value is not a str.
    """
    given = list(headers.items() if isinstance(headers, Mapping) else headers)
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in given):
        raise TypeError(f"headers are pairs of str, not {given!r}")
    return given


def answer_of(result: Any) -> Answer:
    """Return the answer that a callback's result stands for: None and True accept, False refuses with 403.

    Raises:
        TypeError: the result is of another type.
    """
    if isinstance(result, Accept | Refuse):
        return result
    if result is None or result is True:
        return Accept()
    if result is False:
        return Refuse(403, "refused")
    raise TypeError(f"a 'handshake' callback returns True, False, Accept(...) or Refuse(...), not {result!r}")


def unpack_accept(packed: bytes) -> tuple[str | None, list[tuple[str, str]]]:
    """Return the subprotocol and the headers of an accept event.

    Raises:
        ValueError: the body is malformed.
    """
    try:
        subprotocol, headers = msgpack.unpackb(packed)
        return subprotocol, [(str(name), str(value)) for name, value in headers]
    except (TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not an accepted handshake: {error}") from None


def unpack_refuse(packed: bytes) -> tuple[int, str, list[tuple[str, str]]]:
    """Return the status, the body and the headers of a refuse event.

    Raises:
        ValueError: the body is malformed.
    """
    try:
        status, body, headers = msgpack.unpackb(packed)
        refuse = Refuse(status, str(body), [(str(name), str(value)) for name, value in headers])
        return refuse.status, refuse.body, refuse.headers
    except (TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not a refused handshake: {error}") from None
