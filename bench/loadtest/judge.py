"""Classifies every message that is not the expected one, and counts it under one of ERROR_KINDS; the run goes on.

A wrong reply counts as the reply to the oldest unanswered message. A reply to a later message counts as correct at
first: the messages it has overtaken become *late*. Each late message becomes an "order" error if its reply arrives
after all, and a "missing" error if it never does. So a lost reply is one error and occupies one of its connection's
``depth`` places.
"""

from collections import Counter

from zwoole.bench.loadtest.connection import UNKNOWN, Connection, Stream
from zwoole.bench.loadtest.content import Contents
from zwoole.bench.loadtest.plan import STAMP_BYTES
from zwoole.bench.loadtest.tally import Tally

ERROR_KINDS = {
    "content": "a reply did not match any message that it could answer",
    "order": "a reply came after the reply to a later message",
    "unexpected": "a reply came while none was due, or a second one to the same message",
    "missing": "a message was never answered",
}

_SENDER_DIGITS = 6
_SEARCHED = 4096  # messages that a payload without a whole stamp is compared with


class Judge:
    """Counts errors by kind in ``errors``."""

    def __init__(self, tally: Tally) -> None:
        self.errors: Counter[str] = Counter()
        self._tally = tally
        self._contents: Contents = tally.contents

    def message(self, connection: Connection, payload: bytearray) -> None:
        """Classify a message whose opcode and length are correct."""
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
        """Count an error that takes the place of the next expected reply."""
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
        """Count outstanding replies as missing, and messages that were due but could not be sent."""
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
        """Return the stream and the sequence number of the sent message that a payload matches; None if there is
        none.
        """
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
        """Do the same for a payload with a cut stamp: search the next messages, the late ones, and the last
        answered ones.
        """
        following = range(stream.expected, min(stream.sent, stream.expected + _SEARCHED))
        answered = range(max(0, stream.expected - 2 * max(self._tally.depth, 1)), stream.expected)
        for sequence in (*following, *sorted(stream.late), *reversed(answered)):
            if self._is(stream, sequence, payload):
                return stream, sequence
        return None

    def _is(self, stream: Stream, sequence: int, payload: bytearray) -> bool:
        content = self._contents.of(stream.number, sequence)
        return content.size == len(payload) and content.is_payload(payload, 0, stream.number, sequence)
