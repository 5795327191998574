"""Compares zwoole with other servers, side by side on one machine: python -m zwoole.bench.compare.

The speed of a machine drifts, so rounds are interleaved (A B C, A B C, ...). Each run starts its own server. Quote the
ratios: they are computed within a round, and the tables show their medians over the rounds. The exit code is 1 if a
server did not start, or if a reply was wrong or missing.
"""

import json
import resource
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import click

from zwoole.bench.compare import goals
from zwoole.bench.compare.chart import chart
from zwoole.bench.compare.environment import environment
from zwoole.bench.compare.goals import Outcome
from zwoole.bench.compare.measuring import Run, measure
from zwoole.bench.compare.peer import PEERS, Peer
from zwoole.bench.compare.scenarios import SCENARIOS, Scenario
from zwoole.bench.compare.tables import LIMITED_NOTE, table
from zwoole.bench.loadtest.plan import IDLE

QUICK_DURATION_S = 0.4
IDLE_CONNECTIONS = 15000
_OTHER_DESCRIPTORS = 1000  # of a server or a load client, besides those of its connections

Pair = tuple[Scenario, Peer]


def pairs_of(scenarios: Sequence[Scenario], peers: Sequence[Peer]) -> list[Pair]:
    """Return each scenario with each of its servers, in the order of a round."""
    return [(scenario, peer) for scenario in scenarios for peer in peers if peer.name in scenario.peers]


def quick_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """Return a few small pairs that cover every scenario and every server."""
    chosen: list[Pair] = []
    seen: set[str] = set()
    for scenario, peer in pairs:
        if peer.name == scenario.ours or peer.name not in seen:
            seen.add(peer.name)
            chosen.append((scenario.small(), peer))
    return chosen


def compare(pairs: Sequence[Pair], rounds: int, duration_s: float) -> Iterator[Run]:
    """Measure the pairs, round by round."""
    for round_number in range(1, rounds + 1):
        for scenario, peer in pairs:
            if round_number == 1 or not scenario.once:
                yield measure(peer, scenario, duration_s, round_number)


def allow_many_files() -> int:
    """Raise the limit of file descriptors to its maximum, for the servers too, and return it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def with_idle(scenarios: Sequence[Scenario], connections: int) -> list[Scenario]:
    """Return the scenarios with that number of idle connections, also in their titles."""
    return [
        replace(one, connections=connections, title=f"{connections:,} {one.title}") if one.mode == IDLE else one
        for one in scenarios
    ]


@dataclass(frozen=True)
class Results:
    """The measurements of a comparison, and what made them."""

    runs: Sequence[Run]
    scenarios: Sequence[Scenario]
    peers: Sequence[str]
    """The names of the servers, in the order of the tables."""
    notes: Sequence[str]
    outcomes: Sequence[Outcome] = ()

    def page(self) -> str:
        """Return the measurements as Markdown, followed by the notes and the goals."""
        parts = []
        for scenario in self.scenarios:
            if any(run.scenario == scenario.name for run in self.runs):
                title = scenario.title[0].upper() + scenario.title[1:]
                parts.append(f"### {title}\n\n{table(self.runs, scenario, self.peers)}\n")
        if any(run.result and run.result.client_was_the_limit for run in self.runs):
            parts.append(LIMITED_NOTE + "\n")
        parts.append("\n".join(f"- {note}" for note in self.notes))
        if self.outcomes:
            parts.append(f"\n### Goals\n\n{goals.table(self.outcomes)}")
        return "\n".join(parts)

    def write(self, folder: Path) -> None:
        """Write latest.json, latest.md and latest.svg into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "notes": self.notes,
            "goals": [outcome.record() for outcome in self.outcomes],
            "runs": [run.record() for run in self.runs],
        }
        (folder / "latest.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        head = "# The last comparison\n\n![Medians of all scenarios as bars](latest.svg)\n\n"
        (folder / "latest.md").write_text(head + self.page() + "\n", encoding="utf-8")
        (folder / "latest.svg").write_text(chart(self.runs, self.scenarios, self.peers), encoding="utf-8")


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--duration", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True, help="Seconds.")
@click.option("--quick", is_flag=True, help="One short round with few connections, to check replies, not speed.")
@click.option("--scenario", "scenario_names", multiple=True, type=click.Choice([one.name for one in SCENARIOS]))
@click.option("--peer", "peer_names", multiple=True, type=click.Choice([peer.name for peer in PEERS]))
@click.option("--idle", type=click.IntRange(100), default=IDLE_CONNECTIONS, show_default=True, help="Connections.")
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), help="Folder to write the results to.")
def main(
    rounds: int,
    duration: float,
    quick: bool,
    scenario_names: tuple[str, ...],
    peer_names: tuple[str, ...],
    idle: int,
    results: Path | None,
) -> None:
    """Compare zwoole with other WebSocket servers on this machine."""
    if quick and results:
        raise click.UsageError("--quick gives no results worth keeping: use it without --results")
    began = datetime.now(timezone.utc)
    chosen = [peer for peer in PEERS if not peer_names or peer.name in peer_names]
    skipped = {peer.name: reason for peer in chosen if (reason := peer.skip_reason())}
    peers = [peer for peer in chosen if peer.name not in skipped]
    possible = min(idle, allow_many_files() - _OTHER_DESCRIPTORS)
    scenarios = [one for one in with_idle(SCENARIOS, possible) if not scenario_names or one.name in scenario_names]
    notes = [f"{name}: {value}" for name, value in environment(peers).items()]
    notes += [f"{name}: skipped, {reason}" for name, reason in skipped.items()]
    if possible < idle:
        notes.append(f"idle connections: {possible:,} instead of {idle:,}, because of the limit of descriptors")
    click.echo("\n".join(notes))

    pairs = pairs_of(scenarios, peers)
    if quick:
        pairs, rounds, duration = quick_pairs(pairs), 1, QUICK_DURATION_S
    runs = []
    for run in compare(pairs, rounds, duration):
        runs.append(run)
        click.echo(_line(run), err=bool(run.problem))
    notes = [
        f"date: {began:%Y-%m-%d %H:%M} UTC",
        f"command: {shlex.join(['python', '-m', 'zwoole.bench.compare', *sys.argv[1:]])}",
        *notes,
        *(_line(run) for run in runs if run.problem),
    ]
    outcomes = [] if quick else goals.outcomes(runs, scenarios, skipped)
    measured = Results(runs, scenarios, [peer.name for peer in peers], notes, outcomes)
    click.echo("\n" + measured.page())
    if results:
        measured.write(results)
    raise SystemExit(1 if not runs or any(run.problem for run in runs) else 0)


def _line(run: Run) -> str:
    said = run.problem or f"{run.figure:,.0f}"
    return f"round {run.round}, {run.scenario}: {run.peer}: {said}"
