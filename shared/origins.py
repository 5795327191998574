"""Origins of web pages in a setting, normalised to the form in which browsers send them (RFC 6454 section 6.2).

A browser sends scheme and host in lower case and leaves out the scheme's default port. An equivalent origin is
normalised to that. An origin that no browser sends would never match, so it is refused.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address

OWN_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[a-z*][a-z0-9+.*-]*")
_AUTHORITY = re.compile(r"(\[[^\[\]\s]+\]|[^\[\]:\s@]*)(?::(\*|[0-9]*))?")


def as_sent(origin: str) -> str:
    """Return an origin as browsers send it. A `*` within it matches any text without a slash; `*` alone matches
    everything.

    Raises:
        ValueError: no browser sends such an origin; the message says what to write instead.
    """
    text = origin.lower()
    if text in ("*", "null", "file://"):  # pages without an origin, and local pages in Android's WebView
        return text
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise ValueError(f"has no scheme: write https://{text}, or http://")
    if scheme in ("ws", "wss"):
        raise ValueError(f"is not a page's origin: write http{scheme[2:]}://{rest}")
    authority, _, path = rest.partition("/")
    if path or "?" in authority or "#" in authority:
        raise ValueError(f"has more than scheme, host and port: write {scheme}://{re.split('[/?#]', rest)[0]}")
    found = _AUTHORITY.fullmatch(authority)
    if found is None or not found[1] or not _SCHEME.fullmatch(scheme):
        raise ValueError("does not have the form https://host or https://host:port")
    host, port = _host(found[1]), found[2] or ""
    if port.isdigit():
        digits = port.lstrip("0") or "0"
        if len(digits) > 5 or int(digits) > 65535:  # int() refuses thousands of digits
            raise ValueError("has a port above 65535")
        number = int(digits)
        port = "" if number == OWN_PORTS.get(scheme) else str(number)
    return f"{scheme}://{host}" + (port and f":{port}")


def _host(host: str) -> str:
    """Return a host as browsers send it: an IPv6 address in its short form, a name in ASCII."""
    try:
        if host.startswith("[") and "*" not in host:
            return f"[{IPv6Address(host[1:-1]).compressed}]"
        return host if host.isascii() else host.encode("idna").decode()
    except ValueError:
        raise ValueError("has an invalid host") from None
