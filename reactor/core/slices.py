"""What is to be done to many connections, a slice in each turn of the loop: nobody else waits for all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from zwoole.reactor.core.loop import Loop

SLICE = 128  # things in a turn: to act on one takes some 10 us

Thing = TypeVar("Thing")


class Slices(Generic[Thing]):
    """Acts on things in order: on the first SLICE of them at once, on the next in each turn that follows.

    Until its turn comes a thing may change: whatever acts on it looks again.

    Attributes:
        done: whether all have been acted on.
    """

    def __init__(
        self,
        loop: Loop,
        things: list[Thing],
        act: Callable[[Thing], object],
        then: Callable[[], None] | None = None,
    ) -> None:
        """Begin.

        Args:
            loop: whose turns they are.
            things: what to act on; the list is the slices' own from here on.
            act: called with each.
            then: called when all are done.
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
