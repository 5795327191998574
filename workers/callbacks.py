"""The events that an app can register callbacks for, and what such a callback may look like."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zwoole.shared import swoole_names
from zwoole.shared.errors import SettingsError

# Each event, and the arguments that its callback may take. From `worker_error` on they run in the supervisor, those
# before it in workers.
EVENTS: dict[str, tuple[str, ...]] = {
    "handshake": ("server", "request"),
    "open": ("server", "request"),
    "message": ("server", "frame"),
    "adopt": ("server", "request"),
    "buffer_full": ("server", "fd"),
    "buffer_empty": ("server", "fd"),
    "close": ("server", "fd", "code", "reason", "initiator"),
    "pipe_message": ("server", "worker_id", "message"),
    "worker_start": ("server", "worker_id"),
    "retire": ("server", "worker_id"),
    "worker_stop": ("server", "worker_id"),
    "worker_error": ("server", "worker_id", "pid", "exit_code", "signal"),
    "start": ("server",),
    "before_shutdown": ("server",),
    "shutdown": ("server",),
}

Callback = Callable[..., Any]

TYPES = {"server": "Server", "request": "Request", "frame": "Frame"}  # the classes of arguments that are zwoole's
MAX_LAYERS = 32  # decorators around a function that are looked through


def event_name(name: str) -> str:
    """Return the event that `name` means, in zwoole's spelling (worker_start) or in Swoole's (workerStart).

    Raises:
        SettingsError: there is no such event.
    """
    if callable(name):
        raise SettingsError(f'an event\'s name must be a string, not {where(name)}: write `@server.on("message")`')
    if not isinstance(name, str):
        raise SettingsError(f"an event's name must be a string, not {name!r}")
    event = swoole_names.snake(name)
    if event in EVENTS:
        return event
    why = swoole_names.explain(name, swoole_names.EVENTS, EVENTS) or f": there are {', '.join(EVENTS)}"
    raise SettingsError(f"unknown event {name!r}{why}")


def fit(event: str, callback: Callback) -> Callback:
    """Return a function that takes all arguments of an event, and calls `callback` with as many as that takes.

    Raises:
        SettingsError: the callback is not a function, could never run, or takes other arguments than the event has.
    """
    if not callable(callback):
        raise SettingsError(f"the callback for {event!r} must be a function, not {callback!r}")
    check_kind(f"the callback for {event!r}", callback)
    arguments = EVENTS[event]
    parameters = _parameters(callback)
    if parameters is None:  # a builtin without a signature: it is called with all arguments
        return callback
    count = _positional(parameters, len(arguments))
    if count < 0:
        raise SettingsError(f"the callback for {event!r} wants more than ({', '.join(arguments)})")
    _check_order(event, parameters[:count])
    if count == len(arguments):
        return callback
    return lambda *given: callback(*given[:count])


def check_handler(path: str, function: Callback) -> None:
    """Check that a handler is a coroutine function that can be called with the connection alone.

    Raises:
        SettingsError: it is not one.
    """
    what = f"the handler for {path!r}"
    check_kind(what, function)
    if not is_coroutine(function):
        raise SettingsError(f"{what} must be an `async def` function, not {function!r}")
    parameters = _parameters(function)
    if parameters is None:
        return
    first = parameters[0] if parameters else None
    # A callback's first parameter would be given the connection here. Its name or its annotation gives it away.
    is_callbacks = first is not None and (first.name in TYPES or _name_of(first.annotation) in TYPES.values())
    if _positional(parameters, 1) < 1 or is_callbacks:
        raise SettingsError(
            f"{what} is given the connection only: write `async def chat(ws)` in the place of {where(function)}"
        )


def check_kind(what: str, function: Callback) -> None:
    """Check that calling a function runs it. A generator function runs only when it is iterated, and a class never.

    Raises:
        SettingsError: it has a `yield`, or is a class; the message begins with `what`.
    """
    called: Any = function
    while isinstance(called, functools.partial):
        called = called.func
    if inspect.isclass(called):
        raise SettingsError(
            f"{what} must be a function, not the class {called.__qualname__}, which would only make an object: give a"
            " method of an object, or an object that has `__call__`"
        )
    for layer in _layers(function):
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            raise SettingsError(f"{what} has a `yield`, so that calling it would run nothing: {where(function)}")


def is_coroutine(callback: Callback) -> bool:
    """Tell whether calling it gives a coroutine, also through functools.partial, decorators and __call__."""
    return any(inspect.iscoroutinefunction(layer) for layer in _layers(callback))


def where(function: Callback) -> str:
    """Return a function's name, with its file and line if they are known."""
    for layer in reversed(list(_layers(function))):
        code = getattr(layer, "__code__", None)
        if code is not None:
            return f"{layer.__qualname__} ({Path(code.co_filename).name}:{code.co_firstlineno})"
    return repr(function)


def _layers(function: Callback) -> Iterator[Callback]:
    """Yield a function and those inside it: what a partial, a decorator, or an object with __call__ calls."""
    layer: Any = function
    for _ in range(MAX_LAYERS):
        yield layer
        inner = getattr(layer, "func", None) or getattr(layer, "__wrapped__", None)
        if inner is None and not inspect.isroutine(layer):
            inner = getattr(layer, "__call__", None)  # noqa: B004 - its kind is wanted, not whether it is there
        if inner is None:
            return
        layer = inner


def _parameters(callback: Callback) -> list[inspect.Parameter] | None:
    """Return the parameters of a callback; None for a builtin without a signature."""
    try:
        return list(inspect.signature(callback).parameters.values())
    except (TypeError, ValueError):
        return None


def _positional(parameters: list[inspect.Parameter], offered: int) -> int:
    """Return how many of the offered arguments the callback takes, or -1 if it needs more."""
    count = required = 0
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            return offered if required <= offered else -1
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            count += 1
            required += parameter.default is parameter.empty
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            return -1
    return min(count, offered) if required <= offered else -1


def _check_order(event: str, parameters: list[inspect.Parameter]) -> None:
    """Check that no parameter has the name or the type of an argument in another position.

    Raises:
        SettingsError: a parameter has.
    """
    arguments = EVENTS[event]
    for given, parameter in zip(arguments, parameters, strict=False):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return
        named = f"{parameter.name!r}" if parameter.name != given and parameter.name in arguments else ""
        kind = _name_of(parameter.annotation)
        typed = f"{parameter.name!r}, a {kind}," if kind in TYPES.values() and kind != TYPES.get(given) else ""
        if named or typed:
            raise SettingsError(
                f"the callback for {event!r} is called with ({', '.join(arguments)}), but has {named or typed} in the"
                f" place of {given!r}"
            )


def _name_of(annotation: Any) -> str:
    """Return the name of the class in an annotation, which may be a string; "" if it is more than a name."""
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return name.strip("'\"").rpartition(".")[2]
