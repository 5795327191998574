"""The progress of a run: a live line on a terminal, otherwise a plain line per second."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from zwoole.bench.loadtest.plan import IDLE, Plan
from zwoole.bench.loadtest.report import duration
from zwoole.bench.loadtest.run import Watcher
from zwoole.bench.loadtest.timeline import Row

_PLAIN_S = 1.0  # between two plain lines


def told(plan: Plan, row: Row) -> str:
    """Return an interval in words."""
    parts = [f"{row.connections:,} connections"]
    if plan.mode != IDLE:
        parts.append(f"{row.rate:,.0f} /s")
        parts.append(f"p50 {duration(row.latency_us['p50'])}")
        parts.append(f"p99 {duration(row.latency_us['p99'])}")
    parts.append(f"errors {row.errors:,}")
    if not plan.messages:
        parts.append(f"{max(plan.duration_s - row.ends_s, 0):.0f} s left")
    return "  ".join(parts)


class LiveProgress(Watcher):
    """A line with a progress bar, redrawn while the run lasts and removed at the end."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        columns = TextColumn("{task.description:8}"), BarColumn(bar_width=24), TextColumn("{task.fields[told]}")
        self._progress = Progress(*columns, console=console, transient=True)
        self._task: TaskID = self._progress.add_task("opening", total=plan.connections, told="")

    def __enter__(self) -> "LiveProgress":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def opening(self, connections: int, failures: int) -> None:
        """Show how many connections are open."""
        words = f"{connections:,} of {self._plan.connections:,} connections" + (
            f", {failures:,} failed" * bool(failures)
        )
        self._progress.update(self._task, completed=connections, told=words)

    def row(self, row: Row) -> None:
        """Show an interval."""
        plan = self._plan
        self._progress.update(
            self._task,
            description="warm-up" if row.ends_s <= 0 else "running",
            total=None if plan.messages else plan.lead_s + plan.duration_s,
            completed=plan.lead_s + row.ends_s,
            told=told(plan, row),
        )


class PlainProgress(Watcher):
    """Lines for a log."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._next_opening_s = time.monotonic() + _PLAIN_S
        self._next_s = -plan.lead_s + _PLAIN_S

    def __enter__(self) -> "PlainProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def opening(self, connections: int, failures: int) -> None:
        """Print how many connections are open, at most once a second."""
        if time.monotonic() >= self._next_opening_s:
            self._next_opening_s = time.monotonic() + _PLAIN_S
            self._print(f"{connections:,} of {self._plan.connections:,} connections open, {failures:,} failed")

    def row(self, row: Row) -> None:
        """Print an interval, at most once a second."""
        if row.ends_s >= self._next_s:
            self._next_s += _PLAIN_S
            self._print(f"{row.ends_s:6.1f} s  {told(self._plan, row)}")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def progress_on(console: Console, plan: Plan) -> LiveProgress | PlainProgress:
    """Return the progress display that suits the console, as a context manager."""
    return LiveProgress(plan, console) if console.is_terminal else PlainProgress(plan, console)
