"""The commands that come up from workers: which part of the master carries out which.

The most frequent ones (push, acknowledgement, broadcast) are known to sending/outbound.py itself. Every other one is
registered here by the part that carries it out.
"""

from __future__ import annotations

from collections.abc import Callable

from zwoole.reactor.core.worker_link import WorkerLink
from zwoole.shared.wire.batches import BatchReader

CarryOut = Callable[[WorkerLink, BatchReader], None]


class Commands:
    """A table of commands.

    Attributes:
        by_kind: what carries out each kind of event: called with the worker's link and the batch, which stands at the
            event. It may raise WireError if the event is not what its kind says.
    """

    def __init__(self) -> None:
        self.by_kind: dict[int, CarryOut] = {}

    def register(self, kind: int, carry_out: CarryOut) -> None:
        """Have a kind of event carried out.

        Raises:
            ValueError: another part carries it out already.
        """
        if kind in self.by_kind:
            raise ValueError(f"commands of kind {kind} are carried out already")
        self.by_kind[kind] = carry_out
