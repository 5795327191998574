"""Runs a plan: several processes load a server in one common window and give one result.

result = run_load(Plan(Target.from_url("ws://127.0.0.1:8080/"), connections=100, depth=16))
"""

import os
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from zwoole.bench.loadtest import client, connect_mode, handshake, histogram
from zwoole.bench.loadtest.client import Sent, Window
from zwoole.bench.loadtest.fleet import Fleet, LoadError
from zwoole.bench.loadtest.handshake import HandshakeError
from zwoole.bench.loadtest.opener import find_address
from zwoole.bench.loadtest.plan import CONNECT, FANOUT, IDLE, SENDING_MODES, Plan
from zwoole.bench.loadtest.process import GO, Opening, Ready, Report, Sample
from zwoole.bench.loadtest.tally import FOREVER_NS
from zwoole.bench.loadtest.timeline import Row, Timeline

ERROR_KINDS = handshake.ERROR_KINDS | client.ERROR_KINDS | connect_mode.ERROR_KINDS
BOTTLENECK_SHARE = 0.9  # share of its cores; a client that uses more may be what limits the rate

NO_REPLY_S = 5.0  # a server that has sent no reply by then will not send any

_START_DELAY_NS = 50_000_000  # gives all processes time to read the window before it starts
_INTERVALS = 60  # per run, unless they would be shorter or longer than the following limits
_SHORTEST_INTERVAL_NS = 250_000_000
_LONGEST_INTERVAL_NS = 1_000_000_000
_OTHER_DESCRIPTORS = 64  # of a process, besides those of its connections


@dataclass(frozen=True)
class LoadResult:
    """The measurements of all processes of a run together."""

    connections: int
    """Number of connections opened."""
    messages: int
    """Correct replies in the measured window; in mode connect: handshakes."""
    seconds: float
    """Length of the window: shorter than planned if the server closed all connections."""
    rate: float
    """Messages per second."""
    megabytes_per_second: float
    """10**6 bytes of payload in one direction."""
    latency_us: dict[str, float]
    """The percentiles named in histogram.PERCENTILES, microseconds."""
    errors: dict[str, int]
    """Counts by the kinds in ERROR_KINDS, without those that did not occur."""
    client_cpu_s: float
    """CPU time of the load processes, including the warm-up."""
    metered: float = 0.0
    """By how much the meter given to run_load() rose in the measured window."""
    first_error: str = ""
    """Why the first connection that failed could not be opened."""
    connect_rate: float = 0.0
    """Connections opened per second, before the run."""
    still_open: int = 0
    """Number of connections open at the end of the window."""
    client_cpu_share: float = 0.0
    """CPU time of the load processes relative to their cores: 1 is all of it."""
    client_cores: int = 1
    """Number of those cores: one per process, as far as the machine has as many."""
    timeline: list[Row] = field(default_factory=list)
    curve_us: list[tuple[float, float]] = field(default_factory=list)
    """The latencies' distribution: percentile and microseconds."""

    @property
    def silent(self) -> bool:
        """Whether no reply came at all, right or wrong, and no error explains it."""
        return not self.messages and set(self.errors) <= {"missing"}

    @property
    def client_was_the_limit(self) -> bool:
        """Whether the load processes had no CPU time to spare."""
        return self.client_cpu_share >= BOTTLENECK_SHARE


class Watcher:
    """Receives the progress of a run; this one ignores it."""

    def opening(self, connections: int, failures: int) -> None:
        """Take the number of connections that are open, and of those that failed."""

    def row(self, row: Row) -> None:
        """Take an interval that has ended."""


def run_load(plan: Plan, meter: Callable[[], float] = lambda: 0.0, watcher: Watcher | None = None) -> LoadResult:
    """Run a plan and return the measurements. Errors of single connections and replies are counted in the result.

    Args:
        plan: the load. At most one process per connection is started.
        meter: called when the measured window opens and when it closes; the result has the difference.
        watcher: receives the progress.

    Raises:
        LoadError: no connection could be opened, the server does not reply, or a load process died.
    """
    _check_descriptors(plan)
    try:
        address = find_address(plan)
    except HandshakeError as error:
        raise LoadError(f"cannot open a connection to {plan.target}: {error}") from None
    with Fleet(plan, address) as fleet:
        run = _Run(plan, fleet, watcher or Watcher())
        run.open()
        run.measure(meter)
    return run.result()


