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
from zwoole.workers.callbacks import Callback, check_handler, event_name, fit, is_coroutine, where
from zwoole.workers.invocation.handlers import Handler

F = TypeVar("F", bound=Callable[..., Any])
Data = str | bytes | bytearray | memoryview

PATTERNS = "{}<>*?"  # characters of parameters, wildcards and queries in the paths of other frameworks
_LEFT_OUT: Any = object()  # the default of an argument; None would be an argument that is refused

WORKER_COMMANDS = (  # those of a worker's `Commands`
    *("push", "ping", "broadcast", "disconnect", "set_state", "send_message"),
    *("exists", "is_established", "buffered_amount"),
)
COMMANDS = (*WORKER_COMMANDS, "drain", "stats")


class Server:
    """A WebSocket server, made of callbacks as in Swoole, of handlers as in Go, or of both.

    The supervisor and every worker run the script that makes it. `push` and the other commands work in callbacks and
    handlers, and in threads and tasks that those start. They raise NotServing while the worker is not connected to the
    masters: in `worker_start` and after the worker's end. They raise WrongProcess before `start()`, in the supervisor's
    callbacks and in forked children. `stats` works in all processes of a running server.
    """

    worker_id: int | None = None
    """This worker's number, from 0; None outside workers."""

    retiring: bool = False
    """Whether this worker is to end, because it was replaced or the server stops. Connections may keep it alive for a
    while, but timers and listeners of the app must end now. The event `retire` is called at the same time."""

    def __init__(self, host: str = "127.0.0.1", port: int = 8080, *more: NoReturn, **settings: Any) -> None:
        """Make a server that will listen on `host` and `port`.

        Args:
            host: address or host name.
            port: TCP port; 0 takes a free one.
            more: must be empty; Swoole's mode and socket type stand here.
            settings: any setting by its name.

        Raises:
            SettingsError: an unknown setting, an invalid value, or a third positional argument.
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
        self._registered: dict[str, Callable[..., Any]] = {}  # callbacks as the app has given them
        self._started = False

    def __repr__(self) -> str:
        return f"<Server {self.settings.host}:{self.settings.port} worker_num={self.settings.worker_num}>"

    def __dir__(self) -> list[str]:
        """Return the names for completion and suggestions, without those that only explain what a server lacks."""
        absent = [name for name, value in vars(Server).items() if isinstance(value, _Absent)]
        return sorted({*super().__dir__()} - {*absent})

    # Before start.

    def set(self, settings: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Change settings, as a mapping or by keyword, before `start()`.

        Raises:
            SettingsError: an unknown setting, an invalid value, or `start()` was called already.
            TypeError: the settings are not a mapping.
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
        """Register the callback for an event, before `start()`; without `callback` it returns a decorator.

        Args:
            event: handshake, open, message, adopt, buffer_full, buffer_empty, close, pipe_message, worker_start,
                retire, worker_stop (run in workers), worker_error, start, before_shutdown or shutdown (run in the
                supervisor); Swoole's spelling is accepted.
            callback: `def` or `async def`; it may omit trailing arguments.

        Raises:
            SettingsError: there is no such event, the event is missing or has a callback already; the callback is not a
                function, takes other arguments than the event has, or is a generator function or a class; or `start()`
                was called already.
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
            SettingsError: the path is missing, does not begin with "/", is a pattern or has a handler already; the
                function is not a coroutine function, or cannot be called with the connection alone; or `start()` was
                called already.
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
        """Serve. In the first process, become the supervisor and return when the server has stopped. In a worker, run
        the worker's loop and do not return.

        Raises:
            SettingsError: neither a `message` callback nor a handler is registered.
            WrongProcess: this process has started a server already, an asyncio loop runs, this is not the main thread,
                or the process was forked or spawned by another one.
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

        If too much is on its way to the master, it waits in a `def` callback and in a thread of the app; in a coroutine
        it never waits.

        Args:
            fd: the connection, of this worker or any other.
            data: `str` is sent as text, bytes as binary.
            opcode: OP_TEXT or OP_BINARY to send it as that instead.

        Returns:
            True if the message is on its way to the master, False if the connection is known to be gone or closing.

        Raises:
            TypeError: the data is neither `str` nor bytes, or the fd is not an integer.
            ValueError: bytes to be sent as text are not UTF-8, or there is no such opcode.
            BackpressureError: a coroutine pushed far more than the master has taken, or a thread has waited for long,
                for example because the callback that runs waits for that thread.
        """
        raise self._outside("push")

    def ping(self, fd: int, data: Data = b"") -> bool:
        """Send a ping. The server sends its own pings too, to find connections that are gone.

        Args:
            fd: the connection, of this worker or any other.
            data: the pong returns it; at most 125 bytes.

        Returns:
            As `push`.

        Raises:
            TypeError: the data is neither `str` nor bytes, or the fd is not an integer.
            ValueError: the data is too long.
            BackpressureError: a coroutine pushed far more than the master has taken.
        """
        raise self._outside("ping")

    def broadcast(self, data: Data, opcode: int | None = None) -> None:
        """Send one message to every established connection of the server. Arguments and errors as in `push`."""
        raise self._outside("broadcast")

    def disconnect(self, fd: int, code: int = 1000, reason: str = "") -> bool:
        """Close a connection with a close handshake, after everything that was pushed to it.

        Args:
            fd: the connection.
            code: the close code.
            reason: at most 123 bytes of UTF-8.

        Returns:
            Whether the connection was open.

        Raises:
            ValueError: a close frame cannot carry that code or reason.
            TypeError: the fd is not an integer, or the reason not a `str`.
        """
        raise self._outside("disconnect")

    def set_state(self, fd: int, value: Any) -> bool:
        """Keep a value with a connection: a worker that adopts the connection finds the value in `request.state`.

        Args:
            fd: the connection.
            value: anything that msgpack can pack: None, numbers, strings, bytes, lists and dicts; packed, at most
                64 KiB.

        Returns:
            Whether the connection exists.

        Raises:
            ValueError: the value is too large.
            TypeError: the value cannot be packed, or the fd is not an integer.
            BackpressureError: as in `push`.
        """
        raise self._outside("set_state")

    def send_message(self, message: Any, worker_id: int) -> None:
        """Send a message to another worker, where the `pipe_message` callback is called with it, at most once.

        Args:
            message: anything that msgpack can pack: None, numbers, strings, bytes, lists and dicts.
            worker_id: the receiving worker's number, from 0.

        Raises:
            QueueFull: `pipe_queue_bytes` of messages are queued for that worker already.
            ValueError: there is no such worker, or the message is larger than the whole queue.
            TypeError: the message cannot be packed, or the number is not an integer.
        """
        raise self._outside("send_message")

    def exists(self, fd: int) -> bool:
        """Tell whether there is a connection with this id, in any state.

        Raises:
            TypeError: the fd is not an integer.
        """
        raise self._outside("exists")

    def is_established(self, fd: int) -> bool:
        """Tell whether a connection is open: past its handshake and not closing.

        Raises:
            TypeError: the fd is not an integer.
        """
        raise self._outside("is_established")

    def buffered_amount(self, fd: int) -> int:
        """Return how many bytes are queued in the master for a connection; 0 if it is gone.

        Raises:
            TypeError: the fd is not an integer.
        """
        raise self._outside("buffered_amount")

    async def drain(self) -> None:
        """Wait, in a coroutine, until pushes may go on because the masters have taken enough. In a task that
        `worker_start` has started, wait also until this worker is connected, so that it can push at all.
        """
        raise self._outside("drain")

    def stats(self) -> dict[str, Any]:
        """Return the counters of the whole server. It works in all processes and threads, even if another process is
        busy or stuck: each process writes its counters where the others can read them, at most twice a second.

        Returns:
            `uptime_s`; `total`, the sums for the server, including processes that have ended; `masters` and `workers`,
            one dict for each process that runs. docs/stats.md explains every name.

        Raises:
            WrongProcess: this process does not belong to a running server.
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
    """A name of Swoole's that a server does not have: reading it raises an error that says what to use instead.

    `__getattr__` could do the same for any name, but would slow down every attribute of a server, such as `push`.
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
