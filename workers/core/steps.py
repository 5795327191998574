"""The steps of one callback: the call, and what follows each await; all in a context of the callback's own.

Context variables that a callback sets are its own: what runs after it in the same task does not see them. So its steps
run in a copy of the task's context.

Compiled, a step costs no exception: `PyIter_Send` returns a coroutine's result, where `send` raises StopIteration.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable
from typing import Any

try:
    import cython
except ImportError:
    from zwoole.shared.uncompiled import cython  # type: ignore[assignment, no-redef, unused-ignore]

if cython.compiled:
    from cython.cimports.cpython.contextvars import (  # type: ignore[import-not-found, unused-ignore]
        PyContext_CopyCurrent,
        PyContext_Enter,
        PyContext_Exit,
    )
    from cython.cimports.cpython.object import PyObject  # type: ignore[import-not-found, unused-ignore]
    from cython.cimports.cpython.ref import Py_DECREF, Py_REFCNT  # type: ignore[import-not-found, unused-ignore]
    from cython.cimports.zwoole.workers.core.iteration import PYGEN_NEXT, PyIter_Send


class Steps:
    """The steps of one callback after another.

    Attributes:
        coroutine: the coroutine whose steps are run; None while none is.
        ended: whether the last step was the coroutine's last.
        result: what the coroutine has returned, when it has ended.
    """

    __slots__ = ("_context", "coroutine", "ended", "result")

    def __init__(self) -> None:
        self.coroutine: Any = None
        self.ended = False
        self.result: Any = None
        self._context: Any = None

    def begin(self) -> None:
        """Begin a new callback, in a copy of the present context."""
        self.ended = False
        if cython.compiled:
            self._context = PyContext_CopyCurrent()
        else:
            self._context = contextvars.copy_context()

    def call(self, callback: Callable[[Any, Any], Any], server: Any, argument: Any) -> Any:
        """Call a callback with two arguments; return what it returns."""
        if cython.compiled:
            context = self._context
            PyContext_Enter(context)
            try:
                return callback(server, argument)
            finally:
                PyContext_Exit(context)
        return self._context.run(callback, server, argument)

    def call_all(self, callback: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Call a callback with any arguments; return what it returns."""
        return self._context.run(callback, *arguments)

    def send(self) -> Any:
        """Run the coroutine up to its next await; return what it awaits, None if it has ended."""
        if cython.compiled:
            context = self._context
            value = cython.declare(cython.pointer(PyObject), cython.NULL)
            PyContext_Enter(context)
            try:
                status = PyIter_Send(self.coroutine, None, cython.address(value))
            finally:
                PyContext_Exit(context)
            returned = cython.cast(object, value)
            Py_DECREF(returned)  # the reference that PyIter_Send gave
            if status == PYGEN_NEXT:
                return returned
            self.ended = True
            self.result = returned
            return None
        return self._send(self.coroutine.send, None)

    def throw(self, error: BaseException) -> Any:
        """Raise an exception where the coroutine awaits; otherwise as `send`."""
        return self._send(self.coroutine.throw, error)

    def _send(self, method: Callable[[Any], Any], argument: Any) -> Any:
        try:
            return self._context.run(method, argument)
        except StopIteration as stop:
            self.ended = True
            self.result = stop.value
            return None

    def end(self) -> None:
        """Forget the callback."""
        self.coroutine = self.result = self._context = None


def call_in(context: Any, function: Callable[[Any], object], argument: Any) -> None:
    """Call a function with one argument in a context."""
    if cython.compiled:
        PyContext_Enter(context)
        try:
            function(argument)
        finally:
            PyContext_Exit(context)
    else:
        context.run(function, argument)


def references(value: object) -> int:
    """Return how many references to an object there are; only differences between two calls mean something."""
    if cython.compiled:
        return Py_REFCNT(value)  # type: ignore[no-any-return, unused-ignore]
    return sys.getrefcount(value)
