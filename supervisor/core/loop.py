"""The supervisor's loop: waits for descriptors, signals, timers, and calls from other threads."""

from __future__ import annotations

import collections
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping

from zwoole.shared.process import forks, signals

MAX_SLEEP_S = 1.0

Later = Callable[[float, Callable[[], None]], None]


class Loop:
    """Waits for events. Its caller handles them."""

    def __init__(self) -> None:
        """Begin with nothing to wait for."""
        self._poll = select.poll()
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._handed_over: collections.deque[Callable[[], None]] = collections.deque()
        self._signals: collections.deque[int] = collections.deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.watch(self._wake_read)

    @property
    def has_timers(self) -> bool:
        """Whether something is to be called later."""
        return bool(self._due)

    def watch(self, descriptor: int) -> None:
        """Wake up when a descriptor is readable."""
        self._poll.register(descriptor, select.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Take no more notice of a descriptor."""
        self._poll.unregister(descriptor)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call a function after a number of seconds."""
        self._due.append((time.monotonic() + seconds, call))

    def forget_timers(self) -> None:
        """Cancel all calls that are due later."""
        self._due.clear()

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call a function in the loop's thread; may be called in any thread."""
        self._handed_over.append(call)
        os.write(self._wake_write, b"\0")

    def queue_signals(self, numbers: Iterable[int]) -> None:
        """Install handlers for these signals, which only queue them, and let signals through."""

        def queue(number: int, _: object) -> None:
            self._signals.append(number)

        for number in numbers:
            signals.install(number, queue)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signals.unblock()

    def wait(self, longest_s: float = MAX_SLEEP_S) -> list[int]:
        """Wait until something has happened or is due, and return the descriptors that are readable.

        Args:
            longest_s: how long to wait at most; 0 only looks.
        """
        sleep_s = min([longest_s, *(when - time.monotonic() for when, _ in self._due)])
        ready = [descriptor for descriptor, _ in self._poll.poll(max(sleep_s, 0) * 1000)]
        if self._wake_read in ready:
            ready.remove(self._wake_read)
        return ready

    def run_signals(self, handlers: Mapping[int, Callable[[], None]]) -> None:
        """Call the handlers of the signals that have come."""
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
        while self._signals:
            handlers[self._signals.popleft()]()

    def run_due(self) -> None:
        """Call what other threads have handed over, and what is due."""
        while self._handed_over:
            self._handed_over.popleft()()
        now = time.monotonic()
        ready = [call for when, call in self._due if when <= now]
        self._due = [entry for entry in self._due if entry[0] > now]
        for call in ready:
            call()

    def close(self) -> None:
        """Give the signals back, and close what is the loop's; in a forked child too."""
        signal.set_wakeup_fd(-1)
        signals.restore()
        forks.close_descriptors(self._wake_read, self._wake_write)
