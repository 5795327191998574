"""Write the figures of README's table from the last comparison: python docs/readme_figures.py

tests/test_docs.py fails if they differ from those of bench/results/latest.json.
"""

import json
import re
from pathlib import Path
from statistics import median
from typing import Any

from zwoole.bench.compare.scenarios import SCENARIOS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results" / "latest.json"
PEERS = ("websockets", "gorilla", "bun", "swoole")  # the columns, in this order

_OURS = {scenario.name: scenario.ours for scenario in SCENARIOS}
_ROW = re.compile(r"^\| `(?P<scenario>[\w-]+)` \|(?P<question>[^|]+)\|.*$", re.MULTILINE)


def with_figures(readme: str, runs: list[dict[str, Any]]) -> str:
    """Return the text with the figures of a comparison's runs; those of servers that were not measured are empty."""

    def row(found: re.Match[str]) -> str:
        name = found["scenario"]
        if name not in _OURS:
            return found[0]
        cells = [f"`{name}`", found["question"].strip(), *(ratio(runs, name, peer) for peer in PEERS)]
        return re.sub(" +", " ", f"| {' | '.join(cells)} |")

    return _ROW.sub(row, readme)


def ratio(runs: list[dict[str, Any]], scenario: str, peer: str) -> str:
    """Return the median of our result divided by the server's, within each round; "" if there is none."""
    figures = {
        (run["peer"], run["round"]): run["bytes_per_connection"] or run["result"]["rate"]
        for run in runs
        if run["scenario"] == scenario and run["result"]
    }
    ours = _OURS[scenario]
    rounds = [number for name, number in figures if name == peer and (ours, number) in figures]
    return f"{median(figures[ours, number] / figures[peer, number] for number in rounds):.2f}" if rounds else ""


if __name__ == "__main__":
    README.write_text(with_figures(README.read_text(), json.loads(RESULTS.read_text())["runs"]))
