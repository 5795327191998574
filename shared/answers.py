"""What a `handshake` callback may answer: that a client may connect, or why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgpack

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class Accept:
    """The client may connect.

    Args:
        headers: further headers of the 101 response, such as Set-Cookie.
        subprotocol: one of those that the client offered, in the place of the one that the setting chose.
    """

    def __init__(self, headers: Headers = (), subprotocol: str | None = None) -> None:
        self.headers = pairs(headers)
        self.subprotocol = subprotocol

    def pack(self) -> bytes:
        """Return it as it travels."""
        packed: bytes = msgpack.packb([self.subprotocol, self.headers])
        return packed


class Refuse:
    """The client is answered with an HTTP error.

    Args:
        status: the HTTP status, from 300 to 599.
        body: why, as text.
        headers: further headers, such as WWW-Authenticate or Location.

    Raises:
        ValueError: the status is none for a refusal.
    """

    def __init__(self, status: int = 403, body: str = "", headers: Headers = ()) -> None:
        if not isinstance(status, int) or not 300 <= status <= 599:
            raise ValueError(f"a refusal's status is from 300 to 599, not {status!r}")
        self.status = status
        self.body = body
        self.headers = pairs(headers)

    def pack(self) -> bytes:
        """Return it as it travels."""
        packed: bytes = msgpack.packb([self.status, self.body, self.headers])
        return packed


Answer = Accept | Refuse


def pairs(headers: Headers) -> list[tuple[str, str]]:
    """Return headers as pairs of name and value.

    Raises:
        TypeError: a name or a value is no text.
    """
    given = list(headers.items() if isinstance(headers, Mapping) else headers)
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in given):
        raise TypeError(f"headers are pairs of str, not {given!r}")
    return given


def answer_of(result: Any) -> Answer:
    """Return the answer that a callback's result means: None and True accept, False refuses with 403.

    Raises:
        TypeError: it means nothing.
    """
    if isinstance(result, Accept | Refuse):
        return result
    if result is None or result is True:
        return Accept()
    if result is False:
        return Refuse(403, "refused")
    raise TypeError(f"a 'handshake' callback returns True, False, Accept(...) or Refuse(...), not {result!r}")


def unpack_accept(packed: bytes) -> tuple[str | None, list[tuple[str, str]]]:
    """Return subprotocol and headers of an accept event.

    Raises:
        ValueError: it is none.
    """
    try:
        subprotocol, headers = msgpack.unpackb(packed)
        return subprotocol, [(str(name), str(value)) for name, value in headers]
    except (TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not an accepted handshake: {error}") from None


def unpack_refuse(packed: bytes) -> tuple[int, str, list[tuple[str, str]]]:
    """Return status, body and headers of a refuse event.

    Raises:
        ValueError: it is none.
    """
    try:
        status, body, headers = msgpack.unpackb(packed)
        return int(status), str(body), [(str(name), str(value)) for name, value in headers]
    except (TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not a refused handshake: {error}") from None
