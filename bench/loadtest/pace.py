"""The schedule of an open loop's messages.

Types come from pace.pxd. Without a compiler the same source runs uncompiled.
"""

from zwoole.bench.loadtest.connection import Connection


class Pace:
    """The schedule of an open loop: message k of a run is due at ``start_ns + k / rate``; the connections take turns.

    No message is due at ``end_ns`` or later. A process has ``connections`` out of all ``turn`` connections, from number
    ``first`` on, so all processes of a run follow one schedule without communicating.
    """

    __slots__ = (
        "_connections",
        "_end_ns",
        "_first",
        "_next",
        "_round",
        "_spacing_ps",
        "_start_ns",
        "_turn",
        "next_due_ns",
    )

    def __init__(
        self, connections: "list[Connection]", first: int, turn: int, spacing_ps: int, start_ns: int, end_ns: int
    ) -> None:
        self._connections = connections
        self._end_ns = end_ns
        self._first = first
        self._turn = turn
        self._spacing_ps = spacing_ps  # picoseconds between two messages of the run
        self._start_ns = start_ns
        self._next = 0  # index of the connection whose message is due next
        self._round = 0  # sequence number of that message
        for index, connection in enumerate(connections):
            connection.first_due_ns = start_ns + (first + index) * spacing_ps // 1000
        self.next_due_ns = start_ns + first * spacing_ps // 1000

    def release(self, now_ns: int) -> "list[Connection]":
        """Raise the quotas for the messages that are due; return the connections that have some to send."""
        released: list[Connection] = []
        while self.next_due_ns <= now_ns and self.next_due_ns < self._end_ns:
            connection: Connection = self._connections[self._next]
            if not connection.gone:
                connection.quota = self._round + 1
                if len(released) < len(self._connections):
                    released.append(connection)
            self._next += 1
            if self._next == len(self._connections):
                self._next = 0
                self._round += 1
            place = self._round * self._turn + self._first + self._next
            self.next_due_ns = self._start_ns + place * self._spacing_ps // 1000
        return released
