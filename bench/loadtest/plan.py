"""What to load a server with, and which server: the terms of one run, checked."""

from dataclasses import dataclass
from urllib.parse import urlsplit

ECHO = "echo"  # every message comes back to the connection that sent it
FANOUT = "fanout"  # every message of the senders comes to all connections
IDLE = "idle"  # connections that are held and say nothing
CONNECT = "connect"  # connections that are opened and closed again
MODES = (ECHO, FANOUT, IDLE, CONNECT)
SENDING_MODES = (ECHO, FANOUT)

STAMP_BYTES = 16  # what tells the messages of a run apart: 6 hexadecimal digits of sender, 10 of sequence number
MOST_SOURCES = 254

Sizes = tuple[tuple[int, int], ...]  # payload bytes and weight of each kind of message


@dataclass(frozen=True)
class Target:
    """The server to load."""

    host: str
    port: int
    resource: str  # path and query
    secure: bool = False  # wss

    @classmethod
    def from_url(cls, url: str) -> "Target":
        """Take apart a ws:// or wss:// URL.

        Raises:
            ValueError: it is none, with a message for the user.
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
        """Host and port as the Host header has them."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.resource}"


@dataclass(frozen=True)
class Plan:
    """What to load a server with.

    Raises:
        ValueError: the terms contradict each other, with a message for the user.
    """

    target: Target
    connections: int = 100
    processes: int = 1
    size: int | Sizes = 64
    """Payload bytes of each message, or a mix."""
    depth: int = 1
    """Closed loop: messages outstanding on each connection that sends."""
    duration_s: float = 5.0
    warmup_s: float = 1.0
    messages: int = 0
    """Messages on each connection that sends; when not 0, neither a duration nor a warm-up applies."""
    binary: bool = False
    patience_s: float = 30.0
    """How long after the end replies are waited for before they are given up as missing."""
    mode: str = ECHO
    senders: int = 1
    """Fan-out: how many of the connections send."""
    rate: float = 0.0
    """Open loop: messages per second of all connections together; 0 is the closed loop."""
    headers: tuple[tuple[str, str], ...] = ()
    """More header fields for the upgrade request."""
    subprotocols: tuple[str, ...] = ()
    insecure: bool = False
    """Whether the server's certificate is taken on trust."""
    compress: bool = False
    """Whether permessage-deflate is asked for, and has to be agreed to."""
    sources: int = 0
    """When not 0, connections come from 127.0.0.1, 127.0.0.2, and so on to that number."""

    def __post_init__(self) -> None:
        if self.mode not in SENDING_MODES and (self.rate or self.messages or self.compress):
            raise ValueError(f"mode {self.mode} sends no messages: it takes no rate, number or compression of them")
        if self.rate and self.messages:
            raise ValueError("a rate goes with a duration, not with a number of messages")
        if self.mode == FANOUT and self.senders > self.connections:
            raise ValueError(f"{self.senders} senders need as many connections, not {self.connections}")
        if self.mode == FANOUT and min(size for size, _ in self.sizes) < STAMP_BYTES:
            raise ValueError(f"in mode fanout a message has at least {STAMP_BYTES} bytes, which say whose it is")

    @property
    def sizes(self) -> Sizes:
        """The mix of sizes, where there is only one as well."""
        return ((self.size, 1),) if isinstance(self.size, int) else self.size

    @property
    def lead_s(self) -> float:
        """The warm-up, where there is one."""
        return 0.0 if self.messages or self.mode == IDLE else self.warmup_s

    @property
    def sending(self) -> int:
        """How many connections send."""
        return {ECHO: self.connections, FANOUT: self.senders}.get(self.mode, 0)


def parse_sizes(text: str) -> int | Sizes:
    """Return the number of bytes, or the mix of them that is written as "64:80,4096:20" (bytes:weight).

    Raises:
        ValueError: it is neither, with a message for the user.
    """
    try:
        if ":" not in text:
            mix: Sizes = ((int(text), 1),)
        else:
            mix = tuple((int(size), int(weight)) for size, weight in (part.split(":") for part in text.split(",")))
    except ValueError:
        raise ValueError(f"{text!r} is neither a number of bytes nor a mix like 64:80,4096:20") from None
    if any(size < 0 or weight < 1 for size, weight in mix):
        raise ValueError(f"{text!r}: sizes are not negative, weights at least 1")
    return mix if ":" in text else mix[0][0]
