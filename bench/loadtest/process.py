"""One process of a load run: opens its share of the connections, runs, and reports its counts.

Protocol on the pipe: it sends UP and receives GO, so that all processes open connections at the same time; sends
Opening now and then, and Ready; receives a Window; sends a Sample for each interval; in mode fanout sends its Sent and
receives the Sent of all processes; and sends a Report.
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
from zwoole.bench.loadtest.connect_mode import ConnectClient
from zwoole.bench.loadtest.opener import Address, Dialer, open_connections
from zwoole.bench.loadtest.plan import CONNECT, Plan

UP = "up"
GO = "go"

_PR_SET_TIMERSLACK = 29  # from linux/prctl.h


@dataclass(frozen=True)
class Share:
    """One process's share of a plan."""

    plan: Plan
    address: Address
    connections: int
    first: int
    """The number of its first connection."""


@dataclass(frozen=True)
class Opening:
    """How many connections a process has opened so far."""

    connections: int
    failures: int


@dataclass(frozen=True)
class Ready:
    """Sent when a process's connections are open, or have failed to open."""

    connections: int
    errors: "Counter[str]"
    first_error: str
    began_ns: int
    ended_ns: int


@dataclass(frozen=True)
class Sample:
    """The counts of one interval (see Tally)."""

    interval: int
    messages: int
    payload_bytes: int
    latencies: "array[int]"
    errors: int
    """Errors of all kinds since the start."""
    connections: int
    """Connections open at the end of the interval."""


@dataclass(frozen=True)
class Report:
    """Sent at the end."""

    errors: "Counter[str]"
    first_error: str
    still_open: int
    """Connections that were open at the end of the run."""
    ended_ns: int
    """The end of the run, or the end of the last connection if that was earlier."""
    cpu_share: float
    """CPU seconds per second of the run."""
    cpu_s: float


def load_process(pipe: Connection, share: Share) -> None:
    """Do the share. Returns early, silently, if the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    _allow_many_files()
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # nanoseconds; by default waits may take 50 us longer
    try:
        pipe.send(UP)
        pipe.recv()
        _do_share(pipe, share)
        pipe.recv()  # wait for the end of the pipe: before that, the parent takes an exit for a crash
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _do_share(pipe: Connection, share: Share) -> None:
    client = _connect_client(pipe, share) if share.plan.mode == CONNECT else _load_client(pipe, share)
    window: Window = pipe.recv()
    gc.collect()
    gc.freeze()  # objects made so far stay: traversing all connections in a collection would cause a pause
    time.sleep(max(0, window.start_ns - time.monotonic_ns()) / 1e9)
    began_s, cpu_s = time.monotonic(), time.process_time()
    client.run(window, lambda: _send_samples(pipe, client))
    cpu_s = time.process_time() - cpu_s
    seconds = time.monotonic() - began_s
    client.close()
    pipe.send(Report(client.errors, client.first_error, client.still_open, client.ended_ns, cpu_s / seconds, cpu_s))


def _connect_client(pipe: Connection, share: Share) -> ConnectClient:
    now_ns = time.monotonic_ns()
    pipe.send(Ready(0, Counter(), "", now_ns, now_ns))
    return ConnectClient(Dialer(share.plan, share.address), share.connections, share.first)


def _load_client(pipe: Connection, share: Share) -> LoadClient:
    def report(connections: int, errors: "Counter[str]") -> None:
        pipe.send(Opening(connections, sum(errors.values())))

    def exchange(sent: Sent) -> Sent:
        pipe.send(sent)
        all_sent: Sent = pipe.recv()
        return all_sent

    opened = open_connections(Dialer(share.plan, share.address), share.connections, share.first, report)
    pipe.send(Ready(len(opened.attempts), opened.errors, opened.first_error, opened.began_ns, opened.ended_ns))
    return LoadClient(share.plan, opened.attempts, exchange)


def _send_samples(pipe: Connection, client: LoadClient | ConnectClient) -> None:
    for interval, messages, payload_bytes, latencies in client.tally.take_finished():
        errors = sum(client.errors.values())
        pipe.send(Sample(interval, messages, payload_bytes, latencies, errors, client.connections))


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
