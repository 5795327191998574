"""One process of a load run: opens its share of the connections, runs when told to, and reports what it counted."""

import resource
import signal
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from zwoole.bench.handshake import Target, open_connections
from zwoole.bench.loadclient import LoadClient
from zwoole.bench.loadcore import Content

_FOREVER_NS = 1 << 62


@dataclass(frozen=True)
class Plan:
    """What to load a server with."""

    target: Target
    connections: int = 100
    processes: int = 1
    size: int = 64
    """Payload bytes of each message."""
    depth: int = 1
    """Messages outstanding on each connection."""
    duration_s: float = 5.0
    warmup_s: float = 1.0
    messages: int = 0
    """Messages on each connection; when not 0, neither a duration nor a warm-up applies."""
    binary: bool = False
    patience_s: float = 5.0
    """How long no reply may come while some are due before these are given up as missing."""


@dataclass(frozen=True)
class Ready:
    """What a process says when its connections are open, or have failed to."""

    connections: int
    errors: Counter[str]
    first_error: str


@dataclass(frozen=True)
class Window:
    """What a process is told then, in nanoseconds of CLOCK_MONOTONIC: when to start, count, and stop counting."""

    start_ns: int
    opens_ns: int
    closes_ns: int

    @classmethod
    def after(cls, start_ns: int, plan: Plan) -> "Window":
        """Return the window of a run that starts at ``start_ns``."""
        if plan.messages:
            return cls(start_ns, start_ns, _FOREVER_NS)
        opens_ns = start_ns + int(plan.warmup_s * 1e9)
        return cls(start_ns, opens_ns, opens_ns + int(plan.duration_s * 1e9))


@dataclass(frozen=True)
class Report:
    """What a process counted."""

    messages: int = 0
    latencies: "array[int]" = field(default_factory=lambda: array("Q"))
    last_reply_ns: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0


def load_process(pipe: Connection, plan: Plan, connections: int, first_number: int) -> None:
    """Send a Ready, receive a Window, send a Report. Ends early, without a word, when the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _allow_many_files()
    opened = open_connections(plan.target, connections)
    try:
        pipe.send(Ready(len(opened.sockets), opened.errors, opened.first_error))
        window = pipe.recv()
    except (EOFError, OSError):
        return
    client = LoadClient(opened.sockets, Content(plan.size, plan.binary), plan.depth, first_number, plan.patience_s)
    time.sleep(max(0, window.start_ns - time.monotonic_ns()) / 1e9)
    cpu_s = time.process_time()
    client.run(window.opens_ns, window.closes_ns, plan.messages)
    cpu_s = time.process_time() - cpu_s
    client.close()
    tally = client.tally
    pipe.send(Report(tally.messages, tally.latencies, tally.last_reply_ns, client.errors, cpu_s))


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
