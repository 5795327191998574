"""The connections of one load process: the epoll loop around loadcore.py, and a verdict on everything unusual.

``LoadClient.run()`` keeps ``depth`` messages outstanding on each connection until the time or the messages are over
and waits for the replies still due; ``close()`` runs the closing handshakes. Right replies never get here, so this
module may be slow. Whatever else comes is counted under one of ERROR_KINDS, and the run goes on.

A wrong reply stands for the reply to the oldest message that has none. A reply to a later message than that is right
at first: the messages it has overtaken are *late*, and each becomes an "order" error when its reply comes after all, a
"missing" one when it never does. A lost reply so costs its connection one of its ``depth`` places and is one error.
"""

import select
import socket
from collections import Counter
from collections.abc import Sequence

from zwoole.bench.loadcore import (
    DONE,
    FIN,
    GONE,
    MASKED,
    ODD_FRAME,
    Connection,
    Content,
    Tally,
    clock_ns,
    frame_header,
)

ERROR_KINDS = {
    "header": "a reply's frame header was masked, fragmented, reserved or not of minimal length",
    "opcode": "a reply had another opcode than its message",
    "length": "a reply had another length than its message",
    "content": "a reply's bytes were those of no message it could answer",
    "order": "a reply came after the reply to a later message",
    "unexpected": "a reply came while none was due, or a second one to the same message",
    "missing": "a message was never answered",
    "closed": "the server ended a connection during the run",
    "close": "a closing handshake was not completed in time",
}

CLOSE_TIMEOUT_S = 2.0

_OP_CLOSE = 0x8
_OP_PING = 0x9
_OP_PONG = 0xA
_CLOSE_NORMAL = (1000).to_bytes(2, "big")
_UNLIMITED = 1 << 40
_POLL_S = 0.05  # how late a deadline may be noticed when nothing arrives


