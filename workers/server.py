"""The object that users hold: callbacks and settings in, commands out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn, TypeVar, overload

from zwoole.shared import swoole_names
from zwoole.shared.errors import SettingsError, WrongProcess
from zwoole.shared.process.forks import refuse
from zwoole.shared.settings import Settings
from zwoole.workers import role
from zwoole.workers.events import Callback, check_handler, event_name, fit, is_coroutine, where
from zwoole.workers.handlers import Handler

F = TypeVar("F", bound=Callable[..., Any])
Data = str | bytes | bytearray | memoryview

PATTERNS = "{}<>*?"  # what stands for parameters, wildcards and queries in the paths of other frameworks
_LEFT_OUT: Any = object()  # so that None, which is no callback, is refused as such

COMMANDS = (
    *("push", "ping", "broadcast", "disconnect", "set_state", "send_message"),
    *("exists", "is_established", "buffered_amount", "drain", "stats"),
)


class Server:
    """A WebSocket server, made of callbacks as in Swoole, of handlers as in Go, or of both.

    The script that makes it is run by the supervisor and by every worker. `push` and the other commands work in
    callbacks, handlers, and threads and tasks that they start. They raise NotServing in `worker_start` and after the
    worker's end, when the worker is not connected to the masters; WrongProcess before `start()`, in the supervisor's
    callbacks and in forked children. `stats` works in all processes of a running server.
    """

    worker_id: int | None = None
    """This worker's number, from 0; None outside workers."""

    retiring: bool = False
    """Whether this worker is to end: it was replaced, or the server stops. Connections may keep it alive for a while,
    but timers and listeners of the app must end now; the event `retire` tells of it."""

    def __init__(self, host: str = "127.0.0.1", port: int = 8080, *more: NoReturn, **settings: Any) -> None:
        """Make a server that is to listen on `host` and `port`.

        Args:
            host: address or host name.
            port: TCP port; 0 takes a free one.
            more: nothing; Swoole has its mode and socket type here.
            settings: any setting by its name.

        Raises:
            SettingsError: an unknown setting, a value that one cannot have, or a third argument without a name.
        """
        if more:
            raise SettingsError(
                f"Server(host, port) takes no third argument, such as Swoole's mode, but settings by name:"
                f" Server({host!r}, {port!r}, worker_num=2)"
            )
        self.settings = Settings().update({"host": host, "port": port, **settings})
        self.callbacks: dict[str, Callback] = {}
        self.handlers: dict[str, Handler] = {}
        self.has_coroutines = False
        self._registered: dict[str, Callable[..., Any]] = {}  # callbacks as they were given to us
        self._started = False

    def __repr__(self) -> str:
        return f"<Server {self.settings.host}:{self.settings.port} worker_num={self.settings.worker_num}>"

    def __dir__(self) -> list[str]:
        """Return the names that a server has, for completion and suggestions: without those that only say why not."""
        absent = [name for name, value in vars(Server).items() if isinstance(value, _Absent)]
        return sorted({*super().__dir__()} - {*absent})

    # Before start.

    def set(self, settings: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Change settings, as a mapping or by keyword, before `start()`.

        Raises:
            SettingsError: an unknown setting, a value that one cannot have, or `start()` was called already.
            TypeError: the settings are no mapping.
        """
        self._check_not_started("set")
        if settings is not None and not isinstance(settings, Mapping):
            raise TypeError(f'set() takes a dict, as in server.set({{"worker_num": 2}}), not {settings!r:.80}')
        self.settings = self.settings.update({**(settings or {}), **more})

    @overload
    def on(self, event: str) -> Callable[[F], F]: ...

    @overload
    def on(self, event: str, callback: F) -> F: ...

    def on(self, event: str = _LEFT_OUT, callback: F = _LEFT_OUT) -> F | Callable[[F], F]:
        """Register the callback for an event, as a decorator or at once, before `start()`.

        Args:
            event: handshake, open, message, adopt, buffer_full, buffer_empty, close, pipe_message, worker_start,
                retire, worker_stop (run in workers), worker_error, start, before_shutdown or shutdown (run in the
                supervisor); Swoole's spelling is accepted.
            callback: `def` or `async def`; it may leave off trailing arguments.

        Raises:
            SettingsError: there is no such event, it is missing or has a callback already, the callback is no function,
                wants other arguments than it is given or is a generator function or a class, or `start()` was called
                already.
        """
        self._check_not_started("on")
        if event is _LEFT_OUT:
            raise SettingsError('the name of an event is missing: write `@server.on("message")`')
        name = event_name(event)

        def register(function: F) -> F:
            fitted = fit(name, function)
            before = self._registered.setdefault(name, function)
            if before is not function:
                raise SettingsError(
                    f"{name!r} has a callback already: {where(before)}; call the second, {where(function)}, from it"
                )
            self.callbacks[name] = fitted
            self.has_coroutines = self.has_coroutines or is_coroutine(function)
            return function

        return register if callback is _LEFT_OUT else register(callback)

    def handler(self, path: str = _LEFT_OUT) -> Callable[[F], F]:
        """Register a coroutine function that serves each connection to `path`.

        Raises:
            SettingsError: the path is missing, does not begin with "/", is a pattern or has a handler already, the
                function is no coroutine or cannot be called with the connection alone, or `start()` was called already.
        """
        self._check_not_started("handler")
        if path is _LEFT_OUT:
            raise SettingsError('the path of a handler is missing: write `@server.handler("/path")`')
        if callable(path):
            raise SettingsError(
                f"a handler's path must begin with '/', not {where(path)}: write `@server.handler(\"/path\")`"
            )
        if not isinstance(path, str) or not path.startswith("/"):
            raise SettingsError(f"a handler's path must begin with '/', not be {path!r}")

        found = [character for character in PATTERNS if character in path]
        if found:
            raise SettingsError(
                f"a handler's path is matched as it stands, and {path!r} has {' and '.join(found)}: there are no path"
                " parameters and no wildcards; take `request.query`, or a `message` callback, which serves every path"
                " that has no handler"
            )

        def register(function: F) -> F:
            if path in self.handlers:
                raise SettingsError(f"the path {path!r} has a handler already: {where(self.handlers[path])}")
            check_handler(path, function)
            self.handlers[path] = function
            self.has_coroutines = True
            return function

        return register

    def start(self) -> None:
        """Serve. In the first process it becomes the supervisor and returns when the server has stopped; in a worker
        it is the worker's loop and does not return.

        Raises:
            SettingsError: neither a `message` callback nor a handler is registered.
            WrongProcess: this process must not start a server, or not here: it has started one already, an asyncio
                loop runs, or this is not the main thread.
        """
        role.check_first(self)
        if asyncio_runs():
            raise WrongProcess(
                "start() was called while an asyncio loop runs, as in `asyncio.run(main())`: call it from the script"
                " itself; each worker has a loop of its own, where `worker_start` can prepare what the app needs"
            )
        if not self.handlers and "message" not in self.callbacks:
            raise SettingsError("nothing to serve: register a 'message' callback or a handler before start()")
        self._started = True
        role.start(self)

    def _check_not_started(self, method: str) -> None:
        if self._started:
            raise SettingsError(f"{method}() was called after start(): the server runs with what it was given before")

    # Commands. In a worker, `install_commands` replaces them by compiled ones.

    def push(self, fd: int, data: Data, opcode: int | None = None) -> bool:
        """Send one message to a connection.

        In a `def` callback, and in a thread of the app's own, it waits where too much is on its way to the master; in
        a coroutine it never does.

        Args:
            fd: the connection, of this worker or any other.
            data: `str` is sent as text, bytes as binary.
            opcode: OP_TEXT or OP_BINARY, to send it as that instead.

        Returns:
            True: it is on its way to the master. False: that connection is known to be gone or closing.

        Raises:
            TypeError: the data is neither `str` nor bytes, or the fd no integer.
            ValueError: bytes to be sent as text are not UTF-8, or the opcode is another.
            BackpressureError: a coroutine pushed far more than the master has taken, or a thread has waited for long,
                as where the callback that runs waits for that thread.
        """
        raise self._outside("push")

    def ping(self, fd: int, data: Data = b"") -> bool:
        """Send a ping; pings of the server's own, which find out who is gone, need nobody to ask for them.

        Args:
            fd: the connection, of this worker or any other.
            data: what the pong will carry back, at most 125 bytes.

        Returns:
            As `push`.

        Raises:
            TypeError: the data is neither `str` nor bytes, or the fd no integer.
            ValueError: it is too long.
            BackpressureError: a coroutine pushed far more than the master has taken.
        """
        raise self._outside("ping")

    def broadcast(self, data: Data, opcode: int | None = None) -> None:
        """Send one message to every established connection of the server. Arguments and errors as in `push`."""
        raise self._outside("broadcast")

    def disconnect(self, fd: int, code: int = 1000, reason: str = "") -> bool:
        """Close a connection with a close handshake, behind what was pushed to it.

        Args:
            fd: the connection.
            code: the close code.
            reason: at most 123 bytes of UTF-8.

        Returns:
            Whether it was there to be closed.

        Raises:
            ValueError: a close frame cannot carry that code or reason.
            TypeError: the fd is no integer, or the reason no `str`.
        """
        raise self._outside("disconnect")

    def set_state(self, fd: int, value: Any) -> bool:
        """Keep a value with a connection: whichever worker adopts it is given the value as `request.state`.

        Args:
            fd: the connection.
            value: what msgpack can pack: None, numbers, strings, bytes, lists and dicts; at most 64 KiB packed.

        Returns:
            Whether the connection was there.

        Raises:
            ValueError: it is too large.
            TypeError: it cannot be packed, or the fd is no integer.
            BackpressureError: as in `push`.
        """
        raise self._outside("set_state")

    def send_message(self, message: Any, worker_id: int) -> None:
        """Send a message to another worker, which is given it by its `pipe_message` callback, at most once.

        Args:
            message: what msgpack can pack: None, numbers, strings, bytes, lists and dicts.
            worker_id: the receiving worker's number, from 0.

        Raises:
            QueueFull: `pipe_queue_bytes` of messages wait for that worker already.
            ValueError: there is no such worker, or the message is larger than the whole queue.
            TypeError: it cannot be packed, or the number is no integer.
        """
        raise self._outside("send_message")

    def exists(self, fd: int) -> bool:
        """Tell whether there is a connection with this id, in whatever state.

        Raises:
            TypeError: the fd is no integer.
        """
        raise self._outside("exists")

    def is_established(self, fd: int) -> bool:
        """Tell whether a connection is open: past its handshake and not closing.

        Raises:
            TypeError: the fd is no integer.
        """
        raise self._outside("is_established")

    def buffered_amount(self, fd: int) -> int:
        """Return how many bytes wait in the master to be sent to a connection; 0 where it is gone.

        Raises:
            TypeError: the fd is no integer.
        """
        raise self._outside("buffered_amount")

    async def drain(self) -> None:
        """Wait, in a coroutine, until the master has taken what was pushed; in a task that `worker_start` has started,
        also until this worker is connected, so that it can push at all.
        """
        raise self._outside("drain")

    def stats(self) -> dict[str, Any]:
        """Return what the whole server counts. In any of its processes and threads, without asking one of the others:
        each writes its counters down twice a second at most, also where another is busy or stuck.

        Returns:
            `uptime_s`; `total`, the sums for the server, over processes that have ended too; `masters` and `workers`,
            one dict for each process that runs. docs/stats.md has every name.

        Raises:
            WrongProcess: this process is none of a running server.
        """
        raise WrongProcess("stats() works in the processes of a running server")

    def _outside(self, command: str) -> WrongProcess:
        return WrongProcess(f"{command}() works in workers: in callbacks, handlers, and what they start")


def asyncio_runs() -> bool:
    """Tell whether an asyncio loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def install_commands(server: Server, commands: Mapping[str, Callable[..., Any]]) -> None:
    """Replace a server's methods by this process's own commands: one call less on the hot path."""
    for name, command in commands.items():
        setattr(server, name, command)


def remove_commands(server: Server) -> None:
    """Undo `install_commands`: the server has stopped, and its methods raise WrongProcess again."""
    for name in COMMANDS:
        vars(server).pop(name, None)


def refuse_commands(server: Server) -> None:
    """Have every command raise WrongProcess: this is a child that the app has forked."""
    install_commands(server, {name: partial(refuse, name) for name in COMMANDS})


class _Absent:
    """A name of Swoole's that a server does not have: reading it says what is true.

    `__getattr__` would say it for any name, but slows down every attribute of a server, `push` above all.
    """

    def __init__(self, name: str, why: str) -> None:
        self._name = name
        self._why = why

    def __get__(self, server: Server | None, owner: type[Server]) -> Any:
        raise AttributeError(f"a server has no {self._name!r}{self._why}", name=self._name, obj=server)


def _explain_absent() -> None:
    ours = [name for name in vars(Server) if not name.startswith("_")]
    for name in (*swoole_names.METHODS, *ours):
        for spelled in (name, swoole_names.camel(name)):
            if spelled not in vars(Server):
                setattr(Server, spelled, _Absent(spelled, swoole_names.explain(spelled, swoole_names.METHODS, ours)))


_explain_absent()
