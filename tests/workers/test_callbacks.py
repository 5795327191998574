"""The names of events, and callbacks that omit trailing arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from zwoole import Frame, Server
from zwoole.shared.errors import SettingsError
from zwoole.workers.callbacks import event_name, fit, is_coroutine


class Object:
    def method(self, server: object, fd: int) -> object:
        return (server, fd)

    def __call__(self, server: object) -> object:
        return (server,)


class AsyncObject:
    async def __call__(self, *_: object) -> None: ...

    async def method(self) -> None: ...


async def coroutine(*_: object) -> None: ...


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("message", "message"),
        ("Message", "message"),
        ("worker_start", "worker_start"),
        ("workerStart", "worker_start"),
        ("WorkerStart", "worker_start"),
        ("WORKER_START", "worker_start"),
        ("beforeShutdown", "before_shutdown"),
    ],
)
def test_swooles_spelling_means_the_same_event(name: str, event: str) -> None:
    assert event_name(name) == event


@pytest.mark.parametrize("name", ["mesage", "onMessage", "receive", "", 5, None])
def test_an_unknown_event_is_an_error_that_helps(name: Any) -> None:
    with pytest.raises(SettingsError) as info:
        event_name(name)
    if name == "mesage":
        assert "did you mean 'message'?" in str(info.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("task", "unknown event 'task', which Swoole has: zwoole has no task workers"),
        ("WorkerExit", "unknown event 'WorkerExit', which Swoole has: the event is named `retire`"),
        ("request", "which Swoole has: zwoole does not answer plain HTTP requests"),
        ("connect", "`open` and `close` report every WebSocket connection"),
    ],
)
def test_an_event_of_swooles_that_is_not_here_is_answered_with_what_is_true(name: str, words: str) -> None:
    with pytest.raises(SettingsError) as info:
        event_name(name)
    assert words in str(info.value)
    assert "did you mean" not in str(info.value)


@pytest.mark.parametrize(
    ("callback", "given"),
    [
        (lambda: (), 0),
        (lambda server: (server,), 1),
        (lambda server, fd: (server, fd), 2),
        (lambda server, fd, code=0: (server, fd, code), 3),
        (lambda *arguments: arguments, 5),
        (lambda server, *arguments: (server, *arguments), 5),
        (lambda server, fd, code, reason, initiator: (server, fd, code, reason, initiator), 5),
        (lambda s, f, c, r, i, more="own": (s, f, c, r, i) if more == "own" else (), 5),
        (lambda server, *, named=1: (server,), 1),
        (lambda **named: (), 0),
        (Object().method, 2),
        (Object(), 1),
        (functools.partial(lambda own, server, fd: (server, fd), "own"), 2),
    ],
)
def test_a_callback_gets_as_many_arguments_as_it_takes(callback: Callable[..., Any], given: int) -> None:
    arguments = ("server", 1, 1000, "reason", "client")
    assert fit("close", callback)(*arguments) == arguments[:given]


def test_a_callback_that_takes_all_is_called_directly() -> None:
    def callback(server: object, frame: object) -> None: ...

    assert fit("message", callback) is callback


@pytest.mark.parametrize(
    "callback", [lambda a, b, c: None, lambda a, b, c, *d: None, lambda a, *, needed: None, None, "name", 5]
)
def test_a_callback_that_cannot_be_called_so_is_an_error(callback: Any) -> None:
    with pytest.raises(SettingsError, match="message"):
        fit("message", callback)


def generator(server: object) -> Iterator[int]:
    yield 1


async def async_generator(server: object) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "callback", [generator, async_generator, functools.partial(generator), functools.wraps(generator)(lambda *_: None)]
)
def test_a_callback_that_calling_does_not_run_is_an_error(callback: Callable[..., Any]) -> None:
    with pytest.raises(SettingsError, match=r"'open' has a `yield`.*generator \(test_callbacks.py:\d+\)"):
        fit("open", callback)


@pytest.mark.parametrize("callback", [Object, AsyncObject, functools.partial(Object), dict])
def test_a_class_is_no_callback(callback: Any) -> None:
    """Calling it creates an object and runs none of its methods."""
    with pytest.raises(SettingsError, match="the callback for 'open' must be a function, not the class "):
        fit("open", callback)


def test_a_function_that_wraps_a_class_is_a_callback() -> None:
    callback = functools.wraps(Object)(lambda server, request: None)
    callback.__signature__ = inspect.Signature()  # type: ignore[attr-defined]
    fit("open", callback)


def typed(server: Frame, frame: Server) -> None: ...


def typed_with_classes(first: Frame) -> None: ...


@pytest.mark.parametrize(
    ("event", "callback", "words"),
    [
        ("message", lambda frame: None, "has 'frame' in the place of 'server'"),
        ("message", lambda frame, server: None, "has 'frame' in the place of 'server'"),
        ("message", typed, "has 'server', a Frame, in the place of 'server'"),
        ("message", typed_with_classes, "has 'first', a Frame, in the place of 'server'"),
        ("open", lambda request: None, "has 'request' in the place of 'server'"),
        ("close", lambda fd, *others: None, "called with (server, fd, code, reason, initiator)"),
        ("close", lambda server, code: None, "has 'code' in the place of 'fd'"),
        ("worker_start", lambda worker_id, server=None: None, "has 'worker_id' in the place of 'server'"),
        ("message", functools.partial(lambda own, frame: None, "own"), "has 'frame' in the place of 'server'"),
    ],
)
def test_a_callback_whose_parameters_stand_in_another_order_is_an_error(
    event: str, callback: Callable[..., Any], words: str
) -> None:
    with pytest.raises(SettingsError) as info:
        fit(event, callback)
    assert words in str(info.value)


def annotated(server: Server, frame: Frame) -> None: ...


def annotated_otherwise(server: Any, frame: "dict[str, int]") -> None: ...  # noqa: UP037


@pytest.mark.parametrize(
    "callback", [annotated, annotated_otherwise, lambda s, f: None, lambda ws, message: None, lambda *request: None]
)
def test_other_names_and_types_are_the_apps_own(callback: Callable[..., Any]) -> None:
    assert fit("message", callback) is callback


def test_a_builtin_without_a_signature_takes_what_it_is_given() -> None:
    assert fit("message", print) is print
    fit("message", dict.fromkeys)


@pytest.mark.parametrize(
    "callback",
    [
        coroutine,
        functools.partial(functools.partial(coroutine, 1), 2),
        functools.wraps(coroutine)(lambda *arguments: coroutine(*arguments)),
        AsyncObject(),
        AsyncObject().method,
    ],
)
def test_coroutine_functions_are_known_in_any_dress(callback: Callable[..., Any]) -> None:
    assert is_coroutine(callback)


@pytest.mark.parametrize("callback", [print, lambda: None, Object(), functools.partial(print, 1)])
def test_plain_functions_are_not_coroutines(callback: Callable[..., Any]) -> None:
    assert not is_coroutine(callback)