class LoadClient:
    """The connections of one process; ``tally`` has the counts of right replies, ``errors`` those of ERROR_KINDS."""

    def __init__(
        self,
        opened: Sequence[tuple[socket.socket, bytes]],
        content: Content,
        depth: int,
        first_number: int = 0,
        patience_s: float = 5.0,
    ) -> None:
        """Take over nonblocking sockets whose handshake is done, each with what it received after the response.

        Args:
            opened: the sockets, which ``close()`` closes.
            content: what to send.
            depth: messages outstanding per connection, at least 1.
            first_number: the number of the first connection, so that numbers are unique among processes.
            patience_s: how long no reply may come while some are due before those are given up as missing.
        """
        self.tally = Tally(content, depth)
        self.errors: Counter[str] = Counter()
        self._patience_ns = int(patience_s * 1e9)
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}
        for number, (sock, received) in enumerate(opened, first_number):
            self._by_fd[sock.fileno()] = Connection(self.tally, sock, number, received)
            self._epoll.register(sock, select.EPOLLIN)

    def run(self, opens_ns: int, closes_ns: int, messages: int = 0) -> None:
        """Send until ``closes_ns``, or ``messages`` on each connection when not 0, then wait for what is still due.

        All replies are checked; right ones that come from ``opens_ns`` until ``closes_ns`` are counted and timed
        (both in nanoseconds of clock_ns()).
        """
        tally = self.tally
        tally.opens_ns = opens_ns
        tally.closes_ns = closes_ns
        tally.limit = messages or _UNLIMITED
        now_ns = tally.now_ns = tally.last_reply_ns = clock_ns()
        for connection in list(self._by_fd.values()):
            self._attend(connection, connection.proceed())
        while tally.unanswered and now_ns - tally.last_reply_ns < self._patience_ns:
            self._turn()
            now_ns = clock_ns()
            if now_ns >= closes_ns:
                tally.limit = 0
        for connection in self._by_fd.values():
            self._give_up(connection)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send each connection a close frame with 1000, wait until the server has closed it, and let go of all."""
        self.tally.limit = 0
        for connection in list(self._by_fd.values()):
            self._queue_control(connection, _OP_CLOSE, _CLOSE_NORMAL)
            connection.close_sent = True
            self._attend(connection, connection.send())
        deadline_ns = clock_ns() + int(timeout_s * 1e9)
        while self._by_fd and clock_ns() < deadline_ns:
            self._turn()
        for connection in list(self._by_fd.values()):
            connection.close_received = False  # a close frame without the end of the stream is half a farewell
            self._end(connection)
        self._epoll.close()

    # The loop.

    def _turn(self) -> None:
        for fd, events in self._epoll.poll(_POLL_S):
            connection = self._by_fd[fd]
            result = connection.send() if events == select.EPOLLOUT else connection.serve()
            if result != DONE:
                self._attend(connection, result)

    def _attend(self, connection: Connection, result: int) -> None:
        """Do what serve(), proceed() or send() left undone."""
        while result == ODD_FRAME:
            used = self._judge(connection)
            if connection.sock.fileno() < 0:
                return
            connection.inbox_start += used
            result = connection.proceed() if used else connection.send()
        if result == GONE:
            self._end(connection)
        elif result != DONE:
            connection.writing = not connection.writing
            self._epoll.modify(connection.fd, select.EPOLLIN | (select.EPOLLOUT if connection.writing else 0))

    # Verdicts.

    def _judge(self, connection: Connection) -> int:
        """Handle the frame at ``inbox_start``; return how many bytes it takes, or 0 when more have to come first."""
        received = bytes(connection.inbox[connection.inbox_start : connection.inbox_end])
        if len(received) < 2:
            return 0
        opcode = received[0] & 0x0F
        masked = received[1] & MASKED
        length = received[1] & 0x7F
        header_bytes = {126: 4, 127: 10}.get(length, 2)
        if len(received) < header_bytes:
            return 0
        if length >= 126:
            length = int.from_bytes(received[2:header_bytes], "big")
        if length >= 1 << 63:
            self._count_wrong(connection, "header")
            self._end(connection)
            return 0
        content = self.tally.content
        well_formed = received[0] == FIN | opcode and received[:header_bytes] == frame_header(opcode, length, 0)
        if well_formed and opcode >= _OP_CLOSE and length <= 125:
            return self._judge_control(connection, opcode, received[header_bytes:], length)
        if well_formed and (opcode, length) == (content.opcode, content.size):
            return self._judge_misplaced(connection, header_bytes, len(received))
        if not well_formed or opcode >= _OP_CLOSE:
            self._count_wrong(connection, "header")
        else:
            self._count_wrong(connection, "length" if opcode == content.opcode else "opcode")
        total = header_bytes + (4 if masked else 0) + length
        used = min(total, len(received))
        connection.skip = total - used
        return used

    def _judge_misplaced(self, connection: Connection, header_bytes: int, available: int) -> int:
        """Handle a reply whose header is right and whose content is not that of the expected message."""
        if available < header_bytes + self.tally.content.size:
            return 0
        sequence = self._find_message(connection, connection.inbox_start + header_bytes)
        if sequence is None:
            self._count_wrong(connection, "content")
        elif sequence >= connection.expected:
            connection.late.update(range(connection.expected, sequence))
            connection.expected = sequence
            connection.count_right()
        elif sequence in connection.late:
            connection.late.remove(sequence)
            connection.settle()
            self.errors["order"] += 1
        else:
            self.errors["unexpected"] += 1
        return header_bytes + self.tally.content.size

    def _find_message(self, connection: Connection, at: int) -> int | None:
        """Return the sequence number of the message whose payload is at ``inbox[at:]``, if it was sent lately."""
        expected = connection.expected
        answered = range(max(0, expected - 2 * self.tally.depth), expected)
        candidates: list[int] = [*range(expected, connection.sent), *sorted(connection.late), *reversed(answered)]
        for sequence in candidates:
            if self.tally.content.is_payload(connection.inbox, at, connection.number, sequence):
                return sequence
        return None

    def _judge_control(self, connection: Connection, opcode: int, received: bytes, length: int) -> int:
        if len(received) < length:
            return 0
        if opcode == _OP_PING:
            self._queue_control(connection, _OP_PONG, received[:length])
        elif opcode == _OP_CLOSE:
            connection.close_received = True
            if not connection.close_sent:
                self._end(connection)
        return 2 + length

    def _count_wrong(self, connection: Connection, kind: str) -> None:
        if not connection.unanswered:
            self.errors["unexpected"] += 1
            return
        self.errors[kind] += 1
        if connection.late:
            connection.late.remove(min(connection.late))
        else:
            connection.expected += 1
        connection.settle()

    def _give_up(self, connection: Connection) -> None:
        """Count the replies still due as missing."""
        if connection.unanswered:
            self.errors["missing"] += connection.unanswered
        self.tally.unanswered -= connection.unanswered
        connection.unanswered = 0
        connection.expected = connection.sent
        connection.late.clear()

    # Control frames and the end.

    def _queue_control(self, connection: Connection, opcode: int, payload: bytes) -> None:
        key = b"\x5a\xa5\x3c\xc3"
        masked = bytes(byte ^ key[index & 3] for index, byte in enumerate(payload))
        frame = frame_header(opcode, len(payload), MASKED) + key + masked
        if connection.outbox_start == connection.outbox_end:
            connection.outbox_start = connection.outbox_end = 0
        end = connection.outbox_end + len(frame)
        connection.outbox[connection.outbox_end : end] = frame  # grows the outbox where it has no room left
        connection.outbox_end = end

    def _end(self, connection: Connection) -> None:
        """Let go of a connection; unless a closing handshake came before, that is an error."""
        if not connection.close_sent:
            self.errors["closed"] += 1
        elif not connection.close_received:
            self.errors["close"] += 1
        self._give_up(connection)
        self._epoll.unregister(connection.fd)
        del self._by_fd[connection.fd]
        connection.sock.close()
