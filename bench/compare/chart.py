"""The chart of a comparison as an SVG image: one panel per scenario, one bar per server."""

from collections.abc import Sequence
from html import escape
from statistics import median

from zwoole.bench.compare import tables
from zwoole.bench.compare.measuring import Run
from zwoole.bench.compare.scenarios import Scenario
from zwoole.bench.loadtest.plan import CONNECT, IDLE

_COLUMNS = 2
_PANEL_WIDTH = 480
_LABEL_WIDTH = 112
_BAR_WIDTH = 260
_BAR_HEIGHT = 14
_LINE = 19
_HEAD = 34
_GAP = 22

_STYLE = """
  svg { background: #ffffff; font: 12px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .value { fill: #59636e; }
  .ours { fill: #0969da; }
  .peer { fill: #afb8c1; }
"""


def chart(runs: Sequence[Run], scenarios: Sequence[Scenario], peers: Sequence[str]) -> str:
    """Return the image. A bar is the median of a server's results; the largest one fills its panel's width."""
    panels = [panel for scenario in scenarios if (panel := _panel(runs, scenario, peers))]
    parts: list[str] = []
    top = _GAP
    for start in range(0, len(panels), _COLUMNS):
        row = panels[start : start + _COLUMNS]
        parts += [
            f'<g transform="translate({_GAP + column * _PANEL_WIDTH}, {top})">{lines}</g>'
            for column, (lines, _) in enumerate(row)
        ]
        top += max(height for _, height in row) + _GAP
    width = _GAP + _COLUMNS * _PANEL_WIDTH
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}">'
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>", ""])


def _panel(runs: Sequence[Run], scenario: Scenario, peers: Sequence[str]) -> tuple[str, int] | None:
    """Return the bars of a scenario and their height; None if there are no results."""
    found = {name: tables.of(runs, scenario, name) for name in peers if name in scenario.peers}
    figures = {name: median(run.figure for run, _ in good) for name, good in found.items() if good}
    longest = max(figures.values(), default=0)
    if longest <= 0:
        return None
    unit = {IDLE: "bytes per connection: lower is better", CONNECT: "connections/s"}.get(scenario.mode, "messages/s")
    lines = [
        f'<text class="title" y="0">{escape(scenario.title)}</text>',
        f'<text class="value" y="16">{unit}</text>',
    ]
    for index, (name, figure) in enumerate(figures.items()):
        y = _HEAD + index * _LINE
        length = max(figure, 0) / longest * _BAR_WIDTH
        kind = "ours" if name.startswith("zwoole") else "peer"
        lines += [
            f'<text x="{_LABEL_WIDTH - 8}" y="{y}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{_LABEL_WIDTH}" y="{y - 11}" width="{length:.1f}" height="{_BAR_HEIGHT}"/>',
            f'<text class="value" x="{_LABEL_WIDTH + length + 6:.1f}" y="{y}">{figure:,.0f}</text>',
        ]
    return "".join(lines), _HEAD + len(figures) * _LINE
