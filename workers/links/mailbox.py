"""Commands of a worker's other threads, in order, for the thread that runs its callbacks or for the flusher.

A thread that is too fast waits in `put`, so the mailbox is bounded. It does not wait for ever: if a callback in the
worker's own thread waits for that thread, neither would go on.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from threading import Condition

from zwoole.shared.errors import BackpressureError
from zwoole.shared.process.forks import close_descriptors, refuse_if_forked
from zwoole.shared.process.log import get_logger

COMMAND_COST = 256  # bytes of memory that a command takes besides its payload
WAIT_S = 30.0

log = get_logger("callbacks")


class Mailbox:
    """The commands that wait.

    Attributes:
        descriptor: readable when there may be a command.
    """

    def __init__(self, limit: int) -> None:
        """Make an empty mailbox.

        Args:
            limit: bytes of commands above which a thread waits.
        """
        self._limit = limit
        self._commands: deque[tuple[int, Callable[[], object]]] = deque()
        self._size = 0
        self._room = Condition()
        self._closed = False
        self._woken = False
        self.descriptor, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def put(self, command: Callable[[], object], size: int) -> None:
        """Have a command run by the worker's own thread or the flusher; wait while there is no room.

        Args:
            command: what to run.
            size: bytes that it carries.

        Raises:
            BackpressureError: there was no room for WAIT_S.
            WrongProcess: this is a forked child, where nothing runs commands.
        """
        refuse_if_forked("push")
        with self._room:
            if not self._room.wait_for(self._has_room, WAIT_S):
                raise BackpressureError("the callback that runs has kept other threads from pushing for too long")
            self.append(command, size)
        self.wake()

    def append(self, command: Callable[[], object], size: int = 0) -> None:
        """Have a command run behind those that wait. Never waits, so the own thread may call it."""
        with self._room:
            self._size += size + COMMAND_COST
            self._commands.append((size + COMMAND_COST, command))

    def has_commands(self) -> bool:
        """Tell whether commands wait."""
        return bool(self._commands)

    def wake(self) -> None:
        """Wake the worker's own thread; may be called by a signal handler."""
        try:
            os.write(self._write_end, b"\0")
        except BlockingIOError:  # the pipe is full, so the thread will wake anyway
            pass
        self._woken = True  # after the write: else `run` could find the pipe empty, and not look again

    def waits(self) -> bool:
        """Tell whether `run` has something to do."""
        return self._woken or bool(self._commands)

    def run(self, may_go_on: Callable[[], bool], present_only: bool = False) -> None:
        """Run the commands, in order.

        Args:
            may_go_on: asked before each command; the first False ends this.
            present_only: whether to leave the commands that come meanwhile.
        """
        most = len(self._commands)
        if self._woken:
            self._woken = False
            try:
                os.read(self.descriptor, 4096)
            except BlockingIOError:
                pass
        while self._commands and not (present_only and most <= 0) and may_go_on():
            most -= 1
            with self._room:
                size, command = self._commands.popleft()
                self._size -= size
                self._room.notify_all()
            try:
                command()
            except Exception:
                log.exception("a command from another thread failed")

    def close(self) -> None:
        """Wake the threads that wait for room; their commands are dropped."""
        with self._room:
            self._closed = True
            self._room.notify_all()

    def abandon(self) -> None:
        """Close the pipe in a forked child, which would otherwise wake its parent through it."""
        close_descriptors(self.descriptor, self._write_end)

    def _has_room(self) -> bool:
        return self._size <= self._limit or self._closed
