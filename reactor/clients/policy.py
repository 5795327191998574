"""What the settings decide about a valid upgrade: the allowed origins, the subprotocol, the compression.

Browsers let any page connect to any server, and send the server's cookies along; only the Origin header tells which
site the page is from (RFC 6455 section 10.2). So without `allowed_origins` a page must come from the host that it
connects to. Ports are not compared, since cookies ignore them too. Clients without Origin are not browsers; they are
allowed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import urlsplit

from zwoole.reactor.clients.handshake import Refused, Upgrade
from zwoole.shared.settings import Settings
from zwoole.shared.websocket.deflate import Agreement, MalformedOffer, Wishes, agree

_ORIGIN = re.compile(r"null|[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s]+")  # RFC 6454 section 6.2


class Policy:
    """Applies the settings to upgrades.

    Attributes:
        subprotocols: the subprotocols that the server knows, in its order of preference.
    """

    __slots__ = ("_compresses", "_origins", "_wishes", "subprotocols")

    def __init__(self, settings: Settings) -> None:
        self._origins = [pattern(origin) for origin in settings.allowed_origins]
        self.subprotocols = settings.subprotocols
        self._compresses = settings.websocket_compression
        self._wishes = Wishes(settings.compression_window_bits, settings.compression_context_takeover)

    def judge(self, upgrade: Upgrade) -> str | None:
        """Return the subprotocol for an upgrade; None if the two sides have none in common.

        Raises:
            Refused: its origin is not allowed.
        """
        if upgrade.origin is not None and not self._allows(upgrade.origin.lower(), upgrade.host.lower()):
            # A reason is logged, so it must not quote just anything that a client sends as its origin.
            origin = f"{upgrade.origin[:100]!a}" if _ORIGIN.fullmatch(upgrade.origin) else "a malformed origin"
            raise Refused(403, f"pages of {origin} may not connect here; the setting allowed_origins says which may")
        # RFC 6455 section 4.2.2 item 5.5: one of the offered subprotocols, or none. Some pages send a secret token as a
        # subprotocol; it is not in the setting, so it is never sent back.
        return next((name for name in self.subprotocols if name in upgrade.subprotocols), None)

    def agree(self, upgrade: Upgrade) -> Agreement | None:
        """Return the compression for an upgrade's messages; None for no compression.

        Raises:
            Refused: its extensions are malformed (RFC 6455 section 9.1).
        """
        try:
            return agree(upgrade.extensions, self._wishes) if self._compresses else None
        except MalformedOffer:
            raise Refused(400, "the Sec-WebSocket-Extensions header is malformed") from None

    def _allows(self, origin: str, host: str) -> bool:
        if not self._origins:
            name = host_name(origin)
            return name is not None and name == host_name("//" + host)
        return any(allowed.fullmatch(origin) for allowed in self._origins)


def pattern(origin: str) -> re.Pattern[str]:
    """Return the pattern for an entry of `allowed_origins`: `*` is any text without a slash, or any origin if alone."""
    return re.compile(".*" if origin == "*" else re.escape(origin).replace(r"\*", "[^/]*"))


@lru_cache(maxsize=128)  # most clients send the same few hosts and origins
def host_name(url: str) -> str | None:
    """Return the host of a URL, without its port; None if it has none."""
    try:
        return urlsplit(url).hostname
    except ValueError:  # brackets that hold no IPv6 address
        return None
