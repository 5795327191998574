"""Takes the events of an app that has coroutines: for callbacks (runner.py), or for coroutine handlers (handlers.py).

A batch is taken first, then `run` has its callbacks and handlers run, one after the other, as in an app without
coroutines. Each runs until it suspends or ends. Only what is suspended goes on by way of asyncio's loop.

asyncio can run no task inside another. So if `run` is called in a task, it has the loop call it again.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from zwoole.shared.process.forks import leave
from zwoole.shared.process.log import get_logger
from zwoole.shared.websocket.close_codes import (
    CLOSE_ABNORMAL,
    CLOSE_INTERNAL_ERROR,
    CLOSE_NORMAL,
    CLOSE_SERVICE_RESTART,
)
from zwoole.shared.wire.events import BUFFER_EMPTY, BUFFER_FULL, CALLBACKS, CLOSE, MESSAGE, OPEN
from zwoole.workers.core.exits import end_child
from zwoole.workers.invocation.handlers import Handler, HandlerConnection
from zwoole.workers.invocation.invocation import Invoker
from zwoole.workers.invocation.lanes import job_of
from zwoole.workers.invocation.runner import Runners
from zwoole.workers.links.commands import Commands
from zwoole.workers.links.flow_control import FlowControl
from zwoole.workers.links.master_link import MasterLink

MOST_NAMED = 5  # callbacks that a line of the log names

log = get_logger("callbacks")


class Scheduler:
    """Runs the events of an app that has coroutines, in the running asyncio loop.

    Attributes:
        connections: the handler connections by fd.
        forked_in: in a child that the app has forked: the task that forked, None if no task did.
    """

    __slots__ = (
        "_commands",
        "_counts",
        "_flow_control",
        "_handlers",
        "_invoker",
        "_is_called",
        "_loop",
        "_masters",
        "_runners",
        "_runs",
        "_tasks",
        "_woken",
        "connections",
        "forked_in",
    )

    def __init__(
        self, invoker: Invoker, commands: Commands, flow_control: FlowControl, handlers: dict[str, Handler]
    ) -> None:
        """Prepare to run events.

        Args:
            invoker: knows the callbacks.
            commands: what callbacks and handlers can ask the masters to do.
            flow_control: has handlers wait until masters have taken their output.
            handlers: the coroutine handlers by path.
        """
        self.connections: dict[int, HandlerConnection] = {}
        self.forked_in: asyncio.Task[Any] | None = None
        self._invoker = invoker
        self._counts = invoker.counts
        self._commands = commands
        self._masters = commands.masters
        self._flow_control = flow_control
        self._handlers = handlers
        self._loop = asyncio.get_running_loop()
        self._runners = Runners(invoker, commands, self._loop)
        self._runners.call_run = self.run_soon
        self._tasks: set[asyncio.Task[None]] = set()  # of handlers
        self._woken: list[HandlerConnection] = []  # those whose tasks are to go on
        self._runs = False  # whether `run` is being executed
        self._is_called = False  # whether the loop is to call `run`

    # Events come in.

    def add_message(self, link: MasterLink, sequence: int, fd: int, data: str | bytes, opcode: int) -> None:
        """Take one message.

        Args:
            link: the link that it came by.
            sequence: its sequence number.
            fd: its connection.
            data: what it says.
            opcode: OP_TEXT or OP_BINARY.
        """
        if self.connections:
            connection = self.connections.get(fd)
            if connection is not None:
                connection._deliver(sequence, data)
                self._note(connection)
                return
        self._runners.lanes.add(job_of(link, sequence, MESSAGE, fd, opcode, data))

    def add(self, link: MasterLink, sequence: int, kind: int, fd: int, body: Any) -> None:
        """Take one event that is no message. `run` is to be called then.

        Args:
            link: the link that it came by.
            sequence: its sequence number.
            kind: which event.
            fd: the connection; for a message of another worker, -1 - the sender's id.
            body: what it carries, decoded.
        """
        connection = self.connections.get(fd)
        if connection is not None:
            self._add_to_handler(connection, sequence, kind, body)
        elif kind == OPEN and self._handlers and body.path in self._handlers:  # to read the path decodes the request
            self._start_handler(link, sequence, fd, body)
        else:
            self._runners.lanes.add(job_of(link, sequence, kind, fd, 0, body))

    def busy(self) -> bool:
        """Tell whether some event has not finished."""
        return self._runners.lanes.busy()

    def resume(self) -> None:
        """Go on, if masters have taken enough of the output."""
        if self._flow_control.resume():
            self.run()

    def master_died(self, link: MasterLink) -> None:
        """End the handlers whose connections died with their master."""
        self._flow_control.master_died(link)
        for connection in [c for c in self.connections.values() if c._link is link]:
            del self.connections[connection.fd]
            link.owned.discard(connection.fd)
            connection._take_end(CLOSE_ABNORMAL, "the master process died")
            if connection._task is not None:
                connection._task.cancel()
        self.resume()

    async def stop(self) -> None:
        """Cancel the callbacks and handlers that still run, and wait until they have ended."""
        self._runners.stopping = True
        if suspended := self._runners.suspended():
            names = sorted(f"{CALLBACKS[kind]!r} of fd {fd}" for kind, fd in suspended if fd >= 0)[:MOST_NAMED]
            words = "%d callback(s) still ran when this worker ended, and were cancelled, such as %s"
            log.warning(words, len(suspended), ", ".join(names) or "'pipe_message'")
        tasks = [task for task in (*self._tasks, *self._runners.tasks()) if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Events run.

    def run(self) -> None:
        """Run what has come in: handlers that wait for it, then callbacks, until each has ended or is suspended."""
        if self._runs or not (self._woken or self._runners.want_one()):
            return
        if asyncio.current_task(self._loop) is not None:
            self.run_soon()
            return
        on_output, self._masters.on_output = self._masters.on_output, None  # called below, once
        self._runs = True
        try:
            debug = self._loop.get_debug()
            self._run_handlers(debug)
            self._runners.run(debug)
            self._end_if_forked()
        finally:
            self._runs = False
            self._masters.on_output = on_output
            if on_output is not None:
                on_output()

    def run_soon(self) -> None:
        """Have the loop call `run`."""
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._run_called)

    def _run_called(self) -> None:
        self._is_called = False
        self.run()

    def _run_handlers(self, debug: bool) -> None:
        """Have the handlers go on for which something has come. Arguments as in `Runners.run`."""
        while self._woken:
            woken, self._woken = self._woken, []
            before = monotonic()
            for connection in woken:
                if debug:
                    connection._wake_soon()
                    continue
                connection._wake()
                self._end_if_forked()
                now = monotonic()
                if connection._link.flush_due(before, now):
                    self._masters.flush()
                before = now

    def _end_if_forked(self) -> None:
        """End a child that a callback or handler has forked, and that has come back to here."""
        if self._invoker.forked:
            end_child(self.forked_in)

    # Handlers.

    def _start_handler(self, link: MasterLink, sequence: int, fd: int, request: Any) -> None:
        connection = HandlerConnection(fd, request, link, self._commands, self._flow_control, self._counts)
        self.connections[fd] = connection
        link.started(sequence)
        connection._task = task = self._loop.create_task(self._run_handler(connection, self._handlers[request.path]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection._acknowledge(sequence)

    def _add_to_handler(self, connection: HandlerConnection, sequence: int, kind: int, body: Any) -> None:
        if kind == CLOSE:
            del self.connections[connection.fd]
            connection._take_end(body[0], body[1])
            self._note(connection)
            self._commands.ended.discard(connection.fd)
            connection._acknowledge(sequence)
        elif kind in (BUFFER_FULL, BUFFER_EMPTY):
            connection._buffer_changed(kind == BUFFER_FULL)
            connection._acknowledge(sequence)

    def _note(self, connection: HandlerConnection) -> None:
        """Have a handler go on, if it waits for what has come."""
        if connection._is_to_wake():
            self._woken.append(connection)

    async def _run_handler(self, connection: HandlerConnection, handler: Handler) -> None:
        """Run a handler to its end, and close its connection with the code that says how it ended."""
        code, reason = CLOSE_NORMAL, ""
        try:
            await handler(connection)
            leave()
        except SystemExit as error:
            self._invoker.failed("handler", connection.fd, error)
        except BaseException as error:
            leave(error)
            if self._runners.stopping and isinstance(error, asyncio.CancelledError):
                code, reason = CLOSE_SERVICE_RESTART, "the server process is restarted"
                raise
            if not connection._ended_by(error):
                self._invoker.handler_failed(connection.fd, error)
            code, reason = CLOSE_INTERNAL_ERROR, "handler failed"
        finally:
            connection._end(code, reason)
