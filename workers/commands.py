"""What a callback can ask the master to do: push, ping, broadcast, disconnect, and look at the connection table.

Backpressure: what was pushed and not yet taken by the master is counted in bytes. Past the mark (up_window_bytes) a
`def` callback waits inside `push`, reading its socket meanwhile into a list that the down window bounds, because the
credit it waits for may lie behind messages it has not read. A coroutine never waits inside `push`: no further event is
started, `drain` waits, and past four times the mark `push` raises BackpressureError. Another thread waits inside `push`
until enough of what it wants done is taken (mailbox.py).

Each command has two halves. The first is what the app calls, in any thread: it checks the arguments and, outside the
worker's own thread, puts the second half into the mailbox. The second half writes to the links. It runs in the own
thread, or in the flusher's while a callback goes on for long (flusher.py), with the links held.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from time import monotonic, sleep
from typing import NoReturn

import msgpack

from zwoole.shared.answers import Accept, Answer
from zwoole.shared.errors import BackpressureError, NotServing, QueueFull
from zwoole.shared.ids import MAX_FD
from zwoole.shared.process.forks import refuse_if_forked
from zwoole.shared.request import MAX_STATE_BYTES
from zwoole.shared.websocket.close_codes import MAX_REASON_BYTES, is_sendable
from zwoole.shared.websocket.frames import MAX_CONTROL_PAYLOAD, OP_BINARY, OP_TEXT
from zwoole.shared.websocket.mask import is_utf8
from zwoole.shared.wire.batches import (
    ACCEPT,
    BROADCAST,
    DISCONNECT,
    FAIL,
    PING,
    PUSH,
    REFUSE,
    SEND_MESSAGE,
    SET_STATE,
    WELCOME,
    BatchReader,
)
from zwoole.workers.flusher import Flusher
from zwoole.workers.link import FLUSH_BYTES, MasterLink
from zwoole.workers.mailbox import Mailbox

COROUTINE_FACTOR = 4
WAIT_MS = 100
THREAD_WAIT_S = 30.0  # for which another thread waits until the worker serves
THREAD_POLL_S = 0.001
PRUNE_ENDED = 1024


class Commands:
    """The commands of one worker, all masters included.

    Attributes:
        links: the wire to each reactor's master, None before it is connected and after the worker's goodbye.
        flusher: sends output while a callback goes on for long.
        mailbox: commands of other threads.
        may_block: whether a push may wait here: a `def` callback runs.
        on_output: called when something waits to be sent while nothing else would send it; set by the runtime.
        on_wait: called again and again while a push waits: the supervisor's word must not wait with it.
        output_limit: bytes that may wait to be sent to one client; set by the runtime.
        pipe_queue_bytes: most bytes of messages that may wait for one worker; set by the runtime.
        on_welcome: called with a link and the master's answer to its hello, if a command needs that before the loop has
            read it; set by the runtime.
        said_goodbye: whether the worker has closed its links, for good.
        masters_ended: whether the supervisor said that the masters have ended: nobody carries messages any more.
        ended: fds whose connections this worker has ended: their further messages are not run.
    """

    __slots__ = (
        "_ends",
        "_prune_at",
        "_reactor_num",
        "ended",
        "flusher",
        "links",
        "mailbox",
        "masters_ended",
        "may_block",
        "on_output",
        "on_wait",
        "on_welcome",
        "output_limit",
        "pipe_queue_bytes",
        "said_goodbye",
    )

    def __init__(self, reactor_num: int, up_window: int) -> None:
        """Prepare the commands of a worker; they belong to the thread that calls this.

        Args:
            reactor_num: number of masters.
            up_window: bytes of commands of other threads that may wait.
        """
        self.flusher = Flusher()
        self.mailbox = Mailbox(up_window)
        self.flusher.behind_commands = self.mailbox.append
        self.links: list[MasterLink | None] = [None] * reactor_num
        self.may_block = True
        self.on_output: Callable[[], None] | None = None
        self.on_wait: Callable[[], None]
        self.on_welcome: Callable[[MasterLink, bytes], None]
        self.output_limit = 2 << 20
        self.pipe_queue_bytes = 4 << 20
        self.said_goodbye = False
        self.masters_ended = False
        self.ended: set[int] = set()
        self._ends = False
        self._prune_at = PRUNE_ENDED
        self._reactor_num = reactor_num

    def push(self, fd: int, data: str | bytes | bytearray | memoryview, opcode: int | None = None) -> bool:
        """See Server.push."""
        flusher = self.flusher
        if not flusher.is_own_thread():
            return self._push_from_thread(fd, data, opcode)
        before = flusher.enter()
        try:
            taken = self._push(fd, data, opcode)
        finally:
            flusher.leave(before)
        if taken:
            self._note()
        return taken

    def _push(self, fd: int, data: str | bytes | bytearray | memoryview, opcode: int | None) -> bool:
        link = self._link(fd)
        if link is None or link.table.state(fd) != 2 or self.has_ended(fd):
            return False
        if link.sent + link.writer.size - link.credit > link.up_window:
            self._press(link)
            if not link.ready or link.table.state(fd) != 2:
                return False
        if link.writer.size >= 65536:  # on its way while the callback runs, and never there twice as a whole
            link.send_waiting()
        if opcode is None:
            if type(data) is str:
                text = data
                link.writer.add_text(PUSH, fd, text.encode("utf-8"))  # named, for compiled it is one C call then
            elif type(data) is bytes:
                link.writer.add_bytes(PUSH, fd, data)
            else:
                self._add(link, PUSH, fd, data, None)
        else:
            self._add(link, PUSH, fd, data, opcode)
        return True

    def ping(self, fd: int, data: str | bytes | bytearray | memoryview = b"") -> bool:
        """See Server.ping."""
        check_int("fd", fd)
        payload, _ = encode(data, None)
        if len(payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"a ping carries at most {MAX_CONTROL_PAYLOAD} bytes, not {len(payload)}")
        if not self.flusher.is_own_thread():
            if not self.is_established(fd):
                return False
            self._hand_over(lambda: self._ping(fd, payload), len(payload))
            return True
        return bool(self._run(lambda: self._ping(fd, payload)))

    def _ping(self, fd: int, payload: bytes) -> bool:
        link = self._link(fd)
        if link is None or link.table.state(fd) != 2 or self.has_ended(fd):
            return False
        if link.in_flight() > link.up_window:
            self._press(link)
            if not link.ready or link.table.state(fd) != 2:
                return False
        link.writer.add_bytes(PING, fd, payload)
        return True

    def broadcast(self, data: str | bytes | bytearray | memoryview, opcode: int | None = None) -> None:
        """See Server.broadcast."""
        body, kind = encode(data, opcode)  # here: what is wrong is said to the caller, and a buffer may change
        if not self.flusher.is_own_thread():
            self._hand_over(lambda: self._broadcast(body, kind), len(body))
        else:
            self._run(lambda: self._broadcast(body, kind))

    def _broadcast(self, body: bytes, opcode: int) -> None:
        for place in range(self._reactor_num):
            link = self._ready(place)
            if link is not None:
                if link.in_flight() > link.up_window:
                    self._press(link)
                if link.writer.size >= FLUSH_BYTES:
                    link.send_waiting()
                if opcode == OP_TEXT:
                    link.writer.add_text(BROADCAST, 0, body)
                else:
                    link.writer.add_bytes(BROADCAST, 0, body)

    def disconnect(self, fd: int, code: int = 1000, reason: str = "") -> bool:
        """See Server.disconnect."""
        check_int("fd", fd)
        check_close(code, reason)
        if not self.flusher.is_own_thread():
            self._hand_over(lambda: self._end(DISCONNECT, fd, code, reason), 0)
            return self.is_established(fd)
        return bool(self._run(lambda: self._end(DISCONNECT, fd, code, reason)))

    def fail(self, fd: int, code: int, reason: str) -> None:
        """Have a connection closed because its callback failed."""
        self._run(lambda: self._end(FAIL, fd, code, reason))

    def answer_handshake(self, fd: int, answer: Answer) -> None:
        """Tell the master whether a client may connect."""
        self._run(lambda: self._answer_handshake(fd, answer))

    def _answer_handshake(self, fd: int, answer: Answer) -> None:
        link = self._link(fd)
        if link is not None:
            link.writer.add_bytes(ACCEPT if isinstance(answer, Accept) else REFUSE, fd, answer.pack())

    def set_state(self, fd: int, value: object) -> bool:
        """See Server.set_state."""
        check_int("fd", fd)
        packed = pack("a connection's state", value)
        if len(packed) > MAX_STATE_BYTES:
            raise ValueError(f"a connection's state has at most {MAX_STATE_BYTES} bytes packed, not {len(packed)}")
        if not self.flusher.is_own_thread():
            self._hand_over(lambda: self._set_state(fd, packed), len(packed))
            return self.exists(fd)
        return bool(self._run(lambda: self._set_state(fd, packed)))

    def _set_state(self, fd: int, packed: bytes) -> bool:
        link = self._link(fd)
        if link is None or link.table.state(fd) == 0:
            return False
        if link.in_flight() > link.up_window:
            self._press(link)
        link.writer.add_bytes(SET_STATE, fd, packed)
        return True

    def send_message(self, message: object, worker_id: int) -> None:
        """See Server.send_message."""
        check_int("worker_id", worker_id)
        packed = pack("a message to a worker", message)
        if len(packed) > self.pipe_queue_bytes:
            raise ValueError(
                f"a message to a worker has at most {self.pipe_queue_bytes} bytes packed (pipe_queue_bytes)"
            )
        link = self._any_link()
        if link is None:
            raise QueueFull("no master is there to carry a message")
        waiting = link.table.waiting(worker_id)
        if waiting < 0:
            raise ValueError(f"there is no worker {worker_id!r}")
        if waiting + len(packed) > self.pipe_queue_bytes or link.in_flight() > link.up_window:
            raise QueueFull(f"{waiting} bytes wait for worker {worker_id}")
        if not self.flusher.is_own_thread():
            self._hand_over(lambda: link.writer.add_bytes(SEND_MESSAGE, worker_id, packed), len(packed))
        else:
            self._run(lambda: link.writer.add_bytes(SEND_MESSAGE, worker_id, packed))

    def has_ended(self, fd: int) -> bool:
        """Tell whether a callback of this worker has closed a connection: its further messages are not run."""
        return bool(self.ended) and fd in self.ended  # mostly there is none, and no object is made of the fd

    def exists(self, fd: int) -> bool:
        """See Server.exists."""
        check_int("fd", fd)
        link = self._link(fd)
        return link is not None and link.table.state(fd) != 0

    def is_established(self, fd: int) -> bool:
        """See Server.is_established."""
        check_int("fd", fd)
        link = self._link(fd)
        return link is not None and link.table.state(fd) == 2

    def buffered_amount(self, fd: int) -> int:
        """See Server.buffered_amount."""
        check_int("fd", fd)
        link = self._link(fd)
        return 0 if link is None else link.table.queued(fd)

    def congested(self) -> bool:
        """Tell whether some master has not taken so much that no further event should be started."""
        for link in self.links:  # noqa: SIM110 - no closure in a compiled method
            if link is not None and link.in_flight() > link.up_window:
                return True
        return False

    def flush(self) -> None:
        """Run what other threads want done, as far as the masters take it, and send all that waits."""
        flusher = self.flusher
        before = flusher.enter()
        try:
            self._send_waiting()
        finally:
            flusher.leave(before)

    def flush_all(self) -> None:
        """Do what `flush` does, with all that other threads want done: the last chance for it."""
        self._ends = True
        self._run(lambda: self._run_mailbox(lambda: True))
        self.flush()

    def start_flusher(self) -> None:
        """From now on, send output in time also while a callback runs."""
        self.flusher.start(self._send_in_time)

    def _send_in_time(self) -> None:
        """Called by the flusher, in its thread."""
        self._send_waiting()
        self.mailbox.wake()  # sending may have used up the edge of a descriptor: the own thread must look at its links

    def _send_waiting(self) -> None:
        self.flusher.sent()  # first: what is noted meanwhile is noted anew
        if self.mailbox.waits():
            self._run_mailbox(self._may_push)
        self._send_links()

    def _run_mailbox(self, may_go_on: Callable[[], bool]) -> None:
        self.mailbox.run(may_go_on)
        self.flusher.has_commands = False  # first: another thread may put one there now
        self.flusher.has_commands = self.mailbox.has_commands()

    def _send_links(self) -> None:
        for link in self.links:
            if link is not None:
                link.send_waiting()

    def _may_push(self) -> bool:
        """Tell whether commands of other threads may be run: every master that lives has welcomed this worker."""
        for link in self.links:
            if link is None or not (link.ready or link.closed):
                return False
        return not self.congested()

    def _link(self, fd: int) -> MasterLink | None:
        """Return the ready link to the master that has this connection; None if it is gone, or went with its master.

        Raises:
            NotServing: see `_ready`.
        """
        if not 0 < fd < MAX_FD:
            return None
        place = (fd - 1) % self._reactor_num
        link = self.links[place]
        if link is not None and link.ready:
            return link
        return self._ready(place)

    def _any_link(self) -> MasterLink | None:
        """Return the link to some master that carries messages; None where all have ended."""
        if self.masters_ended:
            return None
        for place in range(self._reactor_num):
            link = self._ready(place)
            if link is not None:
                return link
        return None

    def _ready(self, place: int) -> MasterLink | None:
        """Return the link to a reactor's master if commands can go over it, None if that master is gone.

        One that is connected has its welcome on the way: that takes a millisecond, and is waited for. Another thread
        waits also until the worker is connected.

        Raises:
            NotServing: this worker is not connected yet, or not any more.
        """
        link = self.links[place]
        if link is not None and link.ready:
            return link
        if not self.flusher.is_own_thread():
            return self._wait_in_thread(place)
        if link is None:
            raise NotServing(self._why_not())
        before = self.flusher.enter()
        try:
            self._wait_for_welcome(link)
        finally:
            self.flusher.leave(before)
        return link if link.ready else None

    def _wait_for_welcome(self, link: MasterLink) -> None:
        """Read the link's batches into its inbox until the master's answer to our hello is there."""
        self._send_links()
        while not link.ready and not link.closed:
            parts = self._await_batch(link)
            if parts is None:
                continue
            batch = BatchReader(parts)
            if batch.next() and batch.kind == WELCOME:
                self.on_welcome(link, batch.data())
            link.inbox.append(parts)

    def _await_batch(self, link: MasterLink) -> list[bytes] | None:
        """Take a batch that is not in the inbox. If there is none, wait a while for one and return None."""
        parts = link.receive_new()
        if parts is None:
            link.socket.poll(WAIT_MS)
            self.on_wait()
        return parts

    def _wait_in_thread(self, place: int) -> MasterLink | None:
        """Wait while the own thread connects to a master; not in the flusher, which holds what that needs."""
        refuse_if_forked("push")
        deadline = monotonic() + THREAD_WAIT_S
        while not self.said_goodbye and monotonic() < deadline:
            link = self.links[place]
            if link is not None and (link.ready or link.closed):
                return link if link.ready else None
            if self.flusher.is_here():
                return None
            sleep(THREAD_POLL_S)
        raise NotServing(self._why_not())

    def _why_not(self) -> str:
        if self.said_goodbye:
            return "this worker does not serve any more: it has said goodbye to the masters"
        return (
            "this worker does not serve yet: it is connected to the masters when worker_start has ended. Do this in a"
            " callback such as `open`, in a thread, or in a task that begins with `await server.drain()`"
        )

    def _add(self, link: MasterLink, kind: int, fd: int, data: object, opcode: int | None) -> None:
        body, opcode = encode(data, opcode)
        if opcode == 1:
            link.writer.add_text(kind, fd, body)
        else:
            link.writer.add_bytes(kind, fd, body)

    def _end(self, kind: int, fd: int, code: int, reason: str) -> bool:
        link = self._link(fd)
        if link is None or link.table.state(fd) != 2:
            return False
        if self.has_ended(fd):
            return False
        self.ended.add(fd)
        if len(self.ended) >= self._prune_at:  # those of other workers: nobody tells this one when they are gone
            self.ended = {fd for fd in self.ended if self.exists(fd)}
            self._prune_at = 2 * len(self.ended) + PRUNE_ENDED
        link.writer.add_bytes(kind, fd, msgpack.packb([code, reason]))
        return True

    def _push_from_thread(self, fd: int, data: str | bytes | bytearray | memoryview, opcode: int | None) -> bool:
        body, opcode = encode(data, opcode)
        if not self.is_established(fd):
            return False
        self._hand_over(lambda: self._push(fd, body, opcode), len(body))
        return True

    def _hand_over(self, command: Callable[[], object], size: int) -> None:
        """Leave a command of another thread to the own thread, or to the flusher if that one is busy for long."""
        self.mailbox.put(command, size)
        self.flusher.has_commands = True
        self.flusher.note()

    def _run(self, command: Callable[[], object]) -> object:
        """Run the second half of a command in the own thread, and return its result."""
        before = self.flusher.enter()
        try:
            result = command()
        finally:
            self.flusher.leave(before)
        self._note()
        return result

    def _note(self) -> None:
        """Output waits: have it sent."""
        self.flusher.note()
        if self.on_output is not None:
            self.on_output()

    def _press(self, link: MasterLink) -> None:
        """Too much is on its way to a master: wait here, or refuse. Not at the end: the mailbox bounds what is left."""
        if self._ends:
            return
        if self.may_block:
            self._wait_for_credit(link)
        elif link.in_flight() > COROUTINE_FACTOR * link.up_window:
            raise BackpressureError(
                f"{link.in_flight()} bytes were pushed and not yet taken: await server.drain() between pushes"
            )

    def _wait_for_credit(self, link: MasterLink) -> None:
        """Read the link's batches into its inbox until the master has taken enough."""
        self._send_links()  # all: what was pushed to the clients of other masters does not wait for this one
        while link.ready and link.in_flight() > link.up_window:
            parts = self._await_batch(link)
            if parts is None:
                continue
            batch = BatchReader(parts)
            link.credit = batch.credit
            if batch.left:
                link.inbox.append(parts)


