"""Processes that are wanted and not ready, as `zwoole status`, /readyz and the log describe them."""

from __future__ import annotations

from dataclasses import dataclass

NAMED = 10  # how many missing processes one line describes


@dataclass(frozen=True)
class Missing:
    """A process that is wanted and not ready.

    Attributes:
        role: the name of its role, such as "worker".
        id: its worker id, or the number of its reactor.
        starting: whether a process is starting.
        failed_boots: how many processes in a row have ended before they served.
        next_try_s: seconds until the next is started; None if one is starting, or none will be started.
        last: how the last one ended, "" if none has.
    """

    role: str
    id: int
    starting: bool
    failed_boots: int
    next_try_s: float | None
    last: str

    def __str__(self) -> str:
        parts = [f"{self.role} {self.id}: {'starting' if self.starting else 'not running'}"]
        if self.failed_boots:
            parts.append(f"{self.failed_boots} failed boot" + ("s" if self.failed_boots > 1 else ""))
        if self.next_try_s is not None:
            parts.append(f"next try in {self.next_try_s:.1f} s")
        if self.last:
            parts.append(f"last: {self.last}")
        return ", ".join(parts)


def describe(missing: list[Missing]) -> str:
    """Return a description of all of them in one line, "" for none."""
    more = len(missing) - NAMED
    return "; ".join(map(str, missing[:NAMED])) + (f"; and {more} more" if more > 0 else "")
