"""Charts as inline SVG: axes with round ticks, lines, labels, and columns that show their numbers under the pointer.

The page defines the colours of each class, for light and for dark mode.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 900
HEIGHT = 280
LEFT = 76
RIGHT = WIDTH - 84  # leaves room for the labels of lines
TOP = 14
BOTTOM = HEIGHT - 44

_CHARACTER = 7.2  # approximate width of a character
_LABEL_GAP = 15  # least distance between the labels of two lines

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """Maps values to positions from 0 to 1; ``ticks`` are values with their labels."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return the position of a value."""
        if self.logarithmic:
            return (math.log(max(value, self.low)) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)


def linear(low: float, high: float, style: Callable[[float], str], count: int = 5) -> Axis:
    """Return an axis with about ``count`` ticks at multiples of 1, 2 or 5 times a power of ten."""
    high = high if high > low else low + 1
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    ticks = [index * step for index in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]
    return Axis(low, high, [(tick, style(tick)) for tick in ticks])


def from_zero(high: float, style: Callable[[float], str]) -> Axis:
    """Return an axis from 0 whose last tick is above ``high``."""
    axis = linear(0, high * 1.05 or 1, style)
    step = axis.ticks[1][0] - axis.ticks[0][0]
    return linear(0, math.ceil(high * 1.02 / step) * step or 1, style)


def logarithmic(low: float, high: float, style: Callable[[float], str]) -> Axis:
    """Return an axis that includes both values, both above 0, and whose ends are 1, 2 or 5 times a power of ten."""
    steps = [factor * 10.0**power for power in range(-3, 12) for factor in (1, 2, 5)]
    first = max(index for index, step in enumerate(steps) if step <= low)
    last = max(min(index for index, step in enumerate(steps) if step >= high), first + 1)
    shown = steps[first : last + 1]
    if len(shown) > 8:  # more would crowd
        shown = [step for step in shown if math.log10(step) % 1 < 1e-9 or math.log10(step) % 1 > 1 - 1e-9]
    return Axis(steps[first], steps[last], [(step, style(step)) for step in shown], logarithmic=True)


class Chart:
    """One chart. Elements are drawn in the order of the calls."""

    def __init__(self, title: str, x: Axis, y: Axis) -> None:
        """Draw the grid and the labels of both axes."""
        self._x = x
        self._y = y
        self._parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
        for value, label in y.ticks:
            self._add(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{self.y(value)}" y2="{self.y(value)}"/>')
            self._text(LEFT - 10, self.y(value) + 4, label, "tick end")
        for value, label in x.ticks:
            self._add(f'<line class="grid" x1="{self.x(value)}" x2="{self.x(value)}" y1="{BOTTOM}" y2="{BOTTOM + 5}"/>')
            self._text(self.x(value), BOTTOM + 20, label, "tick middle")

    def x(self, value: float) -> float:
        """Return the horizontal coordinate of a value."""
        return round(LEFT + self._x.place(value) * (RIGHT - LEFT), 1)

    def y(self, value: float) -> float:
        """Return the vertical coordinate of a value."""
        return round(BOTTOM - self._y.place(value) * (BOTTOM - TOP), 1)

    def caption(self, text: str) -> None:
        """Write the meaning of the horizontal axis below the chart."""
        self._text((LEFT + RIGHT) / 2, HEIGHT - 4, text, "tick middle")

    def line(self, points: Sequence[Point], kind: str, area: bool = False) -> None:
        """Draw a line of class ``kind``; ``area`` also fills the space below it."""
        path = " ".join(f"{'L' if index else 'M'}{self.x(x)} {self.y(y)}" for index, (x, y) in enumerate(points))
        if area and points:
            self._add(f'<path class="area {kind}" d="{path} V{BOTTOM} H{self.x(points[0][0])} Z"/>')
        self._add(f'<path class="line {kind}" d="{path}"/>')
        if len(points) == 1:
            self.dot(*points[0], kind)

    def dot(self, x: float, y: float, kind: str) -> None:
        """Draw a point."""
        self._add(f'<circle class="dot {kind}" cx="{self.x(x)}" cy="{self.y(y)}" r="3.5"/>')

    def note(self, x: float, y: float, text: str) -> None:
        """Write a text above and left of a point, where a rising line leaves room; near the left edge, below and
        right of it.
        """
        if self.x(x) - len(text) * _CHARACTER < LEFT:
            self._text(self.x(x) + 6, self.y(y) + 18, text, "note")
        else:
            self._text(self.x(x) - 6, self.y(y) - 8, text, "note end")

    def labels(self, ends: Iterable[tuple[float, str, str]]) -> None:
        """Write labels (value, label, class) right of the plot, at the ends of their lines, without overlap."""
        lowest = float("inf")
        for value, label, kind in sorted(ends):
            lowest = min(self.y(value) + 4, lowest - _LABEL_GAP)
            self._text(RIGHT + 8, lowest, label, f"label {kind}")

    def columns(self, edges: Sequence[tuple[float, float, str]]) -> None:
        """Add columns (left, right, text) that show their text under the pointer."""
        for left, right, text in edges:
            width = round(self.x(right) - self.x(left), 1)
            self._add(
                f'<rect class="column" x="{self.x(left)}" y="{TOP}" width="{width}" height="{BOTTOM - TOP}">'
                f"<title>{escape(text)}</title></rect>"
            )

    def svg(self) -> str:
        """Return the chart as SVG."""
        return "".join(self._parts) + "</svg>"

    def _add(self, part: str) -> None:
        self._parts.append(part)

    def _text(self, x: float, y: float, text: str, kind: str) -> None:
        self._add(f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>')