def pack(what: str, value: object) -> bytes:
    """Return a value of the app's as msgpack packs it.

    Raises:
        TypeError: it cannot be packed; the error says `what` it was to be.
    """
    try:
        packed: bytes = msgpack.packb(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{what} is made of None, numbers, str, bytes, lists and dicts: {error}") from None
    return packed


def refuse_message(data: object) -> NoReturn:
    """Say why something is no message.

    Raises:
        TypeError: always.
    """
    if inspect.iscoroutine(data):
        data.close()  # or Python warns, later, that it was never awaited
        raise TypeError("a message is str or bytes, not a coroutine: await it first")
    raise TypeError(f"a message is str or bytes, not {type(data).__name__}: encode it first, with json.dumps or so")


def encode(data: object, opcode: int | None) -> tuple[bytes, int]:
    """Return a message's bytes and opcode: text for `str`, binary for anything else, unless `opcode` says.

    Raises:
        TypeError: the data is neither `str` nor bytes.
        ValueError: the opcode is neither text nor binary, or bytes to be sent as text are not UTF-8.
    """
    if isinstance(data, str):
        body, natural = data.encode(), OP_TEXT
    elif isinstance(data, bytes | bytearray | memoryview):
        body, natural = bytes(data), OP_BINARY
    else:
        refuse_message(data)
    opcode = natural if opcode is None else opcode
    if opcode not in (OP_TEXT, OP_BINARY):
        raise ValueError(f"a message's opcode is OP_TEXT (1) or OP_BINARY (2), not {opcode!r}")
    if opcode == OP_TEXT and natural == OP_BINARY and not is_utf8(body):
        raise ValueError("bytes sent as text must be UTF-8")
    return body, opcode


def check_int(name: str, value: object) -> None:
    """Check an argument that must be an integer. `push` does without: compiled, it has the fd converted for it.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")


def check_close(code: int, reason: str) -> None:
    """Check a close code and reason before they are sent.

    Raises:
        ValueError: a close frame cannot carry them (RFC 6455 sections 5.5 and 7.4).
        TypeError: the reason is no text.
    """
    if not isinstance(code, int) or not is_sendable(code):
        raise ValueError(f"{code!r} is no close code that may be sent: take 1000, 1001, 1008, 1011 or 3000-4999")
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a str, not {type(reason).__name__}")
    if len(reason.encode()) > MAX_REASON_BYTES:
        raise ValueError(f"a close reason has at most {MAX_REASON_BYTES} bytes")
