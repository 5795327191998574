"""The commands that workers send up, and the part of the master that carries out each.

sending/outbound.py itself carries out the most frequent ones: push, acknowledgement and broadcast. Every other command
is registered here by the part that carries it out.
"""

from __future__ import annotations

from collections.abc import Callable

from zwoole.reactor.core.worker_link import WorkerLink
from zwoole.shared.wire.batches import BatchReader

CarryOut = Callable[[WorkerLink, BatchReader], None]


class Commands:
    """The table of commands.

    Attributes:
        by_kind: the function that carries out each kind of event. It is called with the link of the worker that sent
            the event, and with the batch reader, which stands at the event. It raises WireError if the event is
            malformed.
    """

    def __init__(self) -> None:
        self.by_kind: dict[int, CarryOut] = {}

    def register(self, kind: int, carry_out: CarryOut) -> None:
        """Register the function that carries out a kind of event.

        Args:
            kind: the number of the event on the wire (shared/wire/events.py).
            carry_out: the function; see `by_kind`.

        Raises:
            ValueError: a function is registered for this kind already.
        """
        if kind in self.by_kind:
            raise ValueError(f"commands of kind {kind} are carried out already")
        self.by_kind[kind] = carry_out
