"""The way out to stdout or stderr: it never makes the caller wait, and it never fails.

Nobody may be reading the pipe that a standard descriptor is; a terminal may be stopped (Ctrl+S) or gone, a disk full.
None of that may hold up a process or end a callback. So what the descriptor does not take at once waits in a bounded
queue for a thread, in order; what does not fit there, or cannot be written at all, is dropped and counted.

In normal times there is no queue and no thread: `write` has written when it returns, so nothing is lost if the process
is killed right after. Only a process that must not even wait for a disk (`at_once=False`) always uses the thread.

Whether a descriptor would take something is the kernel's to say. O_NONBLOCK would do, but it belongs to what the
descriptor refers to, which is shared with other processes. A pipe or terminal is therefore opened once more, by way of
/proc. Where that is forbidden (a container's pipe belongs to another user) the descriptor is polled before each write
of at most PIPE_BUF bytes; such a write waits only if another process has filled the pipe in between.
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
import select
import signal
import stat
import threading
import time
from typing import Any

QUEUED_WRITES = 10_000
QUEUED_BYTES = 4 * 1024 * 1024
BATCH_BYTES = 64 * 1024
LOOK_MS = 1000  # how often the thread looks whether the descriptor leads elsewhere by now


class Outlet:
    """One standard descriptor. All methods may be called from any thread.

    Attributes:
        lost: lines that were dropped since the process began.
        untold: those of them that the log has not told of yet.
        descriptor: refers to the same as the standard descriptor, and waits for nobody if that can be had; its number
            is the same as long as the process lives.
        at_once: whether `write` tries to write before it leaves the data to the thread.
    """

    def __init__(self, standard: int, at_once: bool = True) -> None:
        """Prepare to write to a standard descriptor, which is open."""
        self.lost = 0
        self.untold = 0
        self.descriptor = os.dup(standard)
        self._standard = standard
        self._leads_to: tuple[int, int] | None = None
        self._asks = False  # whether to ask before each write if there is room
        self.forget()
        self.at_once = at_once
        self.follow()

    def forget(self) -> None:
        """Forget what waits, and the thread: in a child process that was forked, these belong to the parent.

        The child may end without a word, so it writes at once.
        """
        self.at_once = True
        self._changed = threading.Condition(threading.RLock())  # a signal handler may print in the middle of a print
        self._waiting: collections.deque[bytes] = collections.deque()
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLOUT)

    def follow(self) -> None:
        """Have `descriptor` refer to what the standard descriptor refers to by now.

        Raises:
            OSError: that one is closed.
        """
        with self._changed:
            found = os.fstat(self._standard)
            leads_to = found.st_dev, found.st_ino
            if leads_to == self._leads_to:
                return
            opened = reopened(self._standard, found.st_mode)
            os.dup2(self._standard if opened is None else opened, self.descriptor, inheritable=False)
            if opened is not None:
                os.close(opened)
            self._leads_to = leads_to
            self._asks = opened is None and not stat.S_ISREG(found.st_mode)

    def write(self, data: bytes) -> bool:
        """Write `data`, now or as soon as it is taken; return False if it is lost."""
        with self._changed:
            try:
                taken = self._write_now(data) if self.at_once and not self._waiting else 0
            except OSError:
                return self._lose(data)
            return taken == len(data) or self._queue(data[taken:])

    def drain(self, seconds: float) -> bool:
        """Wait until nothing waits any more, at most so long; tell whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _write_now(self, data: bytes) -> int:
        """Write what can be written without waiting; return how many bytes."""
        self.follow()
        written = 0
        while written < len(data) and (not self._asks or self._poll.poll(0)):
            try:
                written += self._write_some(data, written)
            except BlockingIOError:
                break
        return written

    def _write_some(self, data: bytes, begin: int) -> int:
        end = begin + select.PIPE_BUF if self._asks else len(data)
        return os.write(self.descriptor, data[begin:end])

    def _queue(self, data: bytes) -> bool:
        full = len(self._waiting) >= QUEUED_WRITES or self._bytes + len(data) > QUEUED_BYTES
        if full and self._waiting:
            return self._lose(data)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_later, name="log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is ending, or there may be no further thread
                self._thread = None
                return self._lose(data)
        self._waiting.append(data)
        self._bytes += len(data)
        self._changed.notify_all()
        return True

    def _lose(self, data: bytes) -> bool:
        lines = max(data.count(b"\n"), 1)
        self.lost += lines
        self.untold += lines
        return False

    def _write_later(self) -> None:
        """Write what waits, in a thread of its own, which nobody waits for: it may be held up for ever."""
        # A terminal with `stty tostop` lets jobs in the background write only where this is held back or ignored. It
        # would stop all processes of the job, and the supervisor, which handles it, would try again for ever.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                batch = self._next_batch()
            data = b"".join(batch)
            try:
                self._write_all(data)
            except OSError:
                with self._changed:
                    self._lose(data)
            with self._changed:
                for _ in batch:
                    self._bytes -= len(self._waiting.popleft())
                self._changed.notify_all()

    def _next_batch(self) -> list[bytes]:
        """Return what is to be written next; it waits on, so that what comes meanwhile gets behind it."""
        batch: list[bytes] = []
        size = 0
        for data in self._waiting:
            if batch and size + len(data) > BATCH_BYTES:
                break
            batch.append(data)
            size += len(data)
        return batch

    def _write_all(self, data: bytes) -> None:
        written = 0
        while written < len(data):
            self.follow()
            if self._poll.poll(LOOK_MS):
                with contextlib.suppress(BlockingIOError):
                    written += self._write_some(data, written)


def reopened(descriptor: int, mode: int) -> int | None:
    """Open a pipe or a terminal once more, so that it can be told not to wait; return None if that cannot be.

    Args:
        descriptor: what to open.
        mode: its st_mode.
    """
    if not stat.S_ISFIFO(mode) and not os.isatty(descriptor):
        return None
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


class OutletStream(io.RawIOBase):
    """The lowest layer of `sys.stdout` or `sys.stderr`, with an outlet in the place of the descriptor."""

    def __init__(self, outlet: Outlet, standard: int, name: str) -> None:
        """Write to `outlet` what Python writes to the stream of that name."""
        super().__init__()
        self.name = name
        self._outlet = outlet
        self._standard = standard

    def write(self, data: Any) -> int:
        """Write all of `data`, or lose it; return its length."""
        whole = bytes(data)
        self._outlet.write(whole)
        return len(whole)

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the standard descriptor."""
        return self._standard

    def isatty(self) -> bool:
        """Tell whether that is a terminal."""
        return os.isatty(self._standard)


_outlets: dict[int, Outlet] = {}


def of(standard: int) -> Outlet:
    """Return this process's outlet for a standard descriptor."""
    if standard not in _outlets:
        _outlets[standard] = Outlet(standard)
    return _outlets[standard]


def lost_lines() -> int:
    """Return how many lines this process could not write since it began."""
    return sum(outlet.lost for outlet in _outlets.values())


def drain(seconds: float) -> None:
    """Wait until everything is written, for so many seconds at most."""
    deadline = time.monotonic() + seconds
    for outlet in _outlets.values():
        outlet.drain(max(deadline - time.monotonic(), 0.0))


def follow() -> None:
    """Tell every outlet that the standard descriptors lead elsewhere now."""
    for outlet in _outlets.values():
        outlet.follow()


def _forget() -> None:
    for outlet in _outlets.values():
        outlet.forget()


os.register_at_fork(after_in_child=_forget)
