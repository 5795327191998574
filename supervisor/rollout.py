"""One change of workers: successors that boot beside those in service, and take over together or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterable


class Change:
    """A reload, or the recycling of one worker.

    Attributes:
        why: what it is for, in words.
        reason: the same as it is counted by.
        sender: who asked for it on the control socket, and the request's id; None where nobody waits.
        started: when it began, in monotonic seconds.
        members: slot of each successor, by incarnation.
    """

    def __init__(self, why: str, reason: str, sender: tuple[bytes, int] | None = None) -> None:
        self.why = why
        self.reason = reason
        self.sender = sender
        self.started = time.monotonic()
        self.members: dict[int, int] = {}
        self._ready: set[int] = set()

    @property
    def slots(self) -> set[int]:
        """The slots whose workers it replaces."""
        return set(self.members.values())

    def is_ready(self, incarnation: int) -> bool:
        """Note that a successor can serve; tell whether all can."""
        if incarnation in self.members:
            self._ready.add(incarnation)
        return bool(self.members) and self._ready >= set(self.members)


def change_of(changes: Iterable[Change], incarnation: int) -> Change | None:
    """Return the change that a worker is a successor in, or None."""
    return next((change for change in changes if incarnation in change.members), None)
