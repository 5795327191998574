"""One measurement of the comparison: a server is started, warmed up, loaded, and stopped."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from zwoole.bench.compare.peer import Peer
from zwoole.bench.compare.peer_process import HOST, PeerError, PeerProcess
from zwoole.bench.compare.scenarios import Scenario
from zwoole.bench.loadtest.fleet import LoadError
from zwoole.bench.loadtest.handshake import HandshakeError
from zwoole.bench.loadtest.opener import Dialer, find_address, open_connections
from zwoole.bench.loadtest.plan import IDLE, Plan, Target
from zwoole.bench.loadtest.run import ERROR_KINDS, LoadResult, run_load

WARMUP_SHARE = 0.25  # of the duration
_FEW_CONNECTIONS = 50  # memory that the server allocates for these does not count for the idle ones


@dataclass(frozen=True)
class Run:
    """One measurement. ``result`` is None if ``problem`` says why there is none."""

    round: int
    scenario: str
    peer: str
    result: LoadResult | None
    problem: str = ""
    bytes_per_connection: float | None = None
    """Idle connections: growth of the memory of all the server's processes, per connection."""

    @property
    def cpu_s_per_million(self) -> float:
        """CPU seconds that the server's processes used for a million messages."""
        assert self.result is not None
        return self.result.metered / max(self.result.messages, 1) * 1e6

    @property
    def figure(self) -> float:
        """The result that the scenario is about: bytes per idle connection, or messages per second."""
        assert self.result is not None
        return self.result.rate if self.bytes_per_connection is None else self.bytes_per_connection

    def record(self) -> dict[str, Any]:
        """Return the run for a file, without the data for charts."""
        record = asdict(self)
        if self.result:
            del record["result"]["timeline"], record["result"]["curve_us"]
        return record


def measure(peer: Peer, scenario: Scenario, duration_s: float, round_number: int = 1) -> Run:
    """Start the server, warm it up, load it, and stop it."""
    try:
        with PeerProcess(peer, scenario.serve) as server:
            plan = scenario.plan(Target(HOST, server.port, "/"), duration_s, duration_s * WARMUP_SHARE)
            grown: float | None = None
            if scenario.mode == IDLE:
                result, grown = _measure_memory(plan, server)
            else:
                with _slow_readers(plan, scenario.slow_readers):
                    result = run_load(plan, server.cpu_s)
    except (PeerError, LoadError, HandshakeError) as error:
        return Run(round_number, scenario.name, peer.name, None, str(error))
    problems = [f"{count:,} {kind}: {ERROR_KINDS[kind]}" for kind, count in sorted(result.errors.items())]
    if server.killed:
        problems.append("it did not stop in time and was killed")
    return Run(round_number, scenario.name, peer.name, result, "; ".join(problems), grown)


def _measure_memory(plan: Plan, server: PeerProcess) -> tuple[LoadResult, float]:
    """Compare the memory with few and with all connections, both while a client runs that shares pages with the
    server.
    """
    readings: list[float] = []

    def meter() -> float:
        readings.append(server.pss_bytes())
        return readings[-1]

    few = run_load(replace(plan, connections=_FEW_CONNECTIONS, duration_s=plan.duration_s / 4), meter)
    with_few = readings[-1]
    result = run_load(plan, meter)
    further = max(result.connections - few.connections, 1)
    return result, (readings[-1] - with_few) / further


@contextmanager
def _slow_readers(plan: Plan, count: int) -> Iterator[None]:
    """Keep connections open that never read.

    Raises:
        LoadError: one of them cannot be opened.
    """
    if not count:
        yield
        return
    opened = open_connections(Dialer(plan, find_address(plan)), count)
    try:
        if opened.errors:
            raise LoadError(f"cannot open a connection that never reads: {opened.first_error}")
        yield
    finally:
        for attempt in opened.attempts:
            attempt.sock.close()
