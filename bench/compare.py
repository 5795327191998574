"""Compares zwoole with other servers, side by side on one machine: python -m zwoole.bench.compare.

Rounds are interleaved (A B C, A B C, ...), as the speed of a machine drifts, and each run gets a server of its own.
What is worth quoting are the ratios: they are taken within a round, and the table has their median over the rounds.
The exit code is 1 when any server did not start or any reply was wrong or missing.
"""

import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import click

from zwoole.bench import loadcore
from zwoole.bench.fleet import LoadError
from zwoole.bench.load import ERROR_KINDS, LoadResult, run_load
from zwoole.bench.peerprocess import HOST, PEERS, Peer, PeerError, PeerProcess
from zwoole.bench.plan import Plan, Target
from zwoole.version import VERSION

OURS = "zwoole"
WARMUP_S = 0.5


@dataclass(frozen=True)
class Scenario:
    """One load of the comparison."""

    connections: int
    size: int
    depth: int

    @property
    def title(self) -> str:
        """The scenario in words."""
        return f"echo of {self.size:,} B text, {self.connections} connections, {self.depth} outstanding on each"


SCENARIOS = (Scenario(100, 64, 1), Scenario(100, 64, 16), Scenario(50, 16384, 1))


@dataclass(frozen=True)
class Run:
    """One measurement: ``result`` is None when ``problem`` says why there is none."""

    round: int
    scenario: Scenario
    peer: str
    result: LoadResult | None
    problem: str = ""

    @property
    def cpu_s_per_million(self) -> float:
        """CPU seconds that the server's processes used for a million messages."""
        assert self.result is not None
        return self.result.metered / max(self.result.messages, 1) * 1e6


def measure(peer: Peer, scenario: Scenario, duration_s: float, round_number: int = 1) -> Run:
    """Start the peer, warm it up, load it, and stop it."""
    result = None
    try:
        with PeerProcess(peer) as server:
            plan = Plan(
                Target(HOST, server.port, "/"),
                scenario.connections,
                size=scenario.size,
                depth=scenario.depth,
                duration_s=duration_s,
                warmup_s=WARMUP_S,
            )
            result = run_load(plan, server.cpu_s)
    except (PeerError, LoadError) as error:
        return Run(round_number, scenario, peer.name, None, str(error))
    problems = [f"{count:,} {kind}: {ERROR_KINDS[kind]}" for kind, count in sorted(result.errors.items())]
    if server.killed:
        problems.append("it did not stop in time and was killed")
    return Run(round_number, scenario, peer.name, result, "; ".join(problems))


def compare(peers: Sequence[Peer], rounds: int, duration_s: float) -> Iterator[Run]:
    """Measure all peers in all scenarios, one round after the other."""
    for round_number in range(1, rounds + 1):
        for scenario in SCENARIOS:
            for peer in peers:
                yield measure(peer, scenario, duration_s, round_number)


def ratios(runs: Sequence[Run], scenario: Scenario, peer: str) -> list[float]:
    """Return zwoole's rate over the peer's in each round where both have one."""
    rates = {(run.round, run.peer): run.result.rate for run in runs if run.scenario == scenario and run.result}
    rounds = sorted({run.round for run in runs})
    return [
        rates[number, OURS] / rates[number, peer]
        for number in rounds
        if (number, OURS) in rates and rates.get((number, peer))
    ]


def describe(runs: Sequence[Run], scenario: Scenario, peers: Sequence[Peer]) -> str:
    """Return the table of one scenario: medians, and the lowest and the highest in brackets."""
    lines = [
        scenario.title,
        f"  {'':10}  {'messages/s':>32}  {'p50 us':>9}  {'p99 us':>9}  {'server CPU s/M':>14}  {OURS + ' / peer':>20}",
    ]
    for peer in peers:
        good = [run for run in runs if run.scenario == scenario and run.peer == peer.name and run.result]
        if not good:
            lines.append(f"  {peer.name:10}  {'no result':>32}")
            continue
        results = [run.result for run in good if run.result]
        rate = _spread([result.rate for result in results], "{:,.0f}".format)
        p50, p99 = (median(result.latency_us[name] for result in results) for name in ("p50", "p99"))
        cpu = median(run.cpu_s_per_million for run in good)
        ratio = "" if peer.name == OURS else _spread(ratios(runs, scenario, peer.name), "{:.2f}".format)
        lines.append(f"  {peer.name:10}  {rate:>32}  {p50:>9,.0f}  {p99:>9,.0f}  {cpu:>14.2f}  {ratio:>20}".rstrip())
    return "\n".join(lines)


def _spread(values: Sequence[float], style: Callable[[float], str]) -> str:
    if len(values) < 2:
        return style(values[0]) if values else ""
    return f"{style(median(values))} ({style(min(values))}-{style(max(values))})"


def surroundings(peers: Sequence[Peer]) -> dict[str, str]:
    """Return what the numbers depend on: machine, interpreter, versions."""
    packages = sorted({package for peer in peers for package in peer.packages.split()})
    client = "compiled" if loadcore.COMPILED else "uncompiled, which may be the limit"
    return {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, Linux {platform.release()}",
        "Python": platform.python_version(),
        "zwoole": VERSION,
        **{package: metadata.version(package) for package in packages},
        "load client": client,
    }


def _record(run: Run) -> dict[str, Any]:
    """Return a run for a file, without what its result has for charts of its own."""
    record = asdict(run)
    for name in ("timeline", "curve_us"):
        if record["result"]:
            del record["result"][name]
    return record


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--duration", type=click.FloatRange(0, min_open=True), default=3.0, show_default=True, help="Seconds.")
@click.option("--quick", is_flag=True, help="One round of one second: shows that replies are right, not how fast.")
@click.option("--peer", "names", multiple=True, type=click.Choice([peer.name for peer in PEERS]), help="Only these.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all runs there.")
def main(rounds: int, duration: float, quick: bool, names: tuple[str, ...], json_file: Path | None) -> None:
    """Compare zwoole with other WebSocket servers on this machine."""
    if quick:
        rounds, duration = 1, 1.0
    chosen = [peer for peer in PEERS if not names or peer.name in names]
    peers = [peer for peer in chosen if not peer.skip_reason()]
    for peer in chosen:
        if peer not in peers:
            click.echo(f"{peer.name}: skipped, {peer.skip_reason()}")
    around = surroundings(peers)
    click.echo(", ".join(f"{name}: {value}" for name, value in around.items()))

    runs = []
    for run in compare(peers, rounds, duration):
        runs.append(run)
        if run.problem:
            click.echo(f"round {run.round}, {run.scenario.title}: {run.peer}: {run.problem}", err=True)
    for scenario in SCENARIOS:
        click.echo("\n" + describe(runs, scenario, peers))
    if json_file:
        records = [_record(run) for run in runs]
        json_file.write_text(json.dumps({"around": around, "runs": records}, indent=2) + "\n")
    raise SystemExit(1 if any(run.problem for run in runs) else 0)


if __name__ == "__main__":
    main()