def _check_descriptors(plan: Plan) -> None:
    count = -(-plan.connections // plan.processes) + _OTHER_DESCRIPTORS
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and count > most:
        raise LoadError(
            f"{plan.connections:,} connections in {plan.processes} processes need {count:,} descriptors in each,"
            f" and the limit is {most:,} (ulimit -Hn)"
        )


def window_of(plan: Plan, start_ns: int) -> Window:
    """Return the window of a run that starts at ``start_ns``."""
    if plan.messages:
        return Window(start_ns, start_ns, _SHORTEST_INTERVAL_NS, 1 << 40)
    duration_ns = int(plan.duration_s * 1e9)
    interval_ns = min(max(duration_ns // _INTERVALS, _SHORTEST_INTERVAL_NS), _LONGEST_INTERVAL_NS)
    intervals = max(1, round(duration_ns / interval_ns))
    return Window(start_ns, start_ns + int(plan.lead_s * 1e9), duration_ns // intervals, intervals)


def no_reply(plan: Plan) -> str:
    """Return a message about a server that sent no reply."""
    to = "all connections" if plan.mode == FANOUT else "its connection"
    return (
        f"no reply from {plan.target}: --mode {plan.mode} needs a server that sends every message back to {to},"
        f" as it was; --mode {IDLE} and --mode {CONNECT} need no replies"
    )


class _Run:
    """The conversation with the processes of one run."""

    def __init__(self, plan: Plan, fleet: Fleet, watcher: Watcher) -> None:
        self._plan = plan
        self._fleet = fleet
        self._watcher = watcher
        self._ready: list[Ready] = []
        self._reports: list[Report] = []
        self._sent: list[Sent] = []
        self._metered = 0.0
        self._answered = plan.mode not in SENDING_MODES or plan.rate > 0  # with a rate, messages may be due late

    def open(self) -> None:
        """Wait until all processes have opened their connections.

        Raises:
            LoadError: none could be opened.
        """
        up = 0
        while up < len(self._fleet):
            up += len(self._fleet.receive(FOREVER_NS))
        self._fleet.send(GO)
        progress: dict[int, Opening] = {}
        while len(self._ready) < len(self._fleet):
            for process, message in self._fleet.receive(FOREVER_NS):
                if isinstance(message, Ready):
                    self._ready.append(message)
                    message = Opening(message.connections, sum(message.errors.values()))
                progress[process] = message
            self._watcher.opening(
                sum(one.connections for one in progress.values()), sum(one.failures for one in progress.values())
            )
        if self._plan.mode != CONNECT and not any(one.connections for one in self._ready):
            raise LoadError(f"cannot open a connection to {self._plan.target}: {self._ready[0].first_error}")

    def measure(self, meter: Callable[[], float]) -> None:
        """Make all processes run in one window, and collect their reports.

        Raises:
            LoadError: the server does not reply.
        """
        window = self._window = window_of(self._plan, time.monotonic_ns() + _START_DELAY_NS)
        self._timeline = Timeline(window, len(self._fleet), count_tail=self._plan.rate > 0)
        self._fleet.send(window)
        readings: list[float] = []
        moments = [window.opens_ns, window.closes_ns, FOREVER_NS]
        while len(self._reports) < len(self._fleet):
            for process, message in self._fleet.receive(moments[len(readings)]):
                self._take(process, message)
            if time.monotonic_ns() >= moments[len(readings)]:
                readings.append(meter())
        while len(readings) < 2:
            readings.append(meter())
        self._metered = readings[1] - readings[0]
        self._ended_ns = max(report.ended_ns for report in self._reports)
        self._timeline.finish(self._ended_ns)

    def _take(self, process: int, message: object) -> None:
        if isinstance(message, Sample):
            for row in self._timeline.add(process, message):
                self._watcher.row(row)
                self._check_for_replies(row)
        elif isinstance(message, Report):
            self._timeline.end_process(process)
            self._reports.append(message)
        else:
            assert isinstance(message, dict)
            self._sent.append(message)
            if len(self._sent) == len(self._fleet):
                self._fleet.send({sender: count for sent in self._sent for sender, count in sent.items()})

    def _check_for_replies(self, row: Row) -> None:
        self._answered = self._answered or bool(row.messages or row.errors)
        if not self._answered and self._plan.lead_s + row.ends_s >= NO_REPLY_S:
            raise LoadError(no_reply(self._plan))

    def result(self) -> LoadResult:
        """Return the measurements."""
        timeline, window = self._timeline, self._window
        ended_ns = min(self._ended_ns, window.closes_ns)
        seconds = max(ended_ns - window.opens_ns, 1) / 1e9
        connections = sum(one.connections for one in self._ready)
        opening_ns = max(one.ended_ns for one in self._ready) - min(one.began_ns for one in self._ready)
        said: list[Ready | Report] = [*self._ready, *self._reports]
        cores = min(len(self._fleet), len(os.sched_getaffinity(0)))
        return LoadResult(
            connections=connections,
            messages=timeline.messages,
            seconds=seconds,
            rate=timeline.messages / seconds,
            megabytes_per_second=timeline.payload_bytes / seconds / 1e6,
            latency_us=histogram.percentiles_us(timeline.latencies),
            errors=dict(sum([one.errors for one in said], Counter[str]())),
            client_cpu_s=sum(report.cpu_s for report in self._reports),
            metered=self._metered,
            first_error=next((one.first_error for one in said if one.first_error), ""),
            connect_rate=connections / max(opening_ns, 1) * 1e9,
            still_open=sum(report.still_open for report in self._reports),
            client_cpu_share=sum(report.cpu_share for report in self._reports) / cores,
            client_cores=cores,
            timeline=timeline.rows,
            curve_us=histogram.curve_us(timeline.latencies),
        )
