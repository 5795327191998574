"""Acts on many connections in slices, one in each turn of the loop, so that other clients do not wait for all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from zwoole.reactor.core.loop import Loop

SLICE = 128  # things per turn: to act on one takes about 10 us

Thing = TypeVar("Thing")


class Slices(Generic[Thing]):
    """Acts on a list in order: on the first SLICE things at once, on the next SLICE in each of the following turns.

    A thing may change until its slice is reached, so `act` must check its state again.

    Attributes:
        done: whether it has acted on all things.
    """

    def __init__(
        self,
        loop: Loop,
        things: list[Thing],
        act: Callable[[Thing], object],
        then: Callable[[], None] | None = None,
    ) -> None:
        """Act on the first slice.

        Args:
            loop: the loop whose turns are used.
            things: what to act on; the caller must not change the list afterwards.
            act: called with each thing.
            then: called after the last one, at once if one slice is enough.
        """
        self.done = False
        self._loop = loop
        self._things = things
        self._position = 0
        self._act = act
        self._then = then
        self._go_on()

    def _go_on(self) -> None:
        begin = self._position
        self._position = end = begin + SLICE
        for thing in self._things[begin:end]:
            self._act(thing)
        if end < len(self._things):
            self._loop.next_turn(self._go_on)
            return
        self._things = []
        self.done = True
        if self._then is not None:
            self._then()
