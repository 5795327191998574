"""The life of a connection, for the parts that watch it: each is a list of what is called, in order.

A part that wants to know adds itself; those that make something happen call the list and know nobody on it.
"""

from __future__ import annotations

from collections.abc import Callable

from zwoole.reactor.core.connection import Connection


class Life:
    """What happens to connections.

    Attributes:
        opened: called with a connection whose handshake has succeeded, and its request target.
        refused: called with the address and port of a client that is refused, its request target as it was received,
            the HTTP status and the reason.
        dropped: called with a connection whose socket has just been closed; its callbacks may still run.
        gone: called with a connection of which nothing is left.
    """

    def __init__(self) -> None:
        self.opened: list[Callable[[Connection, str], None]] = []
        self.refused: list[Callable[[str, int, str, int, str], None]] = []
        self.dropped: list[Callable[[Connection], None]] = []
        self.gone: list[Callable[[Connection], None]] = []
