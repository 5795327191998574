"""A verdict on every message that is not the expected one: counted under one of ERROR_KINDS, and the run goes on.

A wrong reply stands for the reply to the oldest message that has none. A reply to a later message than that is right
at first: the messages it has overtaken are *late*, and each becomes an "order" error when its reply comes after all, a
"missing" one when it never does. A lost reply so costs its connection one of its ``depth`` places and is one error.
"""

from collections import Counter

from zwoole.bench.loadtest.connection import UNKNOWN, Connection, Stream
from zwoole.bench.loadtest.content import Contents
from zwoole.bench.loadtest.plan import STAMP_BYTES
from zwoole.bench.loadtest.tally import Tally

ERROR_KINDS = {
    "content": "a reply's bytes were those of no message it could answer",
    "order": "a reply came after the reply to a later message",
    "unexpected": "a reply came while none was due, or a second one to the same message",
    "missing": "a message was never answered",
}

_SENDER_DIGITS = 6
_SEARCHED = 4096  # how many messages one without a whole stamp is compared with


class Judge:
    """Counts in ``errors``, by kind."""

    def __init__(self, tally: Tally) -> None:
        self.errors: Counter[str] = Counter()
        self._tally = tally
        self._contents: Contents = tally.contents

    def message(self, connection: Connection, payload: bytearray) -> None:
        """Judge a message whose opcode and length are right."""
        found = self._find(connection, payload)
        if found is None:
            self.wrong(connection, "content")
            return
        stream, sequence = found
        if sequence in stream.late:
            stream.late.remove(sequence)
            connection.settle(stream)
            self.errors["order"] += 1
        elif sequence < stream.expected:
            self.errors["unexpected"] += 1
        else:
            stream.late.update(range(stream.expected, sequence))
            stream.expected = sequence
            connection.count_right(stream, len(payload))

    def wrong(self, connection: Connection, kind: str) -> None:
        """Count something wrong in the place of the reply that was due first."""
        if not connection.streams:
            self.errors[kind] += 1
            return
        stream = next((stream for stream in connection.streams if stream.sent == UNKNOWN or stream.due()), None)
        if stream is None:
            self.errors["unexpected"] += 1
            return
        self.errors[kind] += 1
        if stream.late:
            stream.late.remove(min(stream.late))
        else:
            stream.expected += 1
        connection.settle(stream)

    def give_up(self, connection: Connection) -> None:
        """Count the replies still due, and the messages that were due to be sent and could not be, as missing."""
        for stream in connection.streams:
            due = stream.due()
            self._tally.unanswered -= due
            self._add("missing", due)
            if stream.sent != UNKNOWN:
                stream.expected = stream.sent
            stream.late.clear()
        if connection.own and self._tally.gap_ps:
            self._add("missing", connection.quota - connection.own.sent)
            connection.quota = connection.own.sent

    def _add(self, kind: str, count: int) -> None:
        if count:
            self.errors[kind] += count

    def _find(self, connection: Connection, payload: bytearray) -> tuple[Stream, int] | None:
        """Return stream and sequence number of the message that a payload is, if it is one that was sent."""
        if len(payload) < STAMP_BYTES:
            return self._search(connection.streams[0], payload) if connection.streams else None
        try:
            number = int(payload[:_SENDER_DIGITS], 16)
            sequence = int(payload[_SENDER_DIGITS:STAMP_BYTES], 16)
        except ValueError:
            return None
        for stream in connection.streams:
            if stream.number == number and sequence < stream.sent and self._is(stream, sequence, payload):
                return stream, sequence
        return None

    def _search(self, stream: Stream, payload: bytearray) -> tuple[Stream, int] | None:
        """Do the same where the stamp is cut off: look among the next messages, the late ones, and the last ones."""
        following = range(stream.expected, min(stream.sent, stream.expected + _SEARCHED))
        answered = range(max(0, stream.expected - 2 * max(self._tally.depth, 1)), stream.expected)
        for sequence in (*following, *sorted(stream.late), *reversed(answered)):
            if self._is(stream, sequence, payload):
                return stream, sequence
        return None

    def _is(self, stream: Stream, sequence: int, payload: bytearray) -> bool:
        content = self._contents.of(stream.number, sequence)
        return content.size == len(payload) and content.is_payload(payload, 0, stream.number, sequence)
