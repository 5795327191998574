"""The model of the delivery contract, and workers that take one step at a time when told to, until they die."""

from __future__ import annotations

from collections import defaultdict, deque

import msgpack

from tests.reactor.reactor_parts import Client, Event, Reactor
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.worker_link import Worker
from zwoole.shared.memory.progress_map import FINISHED, STARTED
from zwoole.shared.wire.events import ACK, ADOPT, CLOSE, DRAIN, FAIL, MESSAGE, MOVED, OPEN, PUSH


class ConnectionModel:
    """What the contract promises for one connection: the model. Every `run_` is the start of a callback.

    Attributes:
        accepted: messages that the master has parsed, by number.
        ran: those whose callback has started, in order; none twice, none out of order.
        answers: what finished callbacks pushed and their worker sent.
        causes: events that may end the connection with a code of the server's.
    """

    def __init__(self, handler: bool) -> None:
        self.handler = handler
        self.accepted: list[str] = []
        self.ran: list[str] = []
        self.answers: list[str] = []
        self.opened = 0
        self.closed = 0
        self.causes: set[str] = set()

    def run_open(self) -> None:
        assert (self.opened, self.ran, self.closed) == (0, [], 0)
        self.opened = 1

    def run_message(self, text: str) -> None:
        assert self.opened == 1
        assert not self.closed
        assert text == self.accepted[len(self.ran)], "in order, none left out, none twice"
        self.ran.append(text)

    def run_adopt(self) -> None:
        assert self.opened == 1
        assert not self.closed

    def run_close(self) -> None:
        assert self.opened == 1, "nobody was told of its open"
        assert not self.closed, "once"
        self.closed = 1

    def allowed_codes(self) -> set[int]:
        codes = set()
        if self.causes & {"died", "failed"}:
            codes.add(1011)
        if self.handler and self.causes & {"died", "replaced"}:
            codes.add(1012)
        if "disconnected" in self.causes:
            codes.add(4000)
        if "unserved" in self.causes:
            codes.add(1013)
        if "left" in self.causes:
            codes.add(1000)
        return codes


class Actor:
    """A worker process: its events wait in a queue per connection, and run when a test says so."""

    def __init__(self, reactor: Reactor, of: Worker, models: dict[int, ConnectionModel]) -> None:
        self.worker = reactor.worker(of.id, ready=False)
        self.ended: set[int] = set()  # fds that one of its callbacks has closed: their further messages do not run
        self.link = self.worker.link
        self.lanes: dict[int, deque[Event]] = defaultdict(deque)
        self.begun: dict[int, Event] = {}
        self.heard: set[int] = set()  # fds it was told to open or adopt
        self.alive = True
        self.drained = False
        self._unsent: list[tuple[ConnectionModel, str]] = []
        self._reactor = reactor
        self._stories = models

    def hello(self) -> None:
        self.link.ready = True

    def take(self) -> None:
        """Receive what was sent down."""
        for event in self.worker.take():
            assert not self.drained, "drain names the point: no event follows it"
            if event.kind == MOVED:
                for fd in msgpack.unpackb(event.body):
                    assert fd not in self.begun
                    assert not self.lanes[fd], "it moves when nothing of it is unfinished"
                    self.heard.remove(fd)
                self._write_ack(event)
                continue
            if event.kind == DRAIN:
                self.drained = True
                self.heard.clear()  # others have its connections now
                self._write_ack(event)
                continue
            if event.kind in (OPEN, ADOPT):
                assert event.fd not in self.heard
                self.heard.add(event.fd)
            elif event.kind == MESSAGE:
                assert event.fd in self.heard, "a worker hears of a connection before its messages"
            self.lanes[event.fd].append(event)

    def idle_lanes(self) -> list[int]:
        return sorted(fd for fd, lane in self.lanes.items() if lane and fd not in self.begun)

    def begin(self, fd: int) -> None:
        """Start the callback of a queue's next event."""
        event = self.begun[fd] = self.lanes[fd].popleft()
        self.link.progress.mark(event.sequence, STARTED)
        model = self._stories[fd]
        if event.kind == OPEN:
            model.run_open()
        elif event.kind == ADOPT:
            model.run_adopt()
        elif event.kind == CLOSE:
            model.run_close()
            self.heard.discard(fd)
            self.ended.discard(fd)
        elif fd not in self.ended:
            model.run_message(event.body)

    def finish(self, fd: int, fails: bool = False) -> None:
        """Finish the running callback of a queue; its output waits for `flush`."""
        event = self.begun.pop(fd)
        model = self._stories[fd]
        if fails:
            model.causes.add("failed")
            self.disconnect(fd, FAIL, 1011)
        elif event.kind == MESSAGE and fd not in self.ended:
            self.worker.writer.add_text(PUSH, fd, event.body.encode())
            self._unsent.append((model, event.body))
        self.link.progress.mark(event.sequence, FINISHED)
        self._write_ack(event)

    def run_next(self, *fds: int) -> None:
        """Run the next callback of these connections to its end, and send the batch."""
        for fd in fds:
            self.begin(fd)
            self.finish(fd)
        self.flush()

    def disconnect(self, fd: int, kind: int, code: int) -> None:
        """Let a callback close a connection."""
        self.ended.add(fd)
        self.worker.writer.add_bytes(kind, fd, msgpack.packb([code, ""]))

    def flush(self) -> None:
        """Send the batch."""
        if self.worker.writer.events:
            for model, text in self._unsent:
                model.answers.append(text)
            self._unsent.clear()
            self.worker.send()

    def die(self) -> None:
        """End at once, and let the master notice and react."""
        self.alive = False
        for connection in self._reactor.registry.all():
            if connection.owner is self.link or connection.fd in self.begun:
                self._stories[connection.fd].causes.add("died")
        while self._reactor.outbound.receive(self.link):
            pass
        verdict = self._reactor.handover.judge(self.link)
        self._reactor.router.forget_queue(self.link)
        self._reactor.loop.remove_link(self.link)
        self.link.close()
        self._reactor.handover.bury(self.link, verdict)

    def _write_ack(self, event: Event) -> None:
        self.worker.writer.add_integer(ACK, event.sequence, 1)


class Peer:
    """A client, and what it has received."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.connection: Connection = client.connection
        self.received: list[str] = []
        self.code: int | None = None
        self.gone = False
        self._data = b""

    def leave(self) -> None:
        """Answer the server's close frame, and leave."""
        self.gone = True
        try:
            self.client.send_close(1000)
        except BrokenPipeError:  # the server has already left
            pass
        self.client.leave()

    def read(self) -> None:
        if self.gone:
            return
        self._data += self.client.read()
        while len(self._data) >= 2:
            opcode, size = self._data[0] & 0xF, self._data[1]
            if len(self._data) < 2 + size:
                return
            payload, self._data = self._data[2 : 2 + size], self._data[2 + size :]
            if opcode == 8:
                self.code = int.from_bytes(payload[:2], "big")
            else:
                assert self.code is None, "nothing follows a close frame"
                self.received.append(payload.decode())
