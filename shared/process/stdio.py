"""Non-blocking output to stdout and stderr: a write neither waits nor fails.

A standard descriptor may be a pipe that nobody reads, a terminal that is stopped (Ctrl+S) or gone, or a file on a full
disk. None of these may block a process or end a callback. Data that the descriptor does not accept at once goes into a
bounded queue, which a thread writes in order. Data that does not fit the queue, or that cannot be written at all, is
dropped and counted.

Normally there is neither queue nor thread: `write` returns after the data is written, so nothing is lost if the process
is killed right afterwards. Only a process that must not even wait for a disk (`at_once=False`) always uses the thread.

Only the kernel knows whether a descriptor would block. O_NONBLOCK cannot be set on the descriptor itself: the flag
belongs to the open file, which other processes share. So a pipe or terminal is opened a second time, through /proc. If
that is forbidden (a container's pipe may belong to another user), the descriptor is polled before each write of at most
PIPE_BUF bytes; such a write blocks only if another process fills the pipe in between.

The processes of a server share their descriptors. In a pipe only writes of at most PIPE_BUF bytes are atomic, and only
these are taken as a whole or not at all. So a pipe gets pieces of at most that size, which consist of whole lines, and
of whole calls of `write` where they fit. A single line that is longer may have output of other processes in it.
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

from zwoole.shared.process.descriptors import file_identity

QUEUED_WRITES = 10_000
QUEUED_BYTES = 4 * 1024 * 1024
BATCH_BYTES = 64 * 1024
POLL_MS = 1000  # how often the thread checks whether the standard descriptor was redirected


class StdioWriter:
    """Writes to one standard descriptor. All methods may be called from any thread.

    Attributes:
        lost: lines dropped since the process started.
        unreported: dropped lines that the log has not mentioned yet.
        descriptor: refers to the same file as the standard descriptor, non-blocking if possible. Its number stays the
            same as long as the process lives.
        at_once: whether `write` tries to write before it leaves the data to the thread.
    """

    def __init__(self, standard: int, at_once: bool = True) -> None:
        """Prepare to write to a standard descriptor, which must be open."""
        self.lost = 0
        self.unreported = 0
        self.descriptor = os.dup(standard)
        self._standard = standard
        self._target: tuple[int, int] | None = None
        self._polls_first = False  # whether to poll before each write
        self._in_pieces = False  # whether each write must be atomic
        self.reset_after_fork()
        self.at_once = at_once
        self.update_target()

    def reset_after_fork(self) -> None:
        """Drop the queue and the thread in a forked child: these belong to the parent.

        The child may exit without flushing, so it writes at once.
        """
        self.at_once = True
        self._changed = threading.Condition(threading.RLock())  # reentrant: a signal handler may print during a print
        self._waiting: collections.deque[bytes] = collections.deque()
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLOUT)

    def update_target(self) -> None:
        """Make `descriptor` refer to the file that the standard descriptor refers to now.

        Raises:
            OSError: the standard descriptor is closed.
        """
        with self._changed:
            target = file_identity(self._standard)
            if target is not None and target == self._target:
                return
            mode = os.fstat(self._standard).st_mode
            opened = reopen_nonblocking(self._standard, mode)
            os.dup2(self._standard if opened is None else opened, self.descriptor, inheritable=False)
            if opened is not None:
                os.close(opened)
            self._target = target
            self._polls_first = opened is None and not stat.S_ISREG(mode)
            self._in_pieces = self._polls_first or stat.S_ISFIFO(mode)

    def write(self, data: bytes) -> bool:
        """Write `data` now or queue it; return False if it is dropped."""
        with self._changed:
            try:
                taken = self._write_now(data) if self.at_once and not self._waiting else 0
            except OSError:
                return self._drop(data)
            return taken == len(data) or self._queue(data[taken:])

    def drain(self, seconds: float) -> bool:
        """Wait `seconds` at most until the queue is empty; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _write_now(self, data: bytes) -> int:
        """Write as much as the descriptor accepts without blocking; return the number of bytes."""
        self.update_target()
        written = 0
        while written < len(data) and (not self._polls_first or self._poll.poll(0)):
            try:
                written += self._write_some(data, written)
            except BlockingIOError:
                break
        return written

    def _write_some(self, data: bytes, begin: int) -> int:
        end = piece_end(data, begin) if self._in_pieces else len(data)
        return os.write(self.descriptor, data[begin:end])

    def _queue(self, data: bytes) -> bool:
        full = len(self._waiting) >= QUEUED_WRITES or self._bytes + len(data) > QUEUED_BYTES
        if full and self._waiting:
            return self._drop(data)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_later, name="log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is exiting, or no further thread is allowed
                self._thread = None
                return self._drop(data)
        self._waiting.append(data)
        self._bytes += len(data)
        self._changed.notify_all()
        return True

    def _drop(self, data: bytes) -> bool:
        lines = max(data.count(b"\n"), 1)
        self.lost += lines
        self.unreported += lines
        return False

    def _write_later(self) -> None:
        """Write the queue, in a thread of its own. It may block for ever, so nothing waits for it without a timeout."""
        # A terminal with `stty tostop` accepts output of background jobs only if they block or ignore SIGTTOU.
        # Otherwise the signal would stop all processes of the job, or, in the supervisor, which handles it, make the
        # write repeat for ever.
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
                    self._drop(data)
            with self._changed:
                for _ in batch:
                    self._bytes -= len(self._waiting.popleft())
                self._changed.notify_all()

    def _next_batch(self) -> list[bytes]:
        """Return what to write next. It stays in the queue until it is written, so that newer data comes after it."""
        batch: list[bytes] = []
        size = 0
        limit = select.PIPE_BUF if self._in_pieces else BATCH_BYTES
        for data in self._waiting:
            if batch and size + len(data) > limit:
                break
            batch.append(data)
            size += len(data)
        return batch

    def _write_all(self, data: bytes) -> None:
        written = 0
        while written < len(data):
            self.update_target()
            if self._poll.poll(POLL_MS):
                with contextlib.suppress(BlockingIOError):
                    written += self._write_some(data, written)


