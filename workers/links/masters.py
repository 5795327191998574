"""A worker's links to all masters, and how much may be on its way to them.

Backpressure: the bytes that were pushed and that the master has not taken yet are counted. If they are more than the
window (`up_window_bytes`), a push behaves differently in different places:
- A `def` callback waits inside `push`. Meanwhile its link is read into the inbox, because the credit that it waits for
  may lie behind messages that the worker has not read. The down window bounds the inbox.
- A coroutine never waits inside `push`. No further event is started, and `drain` waits. If the bytes are more than four
  windows, `push` raises BackpressureError.
- Another thread waits inside `push` while the mailbox (mailbox.py) is full.

Output leaves when the worker has no more events, when it has become much or old between two events, and by the flusher
(flusher.py) while a callback goes on for long. The flusher's thread uses the links too, so `enter` and `leave` of the
flusher stand around everything that touches them.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep

from zwoole.shared.errors import BackpressureError, NotServing
from zwoole.shared.ids import MAX_FD
from zwoole.shared.process.forks import refuse_if_forked
from zwoole.shared.wire.batches import BatchReader
from zwoole.shared.wire.events import BYE, WELCOME
from zwoole.workers.links.flusher import Flusher
from zwoole.workers.links.mailbox import Mailbox
from zwoole.workers.links.master_link import MasterLink

COROUTINE_FACTOR = 4
WAIT_S = 0.1
THREAD_WAIT_S = 30.0  # how long another thread waits until the worker serves
THREAD_POLL_S = 0.001


class Masters:
    """The links of one worker; they belong to the thread that makes this object.

    Attributes:
        links: the link to each reactor's master, None before it is connected and after the worker's goodbye.
        flusher: sends output while a callback goes on for long.
        mailbox: commands of other threads.
        may_block: whether a push may wait here, because a `def` callback runs.
        on_output: called when output is queued and no turn of the loop will send it; None if the loop sends at the end
            of each turn.
        on_wait: called again and again while a push waits, so that the supervisor's messages do not wait with it.
        on_welcome: called with a link and the master's answer to its hello, if a command needs that answer before the
            loop has read it.
        said_goodbye: whether the worker has closed its links, for good.
        have_ended: whether the supervisor said that the masters have ended, so that none carries messages any more.
    """

    __slots__ = (
        "_ends",
        "_reactor_num",
        "flusher",
        "have_ended",
        "links",
        "mailbox",
        "may_block",
        "on_output",
        "on_wait",
        "on_welcome",
        "said_goodbye",
    )

    def __init__(self, reactor_num: int, up_window: int) -> None:
        """Prepare the links; none is connected.

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
        self.said_goodbye = False
        self.have_ended = False
        self._ends = False
        self._reactor_num = reactor_num

    # Which link.

    def link_of(self, fd: int) -> MasterLink | None:
        """Return the ready link to the master that has a connection; None if either is gone.

        Raises:
            NotServing: see `ready`.
        """
        if not 0 < fd < MAX_FD:
            return None
        reactor = (fd - 1) % self._reactor_num
        link = self.links[reactor]
        if link is not None and link.ready:
            return link
        return self.ready(reactor)

    def any_link(self) -> MasterLink | None:
        """Return the link to some master that carries messages; None if all have ended."""
        if self.have_ended:
            return None
        for reactor in range(self._reactor_num):
            link = self.ready(reactor)
            if link is not None:
                return link
        return None

    def ready(self, reactor: int) -> MasterLink | None:
        """Return the link to a reactor's master if commands can go over it, None if that master is gone.

        If the link is connected, the master's welcome is on its way. That takes a millisecond, so it is waited for.
        Another thread waits also until the worker is connected.

        Raises:
            NotServing: this worker is not connected yet, or not any more.
        """
        link = self.links[reactor]
        if link is not None and link.ready:
            return link
        if not self.flusher.is_own_thread():
            return self._wait_in_thread(reactor)
        if link is None:
            raise NotServing(self._why_not())
        before = self.flusher.enter()
        try:
            self._wait_for_welcome(link)
        finally:
            self.flusher.leave(before)
        return link if link.ready else None

    def _wait_for_welcome(self, link: MasterLink) -> None:
        """Read the link's batches into its inbox until the master has answered the worker's hello."""
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
            link.wait(WAIT_S)
            self.on_wait()
        return parts

    def _wait_in_thread(self, reactor: int) -> MasterLink | None:
        """Wait in another thread while the own thread connects to a master.

        The flusher's thread does not wait: it holds the links, and connecting needs them.
        """
        refuse_if_forked("push")
        deadline = monotonic() + THREAD_WAIT_S
        while not self.said_goodbye and monotonic() < deadline:
            link = self.links[reactor]
            if link is not None and (link.ready or link.closed):
                return link if link.ready else None
            if self.flusher.is_here():
                return None
            sleep(THREAD_POLL_S)
        raise NotServing(self._why_not())

    def _why_not(self) -> str:
        if self.said_goodbye:
            return "this worker no longer serves: it has said goodbye to the masters"
        return (
            "this worker does not serve yet: it connects to the masters when worker_start has ended. Do this in a"
            " callback such as `open`, in a thread, or in a task that begins with `await server.drain()`"
        )

    # How much is on its way.

    def congested(self) -> bool:
        """Tell whether too much is on its way to some master, so that no further event may be started."""
        for link in self.links:  # noqa: SIM110 - no closure in a compiled method
            if link is not None and link.in_flight() > link.up_window:
                return True
        return False

    def _exceeds(self, windows: int) -> bool:
        """Tell whether more than so many windows are on their way to some master."""
        return any(link is not None and link.in_flight() > windows * link.up_window for link in self.links)

    def relieve(self, link: MasterLink) -> None:
        """Deal with a link on which too much is on its way: wait until the master has taken it, or refuse.

        After the end of the worker has begun, nothing waits and nothing is refused: the mailbox bounds what is left.

        Raises:
            BackpressureError: a coroutine pushed far too much.
        """
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

    def has_batches(self) -> bool:
        """Tell whether a batch may lie ready that was read while a push waited, so that no descriptor reports it."""
        for link in self.links:  # noqa: SIM110 - no closure in a compiled method
            if link is not None and link.has_batches():
                return True
        return False

    def is_blocked(self) -> bool:
        """Tell whether the kernel has not taken all output for some master, so that the loop must wait for room."""
        for link in self.links:  # noqa: SIM110 - no closure in a compiled method
            if link is not None and link.is_blocked():
                return True
        return False

    # When output leaves.

    def run(self, command: Callable[[], object]) -> object:
        """Run the second half of a command in the own thread, and return its result."""
        before = self.flusher.enter()
        try:
            if self.flusher.has_commands:
                self.catch_up()
            result = command()
        finally:
            self.flusher.leave(before)
        self.note()
        return result

    def catch_up(self) -> None:
        """Run the commands of other threads that came before a command of the own thread, which is to follow them.

        To be called with the links held. In a coroutine, those are left for which far too much is on its way.
        """
        for link in self.links:
            if link is not None and not (link.ready or link.closed):
                self._wait_for_welcome(link)
        self._run_mailbox(lambda: self.may_block or not self._exceeds(COROUTINE_FACTOR), present_only=True)

    def hand_over(self, command: Callable[[], object], size: int) -> None:
        """Leave a command of another thread to the own thread, or to the flusher if that one is busy for long.

        Args:
            command: what to run.
            size: bytes that it carries.

        Raises:
            BackpressureError, WrongProcess: see `Mailbox.put`.
        """
        self.mailbox.put(command, size)
        self.flusher.has_commands = True
        self.flusher.note()

    def note(self) -> None:
        """Note that output waits, so that it is sent."""
        self.flusher.note()
        if self.on_output is not None:
            self.on_output()

    def flush(self) -> None:
        """Run the commands of other threads, as far as the masters take them, and send all output."""
        flusher = self.flusher
        before = flusher.enter()
        try:
            self._send_waiting()
        finally:
            flusher.leave(before)

    def flush_all(self) -> None:
        """Do what `flush` does, with all commands of other threads: the last chance for them."""
        self._ends = True
        self.run(lambda: self._run_mailbox(lambda: True))
        self.flush()

    def goodbye(self, linger_s: float) -> None:
        """Send the output that is left, tell the masters that nothing follows, and close the links.

        Args:
            linger_s: how long the last batches have to reach the masters.
        """
        self.flusher.stop()
        self.flush_all()
        self.mailbox.close()
        for link in self.links:
            if link is not None:
                link.writer.add(BYE, 0)
                link.flush()
                if not link.closed:
                    link.close(linger_s)
        self.said_goodbye = True
        self.links[:] = [None] * len(self.links)

    def start_flusher(self) -> None:
        """From now on, send output in time also while a callback runs.

        Raises:
            RuntimeError: no thread can be started.
        """
        self.flusher.start(self._send_in_time)

    def _send_in_time(self) -> None:
        """Called by the flusher, in its thread."""
        self._send_waiting()
        if self.is_blocked():
            self.mailbox.wake()  # the own thread must wait for room

    def _send_waiting(self) -> None:
        self.flusher.sent()  # first: what is noted meanwhile is noted anew
        if self.mailbox.waits():
            self._run_mailbox(self._may_push)
        self._send_links()

    def _run_mailbox(self, may_go_on: Callable[[], bool], present_only: bool = False) -> None:
        self.mailbox.run(may_go_on, present_only)
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
