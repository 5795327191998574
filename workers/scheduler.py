"""Running coroutines: each connection's events in order, one at a time; different connections interleave at await.

A task per event would cost more than the event (4 microseconds against 0.2 for a step of a coroutine). So events wait
in one line, and a few runner tasks serve it: a runner awaits one callback after the other without going back to the
loop, and only one that really suspends leaves the line to the next runner. `_pump` notices that: it stands in the
loop's line behind the runner it woke, and finds events left only if that runner is suspended.

A runner's context variables are its own. One whose callback changed them ends after it, so that no connection sees
what another has set.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Coroutine
from time import monotonic
from typing import Any

from zwoole.shared.answers import Accept
from zwoole.shared.process.forks import leave
from zwoole.shared.process.log import get_logger
from zwoole.shared.websocket.close_codes import (
    CLOSE_ABNORMAL,
    CLOSE_INTERNAL_ERROR,
    CLOSE_NORMAL,
    CLOSE_SERVICE_RESTART,
)
from zwoole.shared.wire.batches import BUFFER_EMPTY, BUFFER_FULL, CLOSE, HANDSHAKE, MESSAGE, OPEN
from zwoole.workers.commands import Commands
from zwoole.workers.dispatch import Dispatcher
from zwoole.workers.handlers import Handler, HandlerConnection
from zwoole.workers.link import MasterLink

MAX_IDLE_RUNNERS = 32

log = get_logger("callbacks")

Job = tuple[MasterLink, int, int, int, Any]  # link, sequence, kind, fd, body


class Scheduler:
    """Runs the events of an app that has coroutines, in the running asyncio loop.

    Attributes:
        connections: the handler connections by fd.
    """

    def __init__(self, dispatcher: Dispatcher, commands: Commands, handlers: dict[str, Handler]) -> None:
        self.connections: dict[int, HandlerConnection] = {}
        self._dispatcher = dispatcher
        self._commands = commands
        self._handlers = handlers
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[int, deque[Job] | None] = {}  # fds with an event in the line or running; what waits behind
        self._line: deque[Job] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._pumping = False
        self._stopping = False
        self._drained: list[asyncio.Future[None]] = []
        self._syncing: dict[MasterLink, deque[tuple[int, asyncio.Future[None]]]] = {}  # what is to be taken, in order

    # In.

    def add(self, link: MasterLink, sequence: int, kind: int, fd: int, body: Any) -> None:
        """Take one event: for its handler connection, or for the line."""
        connection = self.connections.get(fd)
        if connection is not None:
            self._add_to_handler(connection, link, sequence, kind, body)
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
        self._line.append(job)
        self._kick()

    def busy(self) -> bool:
        """Tell whether some event has not finished."""
        return bool(self._lanes)

    def resume(self) -> None:
        """Go on after a master took what was too much."""
        for link, line in self._syncing.items():
            while line and (line[0][0] <= link.credit or link.closed):
                waiter = line.popleft()[1]
                if not waiter.done():
                    waiter.set_result(None)
        if not self._commands.congested():
            for waiter in self._drained:
                if not waiter.done():
                    waiter.set_result(None)
            self._drained.clear()
            self._kick()

    async def drain(self) -> None:
        """Wait until pushes may go on, and until the worker is connected."""
        while self._commands.links[0] is None or self._commands.congested():
            waiter = self._loop.create_future()
            self._drained.append(waiter)
            await waiter

    async def sync(self, link: MasterLink) -> None:
        """Wait until a master has dealt with all that it was sent, or is gone."""
        sent = link.sync()
        if self._commands.on_output is not None:  # sending may have used up the descriptor's edge
            self._commands.on_output()
        while link.credit < sent and not link.closed:
            waiter = self._loop.create_future()
            self._syncing.setdefault(link, deque()).append((sent, waiter))
            await waiter

    def master_died(self, link: MasterLink) -> None:
        """End the handlers whose connections went with their master."""
        self.resume()
        self._syncing.pop(link, None)
        for connection in [c for c in self.connections.values() if c.link is link]:
            del self.connections[connection.fd]
            link.owned.discard(connection.fd)
            connection._take_end(CLOSE_ABNORMAL, "the master process died")
            if connection.task is not None:
                connection.task.cancel()

    async def stop(self) -> None:
        """Cancel what still runs, and wait for its end."""
        self._stopping = True
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Callbacks.

    def _kick(self) -> None:
        if self._line and not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Give the line to a runner, and look again when that one has had its turn."""
        self._pumping = False
        if not self._line or self._stopping or self._commands.congested():
            return
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                break
        else:
            self._start(self._run_line())
        self._kick()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run_line(self) -> None:
        """A runner: serve the line, sleep, serve it again."""
        clean = contextvars.copy_context()
        while not self._stopping:
            while self._line and not self._commands.congested():
                await self._run(self._line.popleft())
                if self._stopping or contextvars.copy_context() != clean:
                    return
            if len(self._idle) >= MAX_IDLE_RUNNERS:
                return
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            await waiter

    async def _run(self, job: Job) -> None:
        """Run one event's callback to its end."""
        link, sequence, kind, fd, body = job
        dispatcher = self._dispatcher
        name, callback, arguments = dispatcher.arguments(kind, fd, body)
        gone = link.closed and kind != CLOSE  # with its master
        if callback is not None and not gone and (kind != MESSAGE or not self._commands.has_ended(fd)):
            link.started(sequence)
            before = monotonic()
            try:
                self._commands.may_block = True
                result = callback(*arguments)
                self._commands.may_block = False
                if monotonic() - before > dispatcher.slow_s:
                    dispatcher.report_slow(name, fd, monotonic() - before)
                if result is not None and hasattr(result, "__await__"):
                    result = await result
                if dispatcher.forked:
                    leave()
                if kind == HANDSHAKE:
                    dispatcher.answer_handshake(body, result)
            except BaseException as error:
                self._commands.may_block = False
                if self._stopping and isinstance(error, asyncio.CancelledError):
                    raise
                dispatcher.callback_failed(name, fd, error)
            dispatcher.counts.ran(monotonic() - before)
        elif kind == HANDSHAKE:
            self._commands.answer_handshake(fd, Accept())
        self._finish(link, sequence, kind, fd)

    def _finish(self, link: MasterLink, sequence: int, kind: int, fd: int) -> None:
        """An event is done with: acknowledge it, and let the connection's next one into the line."""
        link.finished(sequence)
        self._dispatcher.events += 1
        if kind == CLOSE:
            self._commands.ended.discard(fd)
        waiting = self._lanes[fd]
        if waiting:
            self._line.append(waiting.popleft())
            self._kick()
        else:
            del self._lanes[fd]
        now = monotonic()
        if now >= self._dispatcher.record_at:
            self._dispatcher.on_record()
        if link.flush_due(now, now):
            self._commands.flush()
        if self._commands.on_output is not None:
            self._commands.on_output()

    # Handlers.

    def _start_handler(self, link: MasterLink, sequence: int, fd: int, request: Any) -> None:
        connection = HandlerConnection(fd, request, link, self._commands, self)
        self.connections[fd] = connection
        link.started(sequence)
        connection.task = self._start(self._run_handler(connection, self._handlers[request.path]))
        self.acknowledge(link, sequence)

    def _add_to_handler(
        self, connection: HandlerConnection, link: MasterLink, sequence: int, kind: int, body: Any
    ) -> None:
        if kind == MESSAGE:
            connection._deliver(sequence, body.data)
        elif kind == CLOSE:
            del self.connections[connection.fd]
            connection._take_end(body[0], body[1])
            self._commands.ended.discard(connection.fd)
            self.acknowledge(link, sequence)
        elif kind in (BUFFER_FULL, BUFFER_EMPTY):
            connection._buffer_changed(kind == BUFFER_FULL)
            self.acknowledge(link, sequence)

    def acknowledge(self, link: MasterLink, sequence: int) -> None:
        """Acknowledge an event of a handler connection."""
        link.finished(sequence)
        self._dispatcher.events += 1
        if self._commands.on_output is not None:
            self._commands.on_output()

    async def _run_handler(self, connection: HandlerConnection, handler: Handler) -> None:
        """Run a handler to its end, and close its connection with the code that tells how it went."""
        code, reason = CLOSE_NORMAL, ""
        try:
            await handler(connection)
            leave()
        except SystemExit as error:
            self._dispatcher.callback_failed("handler", connection.fd, error)
        except BaseException as error:
            leave(error)
            if self._stopping and isinstance(error, asyncio.CancelledError):
                code, reason = CLOSE_SERVICE_RESTART, "the server process is restarted"
                raise
            if not connection._ended_by(error):
                self._dispatcher.counts.failures["handler"] += 1
                log.error("the handler failed for fd %d, closed with 1011", connection.fd, exc_info=error)
            code, reason = CLOSE_INTERNAL_ERROR, "handler failed"
        finally:
            connection._end(code, reason)
