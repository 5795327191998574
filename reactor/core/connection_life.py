"""The events of a connection's life, for the parts that observe it: a list of callbacks for each event.

An observer appends its callback. The part that causes the event calls the list in order, and knows no observer.
"""

from __future__ import annotations

from collections.abc import Callable

from zwoole.reactor.core.connection import Connection


class Life:
    """The observers of connections.

    Attributes:
        opened: called when a handshake has succeeded, with the connection and its request target.
        refused: called when a client is refused, with its address and port, the request target as received, the HTTP
            status and the reason.
        dropped: called when a socket has just been closed, with the connection; callbacks of workers may still run.
        gone: called when a connection has reached GONE, with the connection; it is in no table any more.
    """

    def __init__(self) -> None:
        self.opened: list[Callable[[Connection, str], None]] = []
        self.refused: list[Callable[[str, int, str, int, str], None]] = []
        self.dropped: list[Callable[[Connection], None]] = []
        self.gone: list[Callable[[Connection], None]] = []
