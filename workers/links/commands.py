"""What a callback can ask the masters to do: push, ping, broadcast, disconnect, and look at the connection table.

Each command has two halves. The first is what the app calls, in any thread: it checks the arguments (arguments.py) and,
outside the worker's own thread, puts the second half into the mailbox (mailbox.py). The second half writes to the
links. It runs in the own thread, or in the flusher's thread while a callback goes on for long, with the links held.
What happens if too much is on its way to a master is in masters.py.
"""

from __future__ import annotations

import msgpack

from zwoole.shared.answers import Accept, Answer
from zwoole.shared.errors import QueueFull
from zwoole.shared.memory.connection_table import ESTABLISHED, FREE
from zwoole.shared.request import MAX_STATE_BYTES
from zwoole.shared.settings import MAX_WORKERS
from zwoole.shared.websocket.close_codes import check_close
from zwoole.shared.websocket.frames import MAX_CONTROL_PAYLOAD, OP_TEXT
from zwoole.shared.wire.events import ACCEPT, BROADCAST, DISCONNECT, FAIL, PING, PUSH, REFUSE, SEND_MESSAGE, SET_STATE
from zwoole.workers.links.arguments import check_fd, check_int, encode, pack
from zwoole.workers.links.master_link import FLUSH_BYTES, MasterLink
from zwoole.workers.links.masters import Masters

PRUNE_ENDED = 1024


