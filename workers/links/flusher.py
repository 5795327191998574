"""The flusher: a thread that sends what callbacks have pushed while the worker's own thread is busy.

The worker's own thread sends its output at the end of a turn, and between two events if the output is old. It does
neither while a callback goes on for long after a push, whether it computes or sleeps. So a second thread checks whether
output waits: every DUE_S seconds, or when the output that it saw is that old. If that output still waits, it sends it.

Operations: note that output waits; enter and leave the links (the ZeroMQ sockets and the batches that are gathered for
them), which only one thread at a time may use; look whether output waits.

Goals: the hot path gets only a few instructions and no system call. Setting a timer for each batch would cost more than
the thread's looks. In a compiled build, looking does not take the interpreter lock; only sending and parking do. The
thread parks when no output has waited for a while, so that an idle worker sleeps.

In a compiled build, `enter` needs no mutex: only the thread that has the interpreter lock can run it, and it does not
release the lock between looking at the holder and setting it. Uncompiled there is no such guarantee, so a mutex does
the same.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from zwoole.shared.process.forks import close_descriptors
from zwoole.shared.process.log import get_logger

try:
    import cython
except ImportError:
    from zwoole.shared.uncompiled import cython  # type: ignore[assignment, no-redef, unused-ignore]

if cython.compiled:
    from cython.cimports.cpython.pythread import (  # type: ignore[import-not-found, unused-ignore]
        PyThread_get_thread_ident,
    )
    from cython.cimports.posix.time import (  # type: ignore[import-not-found, unused-ignore]
        CLOCK_MONOTONIC,
        clock_gettime,
        timespec,
    )
    from cython.cimports.posix.unistd import usleep  # type: ignore[import-not-found, unused-ignore]

# Output leaves within 2 ms. The own thread sends output that is AGED_S old when an event ends. If no event ends, the
# flusher sends it when it is DUE_S old; before that it may have to wait for the interpreter lock.
AGED_S = 0.001
DUE_S = 0.0016
RETRY_S = 0.0008  # time until the next look, if the own thread was using the links when output was due
SWITCH_INTERVAL_S = 0.0003  # how long a thread may compute while another waits for the interpreter lock
IDLE_LOOKS = 8  # looks without output after which the flusher parks
# Time between two looks at whether the flusher still uses the links, which it does for some microseconds.
PAUSE_S = 0.00002

_DUE_S = DUE_S  # C numbers in the compiled module, like the ones below
_IDLE_LOOKS = IDLE_LOOKS

# Which thread uses the links.
_NOBODY = 0
_OWN_THREAD = 1
_FLUSHER = 2

log = get_logger("wire")


class Flusher:
    """Sends a worker's output in time. The thread that makes it is the worker's own thread.

    Attributes:
        waiting: whether output waits that was noted since the last `sent`.
        has_commands: whether commands of other threads wait.
        behind_commands: called with a function that is to run after those commands; set by the builder.
    """

    __slots__ = (
        "_holder",
        "_idle",
        "_mutex",
        "_own_thread",
        "_parked",
        "_send",
        "_since",
        "_stopped",
        "_thread",
        "_wake",
        "behind_commands",
        "has_commands",
        "waiting",
    )

    def __init__(self) -> None:
        self.waiting = False
        self.has_commands = False
        self.behind_commands: Callable[[Callable[[], None]], None]
        self._since = 0.0
        self._idle = 0
        self._holder = _NOBODY
        self._parked = False
        self._stopped = False
        self._own_thread = threading.get_ident()
        self._mutex = threading.RLock()
        self._wake = -1
        self._send: Callable[[], None]
        self._thread: threading.Thread | None = None

    def start(self, send: Callable[[], None]) -> None:
        """Start the thread.

        Args:
            send: sends the output; called in the flusher's thread while that holds the links.
        """
        self._send = send
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._wake = os.eventfd(0)
        self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, if it was started; the own thread sends the output that waits now."""
        if self._thread is None:
            return
        self._stopped = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)
        self._thread = None

    def abandon(self) -> None:
        """Set up a forked child: none of its threads is the own one, because the links are its parent's."""
        self._own_thread = 0
        if self._thread is not None:  # else the descriptor may be another file by now
            close_descriptors(self._wake)

    # The own thread.

    def is_own_thread(self) -> bool:
        """Tell whether the caller is the worker's own thread."""
        if cython.compiled:
            return PyThread_get_thread_ident() == self._own_thread  # type: ignore[no-any-return, unused-ignore]
        return threading.get_ident() == self._own_thread

    def enter(self) -> int:
        """Take the links for the own thread, which may have them already; return the argument for `leave`."""
        if cython.compiled:
            if self._holder == _FLUSHER:
                self._wait()
            before = cython.declare(cython.int, self._holder)
            self._holder = _OWN_THREAD
            return before  # type: ignore[no-any-return, unused-ignore]
        self._mutex.acquire()
        before = self._holder
        self._holder = _OWN_THREAD
        return before

    def leave(self, before: int) -> None:
        """Give the links back, unless the own thread had them before that `enter`."""
        self._holder = before
        if not cython.compiled:
            self._mutex.release()

    def note(self) -> None:
        """Note that output waits. Any thread may call it."""
        if not self.waiting:
            self._since = _now()
            self.waiting = True
        if self._parked:
            self._parked = False
            os.eventfd_write(self._wake, 1)

    def sent(self) -> None:
        """Note that all output is being sent; what is noted from now on is new output."""
        self.waiting = False

    def is_here(self) -> bool:
        """Tell whether the caller is the flusher's thread."""
        return threading.current_thread() is self._thread

    def is_sending(self) -> bool:
        """Tell whether the flusher holds the links."""
        return self._holder == _FLUSHER

    def is_parked(self) -> bool:
        """Tell whether the flusher sleeps until output is noted."""
        return self._parked

    def _wait(self) -> None:
        while self._holder == _FLUSHER:
            time.sleep(PAUSE_S)

    # The thread.

    def look(self, now: float) -> float:
        """Check whether output waits.

        Args:
            now: the time, in monotonic seconds.

        Returns:
            Seconds until the next look; 0 if the flusher must act now: send, or park.
        """
        return self._look(now)

    def _look(self, now: float) -> float:
        if not self.waiting:
            self._idle = self._idle + 1  # "+=" is not allowed without the interpreter lock
            return 0.0 if self._idle >= _IDLE_LOOKS else _DUE_S
        self._idle = 0
        left = self._since + _DUE_S - now
        return left if left > 0.0 else 0.0

    def act(self) -> None:
        """Send the output that waits. If the own thread is using the links, try again at the next look."""
        if self.waiting and not self._sent_it():
            time.sleep(RETRY_S)

    def _sent_it(self) -> bool:
        if not cython.compiled and not self._mutex.acquire(blocking=False):
            return False
        free = self._holder == _NOBODY
        if free:
            self._holder = _FLUSHER
            try:
                self._send()
            except Exception:
                log.exception("output could not be sent while a callback runs")
            finally:
                self._holder = _NOBODY
        if not cython.compiled:
            self._mutex.release()
        return free

    def _run(self) -> None:
        while not self._stopped:
            if self._idle >= _IDLE_LOOKS:
                self._park()
            self._sleep()
            self.act()

    def _sleep(self) -> None:
        """Sleep until there is something to do."""
        if cython.compiled:
            with cython.nogil:
                left = cython.declare(cython.double, self._look(_now()))
                while left > 0.0 and not self._stopped:
                    usleep(cython.cast(cython.uint, left * 1e6))
                    left = self._look(_now())
            return
        left = self._look(_now())
        while left > 0.0 and not self._stopped:
            time.sleep(left)
            left = self._look(_now())

    def _park(self) -> None:
        """Sleep until output is noted or the thread is stopped."""
        self._idle = 0
        self._parked = True
        if not self.waiting and not self._stopped:
            os.eventfd_read(self._wake)
        self._parked = False


def _now() -> float:
    """Return the time in monotonic seconds; compiled, without the interpreter lock."""
    if cython.compiled:
        clock = cython.declare(timespec)  # type: ignore[var-annotated, unused-ignore]
        clock_gettime(CLOCK_MONOTONIC, cython.address(clock))
        return clock.tv_sec + clock.tv_nsec * 1e-9  # type: ignore[no-any-return, unused-ignore]
    return time.monotonic()
