"""The verdict: what becomes of each event that a dead worker had not finished.

Asked only when its process has ended and all it ever sent has been read, so what has no acknowledgement now will never
have one. The progress map tells what it had begun:

- begun, or finished without the acknowledgement having left: its callback may have run, wholly or in part, and what it
  pushed may be lost. It is never run again: the connection is closed with 1011.
- waiting: nothing of it has happened. It is sent again, in order, to the worker that comes after.
- a close that was begun is not repeated; one that waited is told to the next worker.
- a connection served by a coroutine handler has lost it, unless the handler never began: 1012.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.stages import STAGE_HANDSHAKE
from zwoole.reactor.core.window import Outstanding
from zwoole.shared.memory.progress_map import WAITING
from zwoole.shared.wire import events
from zwoole.shared.wire.events import SENT_AGAIN, TOLD_AGAIN, by_kind

RULES = by_kind()


class Verdict:
    """What is to be done.

    Attributes:
        failed: connections in whose callback the worker died, in order, once each.
        replay: connection, and the (event, data) of it to be sent again, in order.
        closes: connections whose `close` nobody has begun.
        unopened: connections whose `open` nobody has begun.
        unfinished: connections with an event, other than a close, that has no acknowledgement.
    """

    def __init__(self, unfinished: Iterable[Outstanding], progress: Callable[[int], int]) -> None:
        """Judge.

        Args:
            unfinished: the events without an acknowledgement, oldest first.
            progress: the progress of an event, by its sequence number.
        """
        self.failed: list[Connection] = []
        self.replay: dict[Connection, list[tuple[int, bytes]]] = {}
        self.closes: list[Connection] = []
        self.unopened: set[Connection] = set()
        self.unfinished: set[Connection] = set()
        failed: set[Connection] = set()
        for item in unfinished:
            connection = item.connection
            if connection is None:
                continue
            row = RULES[item.event]
            if row.after_death != TOLD_AGAIN:
                self.unfinished.add(connection)
            if item.event == events.HANDSHAKE and connection.stage != STAGE_HANDSHAKE:  # the answer is here
                continue
            waiting = progress(item.sequence) == WAITING
            if row.after_death == TOLD_AGAIN:
                if waiting and connection not in self.unopened:  # skip the close if no open was ever delivered
                    self.closes.append(connection)
            elif not waiting:
                if connection not in failed:
                    failed.add(connection)
                    self.failed.append(connection)
            else:
                if item.event == events.OPEN:
                    self.unopened.add(connection)
                again = self.replay.setdefault(connection, [])
                if row.after_death == SENT_AGAIN:
                    again.append((item.event, item.data))
        for connection in failed:
            self.replay.pop(connection, None)