class Commands:
    """The commands of one worker.

    Attributes:
        masters: the links that the commands go over.
        ended: fds of the connections that this worker has ended: their further messages are not run.
    """

    __slots__ = ("_flusher", "_pipe_queue_bytes", "_prune_at", "_reactor_num", "ended", "masters")

    def __init__(self, masters: Masters, pipe_queue_bytes: int) -> None:
        """Prepare the commands.

        Args:
            masters: the links that they go over.
            pipe_queue_bytes: most bytes of messages that may wait for one worker.
        """
        self.masters = masters
        self.ended: set[int] = set()
        self._flusher = masters.flusher
        self._pipe_queue_bytes = pipe_queue_bytes
        self._prune_at = PRUNE_ENDED
        self._reactor_num = len(masters.links)

    def push(self, fd: int, data: str | bytes | bytearray | memoryview, opcode: int | None = None) -> bool:
        """See Server.push."""
        number = check_fd(fd)
        flusher = self._flusher
        if not flusher.is_own_thread():
            return self._push_from_thread(number, data, opcode)
        before = flusher.enter()
        try:
            if flusher.has_commands:  # of threads, which this thread may have waited for
                self.masters.catch_up()
            taken = self._push(number, data, opcode)
        finally:
            flusher.leave(before)
        if taken:
            self.masters.note()
        return taken

    def _push(self, fd: int, data: str | bytes | bytearray | memoryview, opcode: int | None) -> bool:
        link = self.masters.link_of(fd)
        if link is None or link.table.state(fd) != ESTABLISHED or self.has_ended(fd):
            return False
        if link.sent + link.writer.size - link.credit > link.up_window:
            self.masters.relieve(link)
            if not link.ready or link.table.state(fd) != ESTABLISHED:
                return False
        # A full batch leaves while the callback runs, and little is copied when it grows.
        if link.writer.size >= FLUSH_BYTES:
            link.send_waiting()
        if opcode is None:
            if type(data) is str:
                text = data  # a variable of its own, so that the compiled call is one C call
                link.writer.add_str(PUSH, fd, text)
            elif type(data) is bytes:
                link.writer.add_bytes(PUSH, fd, data)
            else:
                self._add(link, PUSH, fd, data, None)
        else:
            self._add(link, PUSH, fd, data, opcode)
        return True

    def ping(self, fd: int, data: str | bytes | bytearray | memoryview = b"") -> bool:
        """See Server.ping."""
        fd = check_fd(fd)
        payload, _ = encode(data, None)
        if len(payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"a ping carries at most {MAX_CONTROL_PAYLOAD} bytes, not {len(payload)}")
        if not self._flusher.is_own_thread():
            if not self.is_established(fd):
                return False
            self.masters.hand_over(lambda: self._ping(fd, payload), len(payload))
            return True
        return bool(self.masters.run(lambda: self._ping(fd, payload)))

    def _ping(self, fd: int, payload: bytes) -> bool:
        link = self._link_if_open(fd)
        if link is None:
            return False
        if link.in_flight() > link.up_window:
            self.masters.relieve(link)
            if not link.ready or link.table.state(fd) != ESTABLISHED:
                return False
        link.writer.add_bytes(PING, fd, payload)
        return True

    def broadcast(self, data: str | bytes | bytearray | memoryview, opcode: int | None = None) -> None:
        """See Server.broadcast."""
        body, kind = encode(data, opcode)  # here: the caller gets the error, and a buffer may change later
        if not self._flusher.is_own_thread():
            self.masters.hand_over(lambda: self._broadcast(body, kind), len(body))
        else:
            self.masters.run(lambda: self._broadcast(body, kind))

    def _broadcast(self, body: bytes, opcode: int) -> None:
        for reactor in range(self._reactor_num):
            link = self.masters.ready(reactor)
            if link is not None:
                if link.in_flight() > link.up_window:
                    self.masters.relieve(link)
                if link.writer.size >= FLUSH_BYTES:
                    link.send_waiting()
                if opcode == OP_TEXT:
                    link.writer.add_text(BROADCAST, 0, body)
                else:
                    link.writer.add_bytes(BROADCAST, 0, body)

    def disconnect(self, fd: int, code: int = 1000, reason: str = "") -> bool:
        """See Server.disconnect."""
        fd = check_fd(fd)
        check_close(code, reason)
        if not self._flusher.is_own_thread():
            self.masters.hand_over(lambda: self._end(DISCONNECT, fd, code, reason), 0)
            return self.is_established(fd)
        return bool(self.masters.run(lambda: self._end(DISCONNECT, fd, code, reason)))

    def fail(self, fd: int, code: int, reason: str) -> None:
        """Close a connection because its callback failed."""
        self.masters.run(lambda: self._end(FAIL, fd, code, reason))

    def answer_handshake(self, fd: int, answer: Answer) -> None:
        """Tell the master whether a client may connect."""
        self.masters.run(lambda: self._answer_handshake(fd, answer))

    def _answer_handshake(self, fd: int, answer: Answer) -> None:
        link = self.masters.link_of(fd)
        if link is not None:
            link.writer.add_bytes(ACCEPT if isinstance(answer, Accept) else REFUSE, fd, answer.pack())

    def set_state(self, fd: int, value: object) -> bool:
        """See Server.set_state."""
        fd = check_fd(fd)
        packed = pack("a connection's state", value)
        if len(packed) > MAX_STATE_BYTES:
            raise ValueError(f"a connection's state has at most {MAX_STATE_BYTES} bytes packed, not {len(packed)}")
        if not self._flusher.is_own_thread():
            self.masters.hand_over(lambda: self._set_state(fd, packed), len(packed))
            return self.exists(fd)
        return bool(self.masters.run(lambda: self._set_state(fd, packed)))

    def _set_state(self, fd: int, packed: bytes) -> bool:
        link = self.masters.link_of(fd)
        if link is None or link.table.state(fd) == FREE:
            return False
        if link.in_flight() > link.up_window:
            self.masters.relieve(link)
        link.writer.add_bytes(SET_STATE, fd, packed)
        return True

    def send_message(self, message: object, worker_id: int) -> None:
        """See Server.send_message."""
        check_int("worker_id", worker_id)
        packed = pack("a message to a worker", message)
        if len(packed) > self._pipe_queue_bytes:
            raise ValueError(
                f"a message to a worker has at most {self._pipe_queue_bytes} bytes packed (pipe_queue_bytes)"
            )
        link = self.masters.any_link()
        if link is None:
            raise QueueFull("there is no master that could pass the message on")
        waiting = link.table.waiting(worker_id) if 0 <= worker_id < MAX_WORKERS else -1
        if waiting < 0:
            raise ValueError(f"there is no worker {worker_id!r}")
        if waiting + len(packed) > self._pipe_queue_bytes or link.in_flight() > link.up_window:
            raise QueueFull(f"{waiting} bytes are queued for worker {worker_id}")
        if not self._flusher.is_own_thread():
            self.masters.hand_over(lambda: link.writer.add_bytes(SEND_MESSAGE, worker_id, packed), len(packed))
        else:
            self.masters.run(lambda: link.writer.add_bytes(SEND_MESSAGE, worker_id, packed))

    def has_ended(self, fd: int) -> bool:
        """Tell whether a callback of this worker has closed a connection: its further messages are not run."""
        return bool(self.ended) and fd in self.ended  # mostly the set is empty, and then no object is made of the fd

    def _link_if_open(self, fd: int) -> MasterLink | None:
        """Return the link to a connection's master; None if the connection is not open, or this worker has ended it."""
        link = self.masters.link_of(fd)
        if link is None or link.table.state(fd) != ESTABLISHED or self.has_ended(fd):
            return None
        return link

    def exists(self, fd: int) -> bool:
        """See Server.exists."""
        fd = check_fd(fd)
        link = self.masters.link_of(fd)
        return link is not None and link.table.state(fd) != FREE

    def is_established(self, fd: int) -> bool:
        """See Server.is_established."""
        fd = check_fd(fd)
        link = self.masters.link_of(fd)
        return link is not None and link.table.state(fd) == ESTABLISHED

    def buffered_amount(self, fd: int) -> int:
        """See Server.buffered_amount."""
        fd = check_fd(fd)
        link = self.masters.link_of(fd)
        return 0 if link is None else link.table.queued(fd)

    def _add(self, link: MasterLink, kind: int, fd: int, data: object, opcode: int | None) -> None:
        body, opcode = encode(data, opcode)
        if opcode == OP_TEXT:
            link.writer.add_text(kind, fd, body)
        else:
            link.writer.add_bytes(kind, fd, body)

    def _end(self, kind: int, fd: int, code: int, reason: str) -> bool:
        link = self._link_if_open(fd)
        if link is None:
            return False
        self.ended.add(fd)
        if len(self.ended) >= self._prune_at:  # no event tells this worker when connections of other workers are gone
            self.ended = {fd for fd in self.ended if self.exists(fd)}
            self._prune_at = 2 * len(self.ended) + PRUNE_ENDED
        link.writer.add_bytes(kind, fd, msgpack.packb([code, reason]))
        return True

    def _push_from_thread(self, fd: int, data: str | bytes | bytearray | memoryview, opcode: int | None) -> bool:
        body, opcode = encode(data, opcode)
        if not self.is_established(fd):
            return False
        self.masters.hand_over(lambda: self._push(fd, body, opcode), len(body))
        return True
