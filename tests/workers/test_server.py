"""The `Server` object, before and outside of a running server."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import pytest

from zwoole import Frame, Server
from zwoole.shared.errors import SettingsError, StartError, WrongProcess
from zwoole.workers import role
from zwoole.workers.server import install_commands


@pytest.fixture
def server() -> Server:
    return Server("0.0.0.0", 9000, worker_num=3)


def on_message(server: Server, frame: object) -> None: ...


async def handler(ws: object) -> None: ...


def test_settings_come_from_the_call_and_from_set(server: Server) -> None:
    assert (server.settings.host, server.settings.port, server.settings.worker_num) == ("0.0.0.0", 9000, 3)
    server.set({"worker_num": 5}, backlog=100)
    server.set(reactor_num=2)
    assert (server.settings.worker_num, server.settings.backlog, server.settings.reactor_num) == (5, 100, 2)
    assert repr(server) == "<Server 0.0.0.0:9000 worker_num=5>"


@pytest.mark.parametrize("settings", [{"worker_nums": 1}, {"worker_num": 0}, {"worker_num": "1"}, {"port": True}])
def test_a_wrong_setting_is_an_error_and_changes_nothing(server: Server, settings: dict[str, Any]) -> None:
    before = server.settings
    with pytest.raises(SettingsError, match=next(iter(settings))):
        server.set(settings)
    assert server.settings is before
    with pytest.raises(SettingsError):
        Server(**settings)


@pytest.mark.parametrize("more", [(2,), (2, 1), ({"worker_num": 2},)])
def test_swooles_third_argument_is_one_line(more: tuple[Any, ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        Server("127.0.0.1", 9150, *more)
    assert str(caught.value) == (
        "Server(host, port) takes no third argument, such as Swoole's mode, but settings by name:"
        " Server('127.0.0.1', 9150, worker_num=2)"
    )


@pytest.mark.parametrize("given", [[("worker_num", 2)], [], "worker_num", 0, {"worker_num"}])
def test_set_takes_a_mapping(server: Server, given: Any) -> None:
    with pytest.raises(TypeError) as caught:
        server.set(given)
    assert str(caught.value) == f'set() takes a dict, as in server.set({{"worker_num": 2}}), not {given!r}'
    server.set(None)
    assert server.settings.worker_num == 3


def test_callbacks_are_registered_as_decorators_and_at_once(server: Server) -> None:
    assert server.on("message")(on_message) is on_message
    assert server.on("workerStart", on_message) is on_message
    assert server.callbacks == {"message": on_message, "worker_start": on_message}
    assert not server.has_coroutines
    server.on("close", handler)
    assert server.has_coroutines


def test_a_second_callback_for_an_event_is_an_error_that_names_both(server: Server) -> None:
    server.on("message")(on_message)
    server.on("message")(on_message)  # registering the same callback again changes nothing
    words = r"'message' has a callback already: on_message \(test_server.py:\d+\); call the second, handler \(test_"
    with pytest.raises(SettingsError, match=words):
        server.on("message")(handler)
    assert server.callbacks == {"message": on_message}


@pytest.mark.parametrize("path", ["/ws/{room}", "/{a}/{b}", "/ws}", "/*", "/chat/*/log", "/ws?room=1", "/ws/<room>"])
def test_a_path_with_parameters_is_an_error(server: Server, path: str) -> None:
    with pytest.raises(SettingsError, match="there are no path parameters"):
        server.handler(path)


def test_a_callback_of_none_is_no_missing_callback(server: Server) -> None:
    """A callback that is None by mistake must not turn `on` into a decorator that decorates nothing."""
    with pytest.raises(SettingsError, match="the callback for 'message' must be a function, not None"):
        server.on("message", None)  # type: ignore[type-var]
    assert server.callbacks == {}


def test_decorators_with_empty_parentheses_are_errors_that_say_what_to_write(server: Server) -> None:
    with pytest.raises(SettingsError, match=r"the name of an event is missing: write `@server.on\(\"message\"\)`"):
        server.on()  # type: ignore[call-overload]
    with pytest.raises(SettingsError, match=r"the name of an event is missing"):
        server.on(callback=on_message)  # type: ignore[call-overload]
    with pytest.raises(SettingsError, match=r"the path of a handler is missing: write `@server.handler\(\"/path\"\)`"):
        server.handler()


def test_decorators_without_parentheses_are_errors_that_say_what_to_write(server: Server) -> None:
    with pytest.raises(
        SettingsError, match=r"not on_message \(test_server.py:\d+\): write `@server.on\(\"message\"\)`"
    ):
        server.on(on_message)  # type: ignore[call-overload]
    with pytest.raises(
        SettingsError, match=r"not handler \(test_server.py:\d+\): write `@server.handler\(\"/path\"\)`"
    ):
        server.handler(handler)  # type: ignore[arg-type]


class Chat:
    async def serve(self, ws: object) -> None: ...

    async def __call__(self, ws: object) -> None: ...


async def without_arguments() -> None: ...


async def with_a_server(server: object, ws: object) -> None: ...


async def with_a_keyword(ws: object, *, room: str) -> None: ...


async def with_named_ones(**named: object) -> None: ...


async def of_a_server_only(server: object) -> None: ...


async def with_a_frame(first: "Frame") -> None: ...  # noqa: UP037


@pytest.mark.parametrize(
    "function",
    [
        *(without_arguments, with_a_server, with_a_keyword, with_named_ones, of_a_server_only, with_a_frame),
        *(Chat.serve, Chat().serve.__func__, functools.partial(without_arguments)),
        functools.partial(handler, object()),
    ],
)
def test_a_handler_that_does_not_take_the_connection_alone_is_an_error(server: Server, function: Any) -> None:
    words = r"the handler for '/ws' is given the connection only: write `async def chat\(ws\)` in the place of "
    with pytest.raises(SettingsError, match=words):
        server.handler("/ws")(function)
    assert server.handlers == {}


async def with_defaults(ws: object, room: str = "lobby", *, log: bool = True) -> None: ...


async def with_any(*arguments: object) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        *(handler, with_defaults, with_any, Chat(), Chat().serve, functools.partial(with_a_server, "server")),
        functools.partial(with_a_keyword, room="lobby"),
    ],
)
def test_a_handler_that_can_be_called_with_the_connection_is_right(server: Server, function: Any) -> None:
    assert server.handler("/ws")(function) is function


@pytest.mark.parametrize("function", [Chat, functools.partial(Chat)])
def test_a_class_is_no_handler(server: Server, function: Any) -> None:
    with pytest.raises(SettingsError, match="the handler for '/ws' must be a function, not the class Chat"):
        server.handler("/ws")(function)


def test_a_handler_with_yield_is_an_error(server: Server) -> None:
    async def stream(ws: object) -> AsyncIterator[int]:
        yield 1

    with pytest.raises(SettingsError, match="the handler for '/ws' has a `yield`"):
        server.handler("/ws")(stream)


def test_after_start_nothing_can_be_set_or_registered(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role, "_starter", lambda _: None)
    server.on("message", on_message)
    server.start()
    for call in (
        lambda: server.set(worker_num=7),
        lambda: server.on("open", lambda: None),
        lambda: server.handler("/ws"),
    ):
        with pytest.raises(SettingsError, match=r"after start\(\)"):
            call()
    assert server.settings.worker_num == 3


def test_start_in_a_running_loop_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Server] = []
    monkeypatch.setattr(role, "_starter", started.append)
    server.on("message", on_message)

    async def main() -> None:
        server.start()

    with pytest.raises(WrongProcess, match="call it from the script itself"):
        asyncio.run(main())
    assert started == []


def test_a_process_starts_one_server_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not another server, nor from inside, with and without an asyncio loop."""
    said: list[str] = []
    other = Server()
    other.on("message", on_message)
    server.on("message", on_message)

    async def in_a_loop() -> None:
        other.start()

    def serving(_: Server) -> None:
        for start in (server.start, other.start, lambda: asyncio.run(in_a_loop())):
            with pytest.raises(WrongProcess) as info:
                start()
            said.append(str(info.value))

    monkeypatch.setattr(role, "_starter", serving)
    server.start()
    assert [words.startswith("start() was called while this process serves already") for words in said] == [True] * 3
    for start in (server.start, other.start):
        with pytest.raises(WrongProcess, match=r"start\(\) was called a second time"):
            start()
    other.set(worker_num=1)  # it has not started


