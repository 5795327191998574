"""Runs coroutines: the events of one connection in order, one at a time; different connections interleave at await.

A task per event would cost more than the event (4 microseconds, against 0.2 for a step of a coroutine). So events wait
in one queue, and a few runner tasks serve it. A runner awaits one callback after the other without going back to the
loop. Only if a callback really suspends does the next runner take over the queue. `_pump` notices that: asyncio calls
it after the runner that it woke, so it finds events left only if that runner is suspended.

Each runner has its own context variables. If a callback has changed them, its runner ends after that callback, so that
no connection sees what another has set.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Coroutine
from time import monotonic
from typing import Any

from zwoole.shared.process.forks import leave
from zwoole.shared.websocket.close_codes import (
    CLOSE_ABNORMAL,
    CLOSE_INTERNAL_ERROR,
    CLOSE_NORMAL,
    CLOSE_SERVICE_RESTART,
)
from zwoole.shared.wire.events import BUFFER_EMPTY, BUFFER_FULL, CLOSE, HANDSHAKE, MESSAGE, OPEN
from zwoole.workers.commands import Commands
from zwoole.workers.flow_control import FlowControl
from zwoole.workers.handlers import Handler, HandlerConnection
from zwoole.workers.invocation import Invoker
from zwoole.workers.link import MasterLink

MAX_IDLE_RUNNERS = 32

Job = tuple[MasterLink, int, int, int, Any]  # link, sequence, kind, fd, body


class Scheduler:
    """Runs the events of an app that has coroutines, in the running asyncio loop.

    Attributes:
        connections: the handler connections by fd.
    """

    def __init__(
        self, invoker: Invoker, commands: Commands, flow_control: FlowControl, handlers: dict[str, Handler]
    ) -> None:
        self.connections: dict[int, HandlerConnection] = {}
        self._invoker = invoker
        self._counts = invoker.counts
        self._commands = commands
        self._masters = commands.masters
        self._flow_control = flow_control
        self._handlers = handlers
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[int, deque[Job] | None] = {}  # fds with an event that is queued or runs; those behind it
        self._queue: deque[Job] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._pumping = False
        self._stopping = False

    # Events come in.

    def add(self, link: MasterLink, sequence: int, kind: int, fd: int, body: Any) -> None:
        """Take one event, for its handler or for the queue.

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
            return
        if kind == OPEN and body.path in self._handlers:
            self._start_handler(link, sequence, fd, body)
            return
        job = (link, sequence, kind, fd, body)
        if fd in self._lanes:
            waiting = self._lanes[fd]
            if waiting is None:
                waiting = self._lanes[fd] = deque()
            waiting.append(job)
            return
        self._lanes[fd] = None
        self._queue.append(job)
        self._kick()

    def busy(self) -> bool:
        """Tell whether some event has not finished."""
        return bool(self._lanes)

    def resume(self) -> None:
        """Go on, if masters have taken enough of the output."""
        if self._flow_control.resume():
            self._kick()

    def master_died(self, link: MasterLink) -> None:
        """End the handlers whose connections died with their master."""
        self._flow_control.master_died(link)
        self.resume()
        for connection in [c for c in self.connections.values() if c.link is link]:
            del self.connections[connection.fd]
            link.owned.discard(connection.fd)
            connection._take_end(CLOSE_ABNORMAL, "the master process died")
            if connection.task is not None:
                connection.task.cancel()

    async def stop(self) -> None:
        """Cancel the callbacks and handlers that still run, and wait until they have ended."""
        self._stopping = True
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Callbacks.

    def _kick(self) -> None:
        if self._queue and not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Wake a runner for the queue, and look again when that runner has had its turn."""
        self._pumping = False
        if not self._queue or self._stopping or self._masters.congested():
            return
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                break
        else:
            self._start(self._run_queue())
        self._kick()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run_queue(self) -> None:
        """Be a runner: serve the queue, sleep, serve it again."""
        clean = contextvars.copy_context()
        while not self._stopping:
            while self._queue and not self._masters.congested():
                await self._run(self._queue.popleft())
                if self._stopping or contextvars.copy_context() != clean:
                    return
            if len(self._idle) >= MAX_IDLE_RUNNERS:
                return
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            await waiter

    async def _run(self, job: Job) -> None:
        """Run one event's callback to its end, as the contract in invocation.py says."""
        link, sequence, kind, fd, body = job
        invoker = self._invoker
        name, callback, arguments = invoker.arguments(kind, fd, body)
        gone = link.closed and kind != CLOSE  # its connection died with its master
        if callback is not None and not gone and (kind != MESSAGE or not self._commands.has_ended(fd)):
            link.started(sequence)
            before = monotonic()
            try:
                self._masters.may_block = True
                result = callback(*arguments)
                self._masters.may_block = False
                if monotonic() - before > invoker.slow_s:
                    invoker.report_slow(name, fd, monotonic() - before)
                if result is not None and hasattr(result, "__await__"):
                    result = await result
                if invoker.forked:
                    leave()
                if kind == HANDSHAKE:
                    invoker.answer_handshake(body, result)
            except BaseException as error:
                in_call, self._masters.may_block = self._masters.may_block, False
                if self._stopping and isinstance(error, asyncio.CancelledError):
                    raise
                invoker.failed(name, fd, error)
                if in_call and monotonic() - before > invoker.slow_s:
                    invoker.report_slow(name, fd, monotonic() - before)
            self._counts.ran(monotonic() - before)
        elif kind == HANDSHAKE:
            invoker.accept_unasked(fd)
        self._finish(link, sequence, kind, fd)

    def _finish(self, link: MasterLink, sequence: int, kind: int, fd: int) -> None:
        """Acknowledge a finished event, and queue the connection's next one."""
        link.finished(sequence)
        self._counts.finished += 1
        if kind == CLOSE:
            self._commands.ended.discard(fd)
        waiting = self._lanes[fd]
        if waiting:
            self._queue.append(waiting.popleft())
            self._kick()
        else:
            del self._lanes[fd]
        now = monotonic()
        if now >= self._counts.record_at:
            self._counts.on_record()
        if link.flush_due(now, now):
            self._masters.flush()
        if self._masters.on_output is not None:
            self._masters.on_output()

    # Handlers.

    def _start_handler(self, link: MasterLink, sequence: int, fd: int, request: Any) -> None:
        connection = HandlerConnection(fd, request, link, self._commands, self._flow_control, self._counts)
        self.connections[fd] = connection
        link.started(sequence)
        connection.task = self._start(self._run_handler(connection, self._handlers[request.path]))
        connection._acknowledge(sequence)

    def _add_to_handler(self, connection: HandlerConnection, sequence: int, kind: int, body: Any) -> None:
        if kind == MESSAGE:
            connection._deliver(sequence, body.data)
        elif kind == CLOSE:
            del self.connections[connection.fd]
            connection._take_end(body[0], body[1])
            self._commands.ended.discard(connection.fd)
            connection._acknowledge(sequence)
        elif kind in (BUFFER_FULL, BUFFER_EMPTY):
            connection._buffer_changed(kind == BUFFER_FULL)
            connection._acknowledge(sequence)

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
            if self._stopping and isinstance(error, asyncio.CancelledError):
                code, reason = CLOSE_SERVICE_RESTART, "the server process is restarted"
                raise
            if not connection._ended_by(error):
                self._invoker.handler_failed(connection.fd, error)
            code, reason = CLOSE_INTERNAL_ERROR, "handler failed"
        finally:
            connection._end(code, reason)
