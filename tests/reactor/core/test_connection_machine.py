"""A whole connection, from its HTTP head to its last frame, with bytes split anywhere and other events in any order.

The model ignores bytes: the worker receives the messages that the client sent before its end. The client receives a
stream of complete frames, with a pong for every ping and an answer for every message, and nothing after a close frame.
"""

from __future__ import annotations

import msgpack
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.client_frames import HEAD, client_frame, server_frames
from tests.reactor.reactor_parts import Event, Reactor
from zwoole.reactor.core.connection_stages import STAGE_GONE
from zwoole.shared.websocket.frames import OP_BINARY, OP_CLOSE, OP_CONTINUATION, OP_PING, OP_PONG, OP_TEXT
from zwoole.shared.wire.events import ACK, CLOSE, DISCONNECT, MESSAGE, OPEN, PUSH

VIOLATIONS = {
    client_frame(OP_TEXT, b"a", key=None): 1002,
    client_frame(OP_TEXT, b"a", reserved=0x40): 1002,
    client_frame(0x3): 1002,
    client_frame(OP_PING, b"a", fin=False): 1002,
    client_frame(OP_PING, bytes(126)): 1002,
    client_frame(OP_BINARY, b"a" * 100, length_bytes=8): 1002,
    client_frame(OP_CLOSE, b"\x03\xed"): 1002,  # 1005 is never sent
    client_frame(OP_BINARY, length=1 << 30): 1009,
}
PAYLOADS = st.one_of(st.binary(max_size=40), st.sampled_from([bytes(125), bytes(126), bytes(3000), bytes(70_000)]))


