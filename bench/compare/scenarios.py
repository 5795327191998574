"""The scenarios of the comparison: the load of each, and the servers that take part in it."""

from dataclasses import dataclass, replace

from zwoole.bench.compare import peer
from zwoole.bench.loadtest.plan import CONNECT, ECHO, FANOUT, IDLE, Plan, Target

BROWSER_HEADERS = (
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    ),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    ("Cache-Control", "no-cache"),
    ("Pragma", "no-cache"),
    ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
)

_CONNECT_SOURCES = 20  # a closed connection occupies its pair of addresses for a minute
_SMALL_CONNECTIONS = 20
_SMALL_IDLE_CONNECTIONS = 200


@dataclass(frozen=True)
class Scenario:
    """One load, and the servers that take part."""

    name: str
    title: str
    peers: tuple[str, ...]
    serve: str = peer.ECHO
    """What the servers do with a message: a constant of peer.py."""
    mode: str = ECHO
    """What the load client does: a mode of plan.py."""
    connections: int = 100
    size: int = 64
    depth: int = 1
    binary: bool = False
    """Whether messages are binary instead of text."""
    slow_readers: int = 0
    """Additional connections that never read."""
    browser: bool = False
    """Whether the client sends the header fields of a browser."""
    once: bool = False
    """Whether one round is enough."""
    ours: str = "zwoole"
    """The server whose result is divided by those of the others."""

    def plan(self, target: Target, duration_s: float, warmup_s: float) -> Plan:
        """Return the load for a server."""
        origin = ("Origin", f"http://{target.authority}")
        return Plan(
            target,
            self.connections,
            size=self.size,
            depth=self.depth,
            binary=self.binary,
            duration_s=duration_s,
            warmup_s=warmup_s,
            mode=self.mode,
            compress=self.serve == peer.DEFLATE,
            headers=(origin, *BROWSER_HEADERS) if self.browser else (),
            sources=_CONNECT_SOURCES if self.mode == CONNECT else 0,
        )

    def small(self) -> "Scenario":
        """Return the scenario with few connections, to check that replies are correct."""
        most = _SMALL_IDLE_CONNECTIONS if self.mode == IDLE else _SMALL_CONNECTIONS
        return replace(self, connections=min(self.connections, most), slow_readers=min(self.slow_readers, 1))


_STYLES = ("zwoole", "zwoole-async", "zwoole-handler")
_WORKERS = ("zwoole", "zwoole-2-workers", "zwoole-4-workers")
_PYTHON = ("websockets", "picows", "aiohttp", "uvicorn", "granian", "tornado", "socketify")
_OTHERS = ("gorilla", "ws", "bun", "deno", "swoole")
_CHOSEN = ("zwoole", "websockets", "gorilla", "bun", "swoole")
_ECHO_ONLY = ("swoole-base", "C-limit", "C-two-processes")
_SLOW = ("zwoole", "websockets", "gorilla", "bun")

SCENARIOS = (
    Scenario(
        "echo-1",
        "echo of 64 B, 100 connections, 1 outstanding",
        (*_STYLES, *_PYTHON, *_OTHERS, *_ECHO_ONLY),
    ),
    Scenario(
        "echo-16",
        "echo of 64 B, 100 connections, 16 outstanding on each",
        (*_STYLES, "websockets", "picows", "socketify", *_OTHERS, *_ECHO_ONLY),
        depth=16,
    ),
    Scenario(
        "echo-16k",
        "echo of 16 KiB of text, 50 connections, 1 outstanding",
        (*_CHOSEN, "picows", *_ECHO_ONLY),
        connections=50,
        size=16 << 10,
    ),
    Scenario(
        "echo-16k-binary",
        "echo of 16 KiB of binary data, 50 connections, 1 outstanding",
        (*_CHOSEN, "picows", *_ECHO_ONLY),
        connections=50,
        size=16 << 10,
        binary=True,
    ),
    Scenario("echo-1m", "echo of 1 MiB, 4 connections, 1 outstanding", _CHOSEN, connections=4, size=1 << 20),
    Scenario(
        "lone",
        "echo of 64 B, one connection, 1 outstanding: latency",
        (*_STYLES, *_CHOSEN[1:], "picows", *_ECHO_ONLY),
        connections=1,
    ),
    Scenario(
        "4-connections", "echo of 64 B, 4 connections, 1 outstanding on each", (*_CHOSEN, *_ECHO_ONLY), connections=4
    ),
    Scenario(
        "20-connections", "echo of 64 B, 20 connections, 1 outstanding on each", (*_CHOSEN, *_ECHO_ONLY), connections=20
    ),
    Scenario(
        "fanout-1",
        "fan-out of 64 B to 1,000 connections, 1 broadcast outstanding",
        (*_CHOSEN, "ws"),
        peer.BROADCAST,
        FANOUT,
        connections=1000,
    ),
    Scenario(
        "fanout-4",
        "fan-out of 64 B to 1,000 connections, 4 broadcasts outstanding",
        (*_CHOSEN, "ws"),
        peer.BROADCAST,
        FANOUT,
        connections=1000,
        depth=4,
    ),
    Scenario(
        "slow-readers",
        "fan-out of 4 KiB to 200 connections; 2 more never read",
        _SLOW,
        peer.BROADCAST,
        FANOUT,
        connections=200,
        size=4096,
        depth=4,
        slow_readers=2,
    ),
    Scenario("connect", "opening and closing connections, 50 at a time", _CHOSEN, mode=CONNECT, connections=50),
    Scenario("idle", "idle connections", _CHOSEN, mode=IDLE, connections=15000, once=True),
    Scenario(
        "idle-browser",
        "idle connections with a browser's header fields",
        ("zwoole", "gorilla"),
        mode=IDLE,
        connections=15000,
        browser=True,
        once=True,
    ),
    Scenario(
        "deflate",
        "echo of 4 KiB with permessage-deflate, 50 connections",
        (*_CHOSEN, "ws"),
        peer.DEFLATE,
        connections=50,
        size=4096,
    ),
    Scenario("workers", "echo of 64 B, 16 outstanding, with 1, 2 and 4 workers", _WORKERS, depth=16),
    Scenario(
        "cpu",
        "a callback that computes for 1 ms, 64 connections",
        (*_WORKERS, "websockets", "gorilla", "bun"),
        peer.CPU,
        connections=64,
        ours="zwoole-4-workers",
    ),
)
