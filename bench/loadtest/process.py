"""One process of a load run: opens its share of the connections, runs when told to, and reports what it counts.

Over the pipe it sends UP and receives GO, so that all processes open connections at the same time; sends Opening, now
and then, and Ready; receives a Window; sends a Sample for each interval; in mode fanout sends its Sent and receives
everybody's; and sends a Report.
"""

import ctypes
import gc
import resource
import signal
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection

from zwoole.bench.loadtest.client import LoadClient, Sent, Window
from zwoole.bench.loadtest.opener import Address, Door, open_connections
from zwoole.bench.loadtest.plan import CONNECT, Plan
from zwoole.bench.loadtest.visits import VisitClient

UP = "up"
GO = "go"

_PR_SET_TIMERSLACK = 29  # of linux/prctl.h


@dataclass(frozen=True)
class Share:
    """What one process is to do of a plan."""

    plan: Plan
    address: Address
    connections: int
    first: int
    """The number of its first connection."""


@dataclass(frozen=True)
class Opening:
    """How far a process has come with its connections."""

    connections: int
    failures: int


@dataclass(frozen=True)
class Ready:
    """What a process says when its connections are open, or have failed to."""

    connections: int
    errors: "Counter[str]"
    first_error: str
    began_ns: int
    ended_ns: int


@dataclass(frozen=True)
class Sample:
    """What a process counted in one interval (see Tally)."""

    interval: int
    messages: int
    payload_bytes: int
    latencies: "array[int]"
    errors: int
    """Of all kinds, since the beginning."""
    connections: int
    """Open when it was over."""


@dataclass(frozen=True)
class Report:
    """What a process says in the end."""

    errors: "Counter[str]"
    first_error: str
    still_open: int
    """Connections that were open when the time was over."""
    ended_ns: int
    """When the time was over, or the last connection gone before that."""
    cpu_share: float
    """CPU time for each second of the run."""
    cpu_s: float


def load_process(pipe: Connection, share: Share) -> None:
    """Do the share. Ends early, without a word, when the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _allow_many_files()
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # nanoseconds; by default waits may last 50 us longer
    try:
        pipe.send(UP)
        pipe.recv()
        _do_share(pipe, share)
        pipe.recv()  # the end of the pipe: until then, the end of this process would be a death
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _do_share(pipe: Connection, share: Share) -> None:
    client = _visits(pipe, share) if share.plan.mode == CONNECT else _connections(pipe, share)
    window: Window = pipe.recv()
    gc.collect()
    gc.freeze()  # what is there stays: a collection that goes through all connections would be a pause
    time.sleep(max(0, window.start_ns - time.monotonic_ns()) / 1e9)
    began_s, cpu_s = time.monotonic(), time.process_time()
    client.run(window, lambda: _send_samples(pipe, client))
    cpu_s = time.process_time() - cpu_s
    seconds = time.monotonic() - began_s
    client.close()
    pipe.send(Report(client.errors, client.first_error, client.still_open, client.ended_ns, cpu_s / seconds, cpu_s))


def _visits(pipe: Connection, share: Share) -> VisitClient:
    now_ns = time.monotonic_ns()
    pipe.send(Ready(0, Counter(), "", now_ns, now_ns))
    return VisitClient(Door(share.plan, share.address), share.connections, share.first)


def _connections(pipe: Connection, share: Share) -> LoadClient:
    def report(connections: int, errors: "Counter[str]") -> None:
        pipe.send(Opening(connections, sum(errors.values())))

    def exchange(sent: Sent) -> Sent:
        pipe.send(sent)
        everybody: Sent = pipe.recv()
        return everybody

    opened = open_connections(Door(share.plan, share.address), share.connections, share.first, report)
    pipe.send(Ready(len(opened.attempts), opened.errors, opened.first_error, opened.began_ns, opened.ended_ns))
    return LoadClient(share.plan, opened.attempts, exchange)


def _send_samples(pipe: Connection, client: LoadClient | VisitClient) -> None:
    for interval, messages, payload_bytes, latencies in client.tally.take_finished():
        errors = sum(client.errors.values())
        pipe.send(Sample(interval, messages, payload_bytes, latencies, errors, client.connections))


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