class ConnectionMachine(RuleBasedStateMachine):
    """One client, and one worker that answers every message with its payload."""

    def __init__(self) -> None:
        super().__init__()
        self.reactor = Reactor(
            ping_interval=0.0,
            connection_window_events=2,
            parked_messages=2,
            package_max_length=100_000,
            control_frames_per_second=0,
        )
        self.worker = self.reactor.worker()
        self.client = self.reactor.client()
        self.outbox = bytearray(HEAD)  # what the client has not sent yet
        self.received = b""
        self.sent: list[bytes] = []  # complete messages, in order
        self.pings: list[bytes] = []
        self.parts: list[bytes] = []  # of the unfinished message
        self.ended_with: int | None = None  # the code of the client's close frame, or of its violation
        self.disconnected = False
        self.pushed: list[bytes] = []
        self.unanswered: list[Event] = []

    @initialize()
    def begin(self) -> None:
        self.fd = self.client.connection.fd

    # What the client is going to send.

    @precondition(lambda self: self.ended_with is None and not self.parts)
    @rule(payload=PAYLOADS)
    def write_message(self, payload: bytes) -> None:
        self.outbox += client_frame(OP_BINARY, payload)
        self.sent.append(payload)

    @precondition(lambda self: self.ended_with is None)
    @rule(payload=PAYLOADS, last=st.booleans())
    def write_fragment(self, payload: bytes, last: bool) -> None:
        if sum(map(len, self.parts)) + len(payload) > 100_000:
            payload = b""
        self.outbox += client_frame(OP_CONTINUATION if self.parts else OP_BINARY, payload, fin=last)
        self.parts.append(payload)
        if last:
            self.sent.append(b"".join(self.parts))
            self.parts = []

    @precondition(lambda self: self.ended_with is None)
    @rule(payload=st.binary(max_size=125))
    def write_ping(self, payload: bytes) -> None:
        self.outbox += client_frame(OP_PING, payload)
        self.pings.append(payload)

    @precondition(lambda self: self.ended_with is None)
    @rule(payload=st.binary(max_size=125))
    def write_pong(self, payload: bytes) -> None:
        self.outbox += client_frame(OP_PONG, payload)

    @precondition(lambda self: self.ended_with is None)
    @rule(code=st.sampled_from([1000, 1001, 3000, 4999]), reason=st.text(max_size=20))
    def write_close(self, code: int, reason: str) -> None:
        self.outbox += client_frame(OP_CLOSE, code.to_bytes(2, "big") + reason.encode())
        self.ended_with = code

    @precondition(lambda self: self.ended_with is None)
    @rule(violation=st.sampled_from(sorted(VIOLATIONS)))
    def write_violation(self, violation: bytes) -> None:
        self.outbox += violation
        self.ended_with = VIOLATIONS[violation]

    @precondition(lambda self: self.ended_with is not None)
    @rule(rest=st.binary(min_size=1, max_size=50))
    def write_behind_the_end(self, rest: bytes) -> None:
        self.outbox += rest

    # What happens on the way.

    @rule(size=st.integers(1, 200))
    def deliver(self, size: int) -> None:
        self._deliver(size)

    @rule()
    def deliver_all(self) -> None:
        for _ in range(100):
            if not self.outbox:
                break
            self._deliver(len(self.outbox))
            self.work()

    @rule()
    def read(self) -> None:
        self.received += self.client.read()

    @rule()
    def take(self) -> None:
        self.unanswered += self.worker.take()

    @rule(count=st.integers(1, 5))
    def answer(self, count: int) -> None:
        for event in self.unanswered[:count]:
            if event.kind == MESSAGE:
                self.worker.writer.add_bytes(PUSH, event.fd, event.body)
            self.worker.writer.add_integer(ACK, event.sequence, 1)
        del self.unanswered[:count]
        self.worker.send()
        self.reactor.turn()

    @precondition(lambda self: self.knows())
    @rule(payload=st.binary(max_size=300))
    def push(self, payload: bytes) -> None:
        self.worker.writer.add_text(PUSH, self.fd, payload.hex().encode())
        self.pushed.append(payload.hex().encode())
        self.worker.send()
        self.reactor.turn()

    @precondition(lambda self: self.knows())
    @rule()
    def disconnect(self) -> None:
        self.worker.writer.add_bytes(DISCONNECT, self.fd, msgpack.packb([4000, "why"]))
        self.disconnected = True
        self.worker.send()
        self.reactor.turn()

    # The end.

    def teardown(self) -> None:
        try:
            self.deliver_all()
            self.work()
            self.judge()
            self.client.leave()
            self.serve()
            self.reactor.pass_time(30.0)
            self.serve()
            assert self.client.connection.stage == STAGE_GONE
            assert len(self.reactor.registry) == 0
            kinds = [event.kind for event in self.worker.received]
            assert kinds[0] == OPEN
            assert kinds[-1] == CLOSE
            assert kinds.count(CLOSE) == 1
        finally:
            self.reactor.__exit__(None, None, None)

    def judge(self) -> None:
        """Compare what both ends have received with the model."""
        heard = [event.body for event in self.worker.received if event.kind == MESSAGE]
        head, separator, stream = self.received.partition(b"\r\n\r\n")
        assert separator
        assert head.startswith(b"HTTP/1.1 101 ")
        read = server_frames(stream)
        assert not any(first & 0x70 for first, _ in read), "reserved bits are for extensions"
        frames = [(first & 0x0F, payload) for first, payload in read]
        answers = [payload for opcode, payload in frames if opcode == OP_BINARY]
        pongs = [payload for opcode, payload in frames if opcode == OP_PONG]
        pushed = [payload for opcode, payload in frames if opcode == OP_TEXT]
        codes = [int.from_bytes(payload[:2], "big") for opcode, payload in frames if opcode == OP_CLOSE]
        assert heard == self.sent[: len(heard)]
        assert answers == self.sent[: len(answers)]
        assert pongs == self.pings[: len(pongs)]
        assert pushed == self.pushed[: len(pushed)]
        assert [opcode for opcode, _ in frames[:-1]].count(OP_CLOSE) == 0, "nothing behind a close frame"
        if self.disconnected:
            assert codes in ([4000], [self.ended_with])
            return
        assert heard == answers == self.sent
        assert pongs == self.pings
        assert codes == ([] if self.ended_with is None else [self.ended_with])
        if self.ended_with is None:
            assert pushed == self.pushed

    def work(self) -> None:
        """Let the worker do everything, and the client read it."""
        self.read()
        while self.serve():
            self.read()
        self.read()

    def serve(self) -> bool:
        """Let the worker do what it can; return whether there was something."""
        self.take()
        if not self.unanswered:
            return False
        self.answer(len(self.unanswered))
        return True

    def knows(self) -> bool:
        """Return whether the worker knows the connection and has not been told of its end."""
        kinds = [event.kind for event in self.worker.received]
        return OPEN in kinds and CLOSE not in kinds

    def _deliver(self, size: int) -> int:
        """Send that many bytes, or as many as the kernel accepts; return the number."""
        try:
            sent = self.client.socket.send(self.outbox[:size])
        except BlockingIOError:
            sent = 0
        except OSError:  # the server has released it: nobody will read the rest
            sent = len(self.outbox)
        del self.outbox[:sent]
        self.reactor.turn()
        return sent


ConnectionMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestConnection = ConnectionMachine.TestCase
