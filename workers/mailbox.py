"""What other threads of a worker want done: commands, in order, for the thread that runs its callbacks or the flusher.

A thread that is too fast waits in `put`, so that what lies here is bounded. It cannot wait for ever: where the worker's
own thread waits for that one in a callback, neither would go on.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from threading import Condition

from zwoole.shared.errors import BackpressureError
from zwoole.shared.process.forks import close_descriptors, refuse_if_forked
from zwoole.shared.process.log import get_logger

COMMAND_COST = 256  # bytes of memory that a command takes beside its payload
WAIT_S = 30.0

log = get_logger("callbacks")


class Mailbox:
    """Commands on their way from other threads.

    Attributes:
        descriptor: readable when there may be one.
    """

    def __init__(self, limit: int) -> None:
        """Make an empty one.

        Args:
            limit: bytes of commands past which a thread waits.
        """
        self._limit = limit
        self._commands: deque[tuple[int, Callable[[], object]]] = deque()
        self._size = 0
        self._room = Condition()
        self._closed = False
        self._woken = False
        self.descriptor, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def put(self, command: Callable[[], object], size: int) -> None:
        """Have the worker's own thread run a command; waits while there is no room.

        Args:
            command: what to run.
            size: bytes that it carries.

        Raises:
            BackpressureError: the worker's own thread has made no room for long.
            WrongProcess: this is a forked child, which has no such thread.
        """
        refuse_if_forked("push")
        with self._room:
            if not self._room.wait_for(self._has_room, WAIT_S):
                raise BackpressureError("the callback that runs has kept other threads from pushing for too long")
            self.append(command, size)
        self.wake()

    def append(self, command: Callable[[], object], size: int = 0) -> None:
        """Have a command run behind those that wait; never waits, so it is for the own thread."""
        with self._room:
            self._size += size + COMMAND_COST
            self._commands.append((size + COMMAND_COST, command))

    def has_commands(self) -> bool:
        """Tell whether commands wait."""
        return bool(self._commands)

    def wake(self) -> None:
        """Have the worker's own thread look round; may be called by a signal handler."""
        try:
            os.write(self._write_end, b"\0")
        except BlockingIOError:  # it is awake, with a pipe full of reasons
            pass
        self._woken = True  # behind the write: a look at the pipe before it would find nothing, and not look again

    def waits(self) -> bool:
        """Tell whether `run` has something to do."""
        return self._woken or bool(self._commands)

    def run(self, may_go_on: Callable[[], bool]) -> None:
        """Run the commands, as long as `may_go_on` says so."""
        if self._woken:
            self._woken = False
            try:
                os.read(self.descriptor, 4096)
            except BlockingIOError:
                pass
        while self._commands and may_go_on():
            with self._room:
                size, command = self._commands.popleft()
                self._size -= size
                self._room.notify_all()
            try:
                command()
            except Exception:
                log.exception("a command from another thread failed")

    def close(self) -> None:
        """Let the threads that wait go: nothing is run any more."""
        with self._room:
            self._closed = True
            self._room.notify_all()

    def abandon(self) -> None:
        """Close the pipe in a forked child, which would wake its parent by it."""
        close_descriptors(self.descriptor, self._write_end)

    def _has_room(self) -> bool:
        return self._size <= self._limit or self._closed
