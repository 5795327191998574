"""What a task waits on if the worker's own code wakes it.

A task that awaits one of asyncio's futures is woken through asyncio's loop: the future asks the loop to call the task,
the loop does so in its next iteration. That costs a microsecond, and an iteration of the loop with its system call. A
waiter runs the task's next step inside `wake`, so that a message and its answer need one iteration.

It is a future as far as a task looks at one (`asyncio.isfuture` describes how other classes may be one): a task asks
for its loop, hands it the function that makes the task go on, and may cancel it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from typing import Any, NoReturn, cast

from zwoole.workers.core.steps import call_in


class Waiter:
    """One wait of one task. `await` it, once; `wake` ends the wait."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_cancelled",
        "_context",
        "_done",
        "_loop",
        "_message",
        "_waits",
        "_wakeup",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._wakeup: Callable[[Waiter], object] | None = None  # makes the task go on
        self._context: contextvars.Context | None = None  # the task's
        self._message: Any = None
        self._waits = False
        self._done = False
        self._cancelled = False

    def __repr__(self) -> str:
        state = "cancelled" if self._cancelled else "done" if self._done else "pending"
        return f"<Waiter {state}>"

    # For the owner.

    def wake(self) -> None:
        """End the wait: run the task's next step now. Nothing if the wait has ended already, or is cancelled.

        Only code that no task runs may call it, such as a function that the loop has called.

        SystemExit and KeyboardInterrupt of the task leave asyncio's loop, as they do if the loop runs the step.
        """
        if self._done:
            return
        self._done = True
        if self._wakeup is None:
            return
        try:
            call_in(self._context, self._wakeup, self)
        except (SystemExit, KeyboardInterrupt) as error:
            self._loop.call_soon(_raise, error)

    def wake_soon(self) -> None:
        """End the wait: have the loop run the task's next step, as a future does."""
        if not self._done:
            self._done = True
            if self._wakeup is not None:
                self._loop.call_soon(self._wakeup, self, context=self._context)

    # For the task.

    def __await__(self) -> Generator[Waiter, None, None]:
        return cast("Generator[Waiter, None, None]", self)  # an iterator is enough

    def __iter__(self) -> Waiter:
        return self

    def __next__(self) -> Waiter:
        if self._waits or self._done:
            self._waits = False
            raise StopIteration
        self._waits = True
        self._asyncio_future_blocking = True
        return self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the task that may wait."""
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Waiter], object], *, context: contextvars.Context | None = None
    ) -> None:
        """Take the function that makes the task go on.

        Args:
            callback: the function.
            context: the context to call it in; None: a copy of the present one.
        """
        if context is None:
            context = contextvars.copy_context()
        if self._done:
            self._loop.call_soon(callback, self, context=context)
        else:
            self._wakeup = callback
            self._context = context

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the wait: the task goes on, with CancelledError, in the loop's next iteration.

        Args:
            msg: the message of the CancelledError.

        Returns:
            False if the wait has ended already.
        """
        if self._done:
            return False
        self._done = self._cancelled = True
        self._message = msg
        if self._wakeup is not None:
            self._loop.call_soon(self._wakeup, self, context=self._context)
        return True

    def done(self) -> bool:
        """Tell whether the wait has ended."""
        return self._done

    def cancelled(self) -> bool:
        """Tell whether the wait was cancelled."""
        return self._cancelled

    def result(self) -> None:
        """Return None when the wait has ended.

        Raises:
            CancelledError: it was cancelled.
            InvalidStateError: it goes on.
        """
        if self._cancelled:
            raise asyncio.CancelledError() if self._message is None else asyncio.CancelledError(self._message)
        if not self._done:
            raise asyncio.InvalidStateError


def _raise(error: BaseException) -> NoReturn:
    raise error
