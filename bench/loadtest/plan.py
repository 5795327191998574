"""The parameters of one run, checked: the load, and the server."""

from dataclasses import dataclass
from urllib.parse import urlsplit

ECHO = "echo"  # every message returns to the connection that sent it
FANOUT = "fanout"  # every message of the senders goes to all connections
IDLE = "idle"  # connections that are held open without messages
CONNECT = "connect"  # connections that are opened and closed again
MODES = (ECHO, FANOUT, IDLE, CONNECT)
SENDING_MODES = (ECHO, FANOUT)

STAMP_BYTES = 16  # makes messages unique in a run: 6 hexadecimal digits of sender, 10 of sequence number
MOST_SOURCES = 254

Sizes = tuple[tuple[int, int], ...]  # payload bytes and weight of each size in a mix


@dataclass(frozen=True)
class Target:
    """The server to load."""

    host: str
    port: int
    resource: str  # path and query
    secure: bool = False  # wss

    @classmethod
    def from_url(cls, url: str) -> "Target":
        """Parse a ws:// or wss:// URL.

        Raises:
            ValueError: the URL is invalid; the message is for the user.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "wss" else 80)
        except ValueError as error:
            raise ValueError(f"bad URL {url!r}: {error}") from None
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.username or parts.fragment:
            raise ValueError(f"bad URL {url!r}: expected ws://host:port/path or wss://host:port/path")
        resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, port, resource, parts.scheme == "wss")

    @property
    def authority(self) -> str:
        """Host and port as in the Host header."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.resource}"


@dataclass(frozen=True)
class Plan:
    """The load for a server.

    Raises:
        ValueError: the parameters contradict each other; the message is for the user.
    """

    target: Target
    connections: int = 100
    processes: int = 1
    size: int | Sizes = 64
    """Payload bytes of each message, or a mix."""
    depth: int = 1
    """Closed loop: outstanding messages on each sending connection."""
    duration_s: float = 5.0
    warmup_s: float = 1.0
    messages: int = 0
    """Messages on each sending connection; if not 0, there is neither a duration nor a warm-up."""
    binary: bool = False
    patience_s: float = 30.0
    """How long to wait for outstanding replies after the end before they count as missing."""
    mode: str = ECHO
    senders: int = 1
    """Fan-out: number of connections that send."""
    rate: float = 0.0
    """Open loop: messages per second of all connections together; 0 for the closed loop."""
    headers: tuple[tuple[str, str], ...] = ()
    """Additional header fields of the upgrade request."""
    subprotocols: tuple[str, ...] = ()
    insecure: bool = False
    """Whether to skip the verification of the server's certificate."""
    compress: bool = False
    """Whether to request permessage-deflate, which the server must then agree to."""
    sources: int = 0
    """If not 0, connections use the source addresses 127.0.0.1, 127.0.0.2, and so on up to this number."""

    def __post_init__(self) -> None:
        if self.mode not in SENDING_MODES and (self.rate or self.messages or self.compress):
            raise ValueError(f"mode {self.mode} sends no messages: it takes no rate, number of messages or compression")
        if self.rate and self.messages:
            raise ValueError("a rate goes with a duration, not with a number of messages")
        if self.mode == FANOUT and self.senders > self.connections:
            raise ValueError(f"{self.senders} senders need at least as many connections, not {self.connections}")
        if self.mode == FANOUT and min(size for size, _ in self.sizes) < STAMP_BYTES:
            raise ValueError(f"in mode fanout a message has at least {STAMP_BYTES} bytes, which identify its sender")

    @property
    def sizes(self) -> Sizes:
        """The mix of sizes, also if there is only one size."""
        return ((self.size, 1),) if isinstance(self.size, int) else self.size

    @property
    def lead_s(self) -> float:
        """Seconds of warm-up, 0 if there is none."""
        return 0.0 if self.messages or self.mode == IDLE else self.warmup_s

    @property
    def sending(self) -> int:
        """The number of connections that send."""
        return {ECHO: self.connections, FANOUT: self.senders}.get(self.mode, 0)


def parse_sizes(text: str) -> int | Sizes:
    """Return a number of bytes, or a mix, written as "64:80,4096:20" (bytes:weight).

    Raises:
        ValueError: the text is neither; the message is for the user.
    """
    try:
        if ":" not in text:
            mix: Sizes = ((int(text), 1),)
        else:
            mix = tuple((int(size), int(weight)) for size, weight in (part.split(":") for part in text.split(",")))
    except ValueError:
        raise ValueError(f"{text!r} is neither a number of bytes nor a mix like 64:80,4096:20") from None
    if any(size < 0 or weight < 1 for size, weight in mix):
        raise ValueError(f"{text!r}: sizes must not be negative, and weights must be at least 1")
    return mix if ":" in text else mix[0][0]