def test_a_start_that_ends_by_an_exception_was_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(_: Server) -> None:
        raise SystemExit(4)

    monkeypatch.setattr(role, "_starter", ends)
    server.on("message", on_message)
    with pytest.raises(SystemExit):
        server.start()
    with pytest.raises(WrongProcess, match="a second time"):
        server.start()


def test_a_server_that_could_not_start_may_be_started_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a script that waits until its port is free."""
    started: list[Server] = []

    def starter(server: Server) -> None:
        started.append(server)
        if len(started) == 1:
            raise StartError("the port is in use")

    monkeypatch.setattr(role, "_starter", starter)
    server.on("message", on_message)
    with pytest.raises(StartError):
        server.start()
    server.start()
    assert started == [server, server]


def test_start_in_a_thread_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Server] = []
    errors: list[BaseException] = []
    monkeypatch.setattr(role, "_starter", started.append)
    server.on("message", on_message)

    def run() -> None:
        try:
            server.start()
        except WrongProcess as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert started == []
    assert "call it from the script itself" in str(errors[0])


@pytest.mark.parametrize("event", ["mesage", 5])
def test_an_unknown_event_is_an_error(server: Server, event: Any) -> None:
    with pytest.raises(SettingsError):
        server.on(event)


def test_handlers_are_coroutine_functions_one_for_each_path(server: Server) -> None:
    assert server.handler("/ws")(handler) is handler
    assert server.handlers == {"/ws": handler}
    assert server.has_coroutines
    with pytest.raises(SettingsError, match="already"):
        server.handler("/ws")(handler)
    with pytest.raises(SettingsError, match="async def"):
        server.handler("/other")(on_message)
    for path in ("ws", "", None, handler):
        with pytest.raises(SettingsError, match="begin with"):
            server.handler(path)  # type: ignore[arg-type]


def test_a_server_without_anything_to_serve_does_not_start(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Server] = []
    monkeypatch.setattr(role, "_starter", started.append)
    server.on("open", lambda: None)
    with pytest.raises(SettingsError, match="nothing to serve"):
        server.start()
    server.on("message", on_message)
    server.start()
    assert started == [server]


def test_start_in_a_process_that_multiprocessing_spawned_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Server] = []
    monkeypatch.setattr(role, "_starter", started.append)
    monkeypatch.setitem(sys.modules, "__mp_main__", ModuleType("__mp_main__"))
    server.on("message", on_message)
    with pytest.raises(WrongProcess, match="__main__"):
        server.start()
    assert started == []


def test_an_app_may_import_multiprocessing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Server] = []
    monkeypatch.setattr(role, "_starter", started.append)
    monkeypatch.setitem(sys.modules, "__mp_main__", ModuleType("__main__"))  # as that import does
    server.on("message", on_message)
    server.start()
    assert started == [server]


def test_commands_outside_of_workers_say_where_they_work(server: Server) -> None:
    for name, arguments in (
        ("push", (1, "a")),
        ("broadcast", ("a",)),
        ("disconnect", (1,)),
        ("ping", (1,)),
        ("set_state", (1, "a")),
        ("send_message", ("a", 1)),
        ("exists", (1,)),
        ("is_established", (1,)),
        ("buffered_amount", (1,)),
    ):
        with pytest.raises(WrongProcess, match=name):
            getattr(server, name)(*arguments)
    with pytest.raises(WrongProcess, match="drain"):
        server.drain().send(None)
    assert server.worker_id is None


def test_a_process_binds_its_own_commands(server: Server) -> None:
    install_commands(server, {"push": lambda fd, data: (fd, data)})
    assert server.push(5, "a") == (5, "a")  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sendMessage", ": it is named 'send_message'"),
        ("isEstablished", ": it is named 'is_established'"),
        ("task", ", which Swoole has: zwoole has no task workers"),
        ("taskWaitMulti", ", which Swoole has: zwoole has no task workers"),
        ("tick", ", which Swoole has: zwoole has no timers"),
        ("getClientInfo", ", which Swoole has: the request that `open`, `adopt` and a handler receive has the address"),
        ("bind", ", which Swoole has: keep the user's id with `set_state`"),
        ("getLastError", ", which Swoole has: a command returns False, or raises"),
    ],
)
def test_a_name_that_a_server_does_not_have_is_an_error_that_helps(server: Server, name: str, words: str) -> None:
    with pytest.raises(AttributeError) as info:
        getattr(server, name)
    assert str(info.value).startswith(f"a server has no {name!r}{words}")
    assert info.value.name == name
    assert info.value.obj is server
    assert not hasattr(server, name)
    assert not hasattr(Server, name)


def test_a_server_has_no_hook_that_slows_down_its_attributes() -> None:
    assert not hasattr(Server, "__getattr__")


def test_an_app_may_keep_values_of_its_own_with_the_server(server: Server) -> None:
    server.names = {}  # type: ignore[attr-defined]
    assert server.names == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("module", "function"), [("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched")]
)
@pytest.mark.parametrize("patched", [["select", "subprocess"], ["socket"], []])
def test_start_with_modules_that_are_replaced_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch, module: str, function: str, patched: list[str]
) -> None:
    started: list[Server] = []
    fake = ModuleType(module)
    setattr(fake, function, patched.__contains__)
    monkeypatch.setitem(sys.modules, module, fake)
    monkeypatch.setattr(role, "_starter", started.append)
    server.on("message", on_message)
    if "select" in patched:
        with pytest.raises(StartError, match="has replaced Python's modules select, subprocess"):
            server.start()
    else:
        server.start()
    assert bool(started) is ("select" not in patched)
