"""The verdict: what happens to each event that a dead worker had not finished.

It is given only when the process has ended and everything that it sent has been read: an event without an
acknowledgement will never get one. The progress map shows which events the process had begun:

- The event had begun. Its callback may have run completely or in part, and what it pushed may be lost. It is never run
  again: the connection is closed with 1011. The same holds if it had finished and the acknowledgement had not left.
- The event was waiting. Nothing of it has happened; it is sent again, in order, to the next incarnation.
- A close that had begun is not repeated; a close that was waiting is sent to the next incarnation.
- A coroutine handler is lost with its process; its connection is closed with 1012, unless the handler had not begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import STAGE_HANDSHAKE
from zwoole.reactor.core.window import Outstanding
from zwoole.shared.memory.progress_map import WAITING
from zwoole.shared.wire import events
from zwoole.shared.wire.events import BY_KIND, SENT_AGAIN, TOLD_AGAIN


class Verdict:
    """The verdict on the unfinished events of one dead incarnation.

    Attributes:
        failed: the connections in whose callbacks the process died, in order, once each.
        replay: by connection, the (event, data) pairs to be sent again, in order.
        closes: the connections whose `close` had not begun.
        unopened: the connections whose `open` had not begun.
        unfinished: the connections with an unfinished event other than a close.
    """

    def __init__(self, unfinished: Iterable[Outstanding], progress: Callable[[int], int]) -> None:
        """Judge.

        Args:
            unfinished: the events without an acknowledgement, the oldest first.
            progress: returns the progress of an event, by its sequence number (shared/memory/progress_map.py).
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
            row = BY_KIND[item.event]
            if row.after_death != TOLD_AGAIN:
                self.unfinished.add(connection)
            if item.event == events.HANDSHAKE and connection.stage != STAGE_HANDSHAKE:  # the worker had answered
                continue
            waiting = progress(item.sequence) == WAITING
            if row.after_death == TOLD_AGAIN:
                if waiting and connection not in self.unopened:  # skip the close if open was never delivered
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
