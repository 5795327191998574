"""Masters and workers that are wanted and not ready, as status, readiness and the log name them."""

from __future__ import annotations

from dataclasses import dataclass

NAMED = 10  # missing processes that one line names


@dataclass(frozen=True)
class Missing:
    """A master's or worker's place without a process that is ready.

    Attributes:
        role: "master" or "worker".
        index: its number.
        starting: whether a process is starting there.
        failed_boots: how many in a row have ended before they served anybody.
        next_try_s: seconds until the next is started; None where one is starting, or none will be.
        last: how the last one ended, "" where none has.
    """

    role: str
    index: int
    starting: bool
    failed_boots: int
    next_try_s: float | None
    last: str

    def __str__(self) -> str:
        parts = [f"{self.role} {self.index}: {'starting' if self.starting else 'not running'}"]
        if self.failed_boots:
            parts.append(f"{self.failed_boots} failed boot" + ("s" if self.failed_boots > 1 else ""))
        if self.next_try_s is not None:
            parts.append(f"next try in {self.next_try_s:.1f} s")
        if self.last:
            parts.append(f"last: {self.last}")
        return ", ".join(parts)


def describe(missing: list[Missing]) -> str:
    """Return all of them in one line."""
    more = len(missing) - NAMED
    return "; ".join(map(str, missing[:NAMED])) + (f"; and {more} more" if more > 0 else "")
