"""The goals for zwoole's speed, and whether the runs of a comparison meet them.

A goal is a bound for the ratio of our result to another server's, within one run of the comparison. Beside the goals,
the table shows which part of the limit of zwoole's shape is reached (peers/limit_two_processes.c).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from zwoole.bench.compare import tables
from zwoole.bench.compare.measuring import Run
from zwoole.bench.compare.scenarios import Scenario

LIMIT = "C-two-processes"


@dataclass(frozen=True)
class Goal:
    """A bound for our result in a scenario."""

    scenario: str
    peer: str = ""
    """The server by whose result ours is divided; "" for a bound of our result itself."""
    least: float | None = None
    most: float | None = None
    ours: str = "zwoole"

    @property
    def subject(self) -> str:
        """What is measured, in words."""
        return f"{self.ours} / {self.peer}" if self.peer else f"{self.ours}, bytes per connection"

    @property
    def bar(self) -> str:
        """The bound in words; "" if there is none."""
        if self.least is not None:
            return f"at least {self.least:g}"
        return "" if self.most is None else f"at most {self.most:,g}"

    def admits(self, value: float) -> bool:
        """Return whether a result is within the bound."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


GOALS = (
    Goal("lone", "gorilla", 0.55),
    Goal("lone", "swoole", 0.8),
    Goal("lone", LIMIT),
    Goal("4-connections", "gorilla", 0.55),
    Goal("4-connections", "swoole", 0.7),
    Goal("4-connections", LIMIT),
    Goal("20-connections", "gorilla", 0.85),
    Goal("20-connections", "swoole", 1.1),
    Goal("20-connections", LIMIT),
    Goal("echo-1", "gorilla", 1.2),
    Goal("echo-1", "bun", 0.8),
    Goal("echo-1", "swoole", 1.6),
    Goal("echo-1", LIMIT),
    Goal("echo-16", "gorilla", 4.5),
    Goal("echo-16", "bun", 0.5),
    Goal("echo-16", "zwoole", 0.65, ours="zwoole-async"),
    Goal("echo-16", "zwoole", 0.75, ours="zwoole-handler"),
    Goal("echo-16", LIMIT),
    *(
        goal
        for name in ("echo-16k", "echo-16k-binary")
        for goal in (
            Goal(name, "websockets", 1.5),
            Goal(name, "gorilla", 2),
            Goal(name, "bun", 0.7),
            Goal(name, "swoole", 1.3),
            Goal(name, LIMIT),
        )
    ),
    Goal("connect", "gorilla", 1),
    Goal("fanout-4", "gorilla", 3.3),
    Goal("fanout-4", "bun", 0.94),
    Goal("idle", most=1150),  # 1.1 kB, rounded
)


@dataclass(frozen=True)
class Outcome:
    """What a comparison says of a goal."""

    goal: Goal
    values: tuple[float, ...]
    """The result of each round."""
    reason: str = ""
    """Why there are none."""

    @property
    def met(self) -> bool | None:
        """Whether the median of the rounds is within the bound; None if there is no result or no bound."""
        return self.goal.admits(median(self.values)) if self.values and self.goal.bar else None

    @property
    def verdict(self) -> str:
        """The same in words."""
        if not self.values:
            return f"not measured: {self.reason}"
        return {True: "met", False: "missed", None: "the limit of the shape"}[self.met]

    def record(self) -> dict[str, Any]:
        """Return the outcome for a file."""
        return {
            "scenario": self.goal.scenario,
            "ours": self.goal.ours,
            "peer": self.goal.peer,
            "least": self.goal.least,
            "most": self.goal.most,
            "values": list(self.values),
            "verdict": self.verdict,
        }


def outcomes(runs: Sequence[Run], scenarios: Sequence[Scenario], skipped: Mapping[str, str]) -> list[Outcome]:
    """Return what the runs say of each goal whose scenario was measured.

    Args:
        runs: the runs of all scenarios.
        scenarios: the scenarios.
        skipped: the servers that cannot run here, each with the reason.
    """
    measured = {one.name: one for one in scenarios if any(run.scenario == one.name for run in runs)}
    return [_outcome(goal, runs, measured[goal.scenario], skipped) for goal in GOALS if goal.scenario in measured]


def table(found: Sequence[Outcome]) -> str:
    """Return the Markdown table of outcomes."""
    rows = [["scenario", "result", "measured", "goal", ""]]
    for one in found:
        style = "{:.2f}" if one.goal.peer else "{:,.0f}"
        measured = tables.spread(one.values, style.format)
        rows.append([one.goal.scenario, one.goal.subject, measured, one.goal.bar, one.verdict])
    return tables.markdown(rows, left=(0, 1, 4))


def _outcome(goal: Goal, runs: Sequence[Run], scenario: Scenario, skipped: Mapping[str, str]) -> Outcome:
    if goal.peer:
        values = tables.ratios(runs, scenario, goal.peer, goal.ours)
    else:
        values = [run.figure for run, _ in tables.of(runs, scenario, goal.ours)]
    reasons = (_reason(name, runs, scenario, skipped) for name in (goal.ours, goal.peer) if name)
    return Outcome(goal, tuple(values), "" if values else next(filter(None, reasons), "no round has both results"))


def _reason(peer: str, runs: Sequence[Run], scenario: Scenario, skipped: Mapping[str, str]) -> str:
    """Return why a server has no result; "" if it has one."""
    if tables.of(runs, scenario, peer):
        return ""
    if peer in skipped:
        return f"{peer} is {skipped[peer]}"
    problems = [run.problem for run in runs if (run.scenario, run.peer) == (scenario.name, peer)]
    return problems[0] if problems else f"{peer} did not take part"
