"""The events a user can register for: their names, and callbacks that leave off trailing arguments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from zwoole.shared.errors import SettingsError
from zwoole.shared.suggest import did_you_mean

# Event and the arguments its callback may take; IN_WORKERS and IN_SUPERVISOR say where each runs.
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
    "worker_stop": ("server", "worker_id"),
    "worker_error": ("server", "worker_id", "pid", "exit_code", "signal"),
    "start": ("server",),
    "before_shutdown": ("server",),
    "shutdown": ("server",),
}

IN_WORKERS = (
    *("handshake", "open", "message", "adopt", "buffer_full", "buffer_empty", "close"),
    *("pipe_message", "worker_start", "worker_stop"),
)
IN_SUPERVISOR = ("worker_error", "start", "before_shutdown", "shutdown")

Callback = Callable[..., Any]


def event_name(name: str) -> str:
    """Return the event that `name` means: ours, or Swoole's own spelling of it (workerStart).

    Raises:
        SettingsError: there is no such event.
    """
    if not isinstance(name, str):
        raise SettingsError(f"an event's name must be a string, not {name!r}")
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    if snake in EVENTS:
        return snake
    raise SettingsError(f"unknown event {name!r}" + (did_you_mean(snake, EVENTS) or f": there are {', '.join(EVENTS)}"))


def fit(event: str, callback: Callback) -> Callback:
    """Return `callback` made to take all arguments of its event, whatever trailing ones it leaves off.

    Raises:
        SettingsError: it is no callable, or wants more arguments than the event has.
    """
    if not callable(callback):
        raise SettingsError(f"the callback for {event!r} must be a function, not {callback!r}")
    arguments = EVENTS[event]
    count = _positional(callback, len(arguments))
    if count < 0:
        raise SettingsError(f"the callback for {event!r} wants more than ({', '.join(arguments)})")
    if count == len(arguments):
        return callback
    return lambda *given: callback(*given[:count])


def is_coroutine(callback: Callback) -> bool:
    """Tell whether calling it gives a coroutine, also through functools.partial and objects with __call__."""
    while hasattr(callback, "func"):
        callback = callback.func
    call = getattr(callback, "__call__", None)  # noqa: B004 - asked for its kind, not whether it is there
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(call)


def _positional(callback: Callback, offered: int) -> int:
    """Return how many of the offered arguments the callback takes, or -1 where it needs more."""
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature takes what it is given
        return offered
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