def piece_end(data: bytes, begin: int) -> int:
    """Return where an atomic write that begins at an index of `data` must end: after its last line that fits.

    If not even one line fits, the piece ends within it.
    """
    end = begin + select.PIPE_BUF
    if end >= len(data):
        return len(data)
    return data.rfind(b"\n", begin, end) + 1 or end


def reopen_nonblocking(descriptor: int, mode: int) -> int | None:
    """Open a pipe or a terminal a second time, non-blocking. Return None if that is impossible.

    Args:
        descriptor: the pipe or terminal.
        mode: its st_mode.
    """
    if not stat.S_ISFIFO(mode) and not os.isatty(descriptor):
        return None
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


class StdioStream(io.RawIOBase):
    """The raw layer of `sys.stdout` or `sys.stderr`, which writes through a StdioWriter instead of the descriptor."""

    def __init__(self, writer: StdioWriter, standard: int, name: str) -> None:
        """Write to `writer`; `standard` and `name` are the descriptor and the name of the stream that this one
        replaces.
        """
        super().__init__()
        self.name = name
        self._writer = writer
        self._standard = standard

    def write(self, data: Any) -> int:
        """Write all of `data` or drop it; return its length in both cases."""
        whole = bytes(data)
        self._writer.write(whole)
        return len(whole)

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the standard descriptor."""
        return self._standard

    def isatty(self) -> bool:
        """Return whether the standard descriptor is a terminal."""
        return os.isatty(self._standard)


_writers: dict[int, StdioWriter] = {}


def writer(standard: int) -> StdioWriter:
    """Return this process's writer for a standard descriptor."""
    if standard not in _writers:
        _writers[standard] = StdioWriter(standard)
    return _writers[standard]


def lost_lines() -> int:
    """Return how many lines this process has dropped since it started."""
    return sum(each.lost for each in _writers.values())


def drain(seconds: float) -> None:
    """Wait `seconds` at most until all queues are written."""
    deadline = time.monotonic() + seconds
    for each in _writers.values():
        each.drain(max(deadline - time.monotonic(), 0.0))


def update_targets() -> None:
    """Make every writer write to the files that the standard descriptors refer to now."""
    for each in _writers.values():
        each.update_target()


def _reset_after_fork() -> None:
    for each in _writers.values():
        each.reset_after_fork()


os.register_at_fork(after_in_child=_reset_after_fork)
