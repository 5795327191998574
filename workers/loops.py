"""The two loops of a worker: without asyncio for an app of `def` callbacks only, with asyncio for any other.

Both do the same again and again: take what the masters and the supervisor have sent, run callbacks, send their output,
and sleep until something comes. The steps are those of worker_process.py.
"""

from __future__ import annotations

import asyncio
import select
from threading import get_ident
from typing import NoReturn

from zwoole.shared.process import forks
from zwoole.shared.process.log import get_logger
from zwoole.workers.background import Tasks, end_executor
from zwoole.workers.core.exits import LOOP_FAILED, end_child, end_worker
from zwoole.workers.invocation.invocation import check_result
from zwoole.workers.invocation.scheduler import Scheduler
from zwoole.workers.links.flow_control import FlowControl
from zwoole.workers.links.master_link import RECONNECT_S, MasterLink
from zwoole.workers.server import Server, install_commands
from zwoole.workers.stats_writer import RECORD_S
from zwoole.workers.worker_process import WorkerProcess

SLEEP_S = 1.0  # the longest sleep: the supervisor sees by it that the loop turns
NEVER = float("inf")
IDLE_LOOK_S = 0.02  # how often a worker that is to end looks whether its callbacks have finished

log = get_logger("worker")


def serve(process: WorkerProcess, server: Server) -> NoReturn:
    """Be the worker that `server` describes, until it is to end.

    Raises:
        SystemExit: always; it ends the process.
    """
    process.begin(server)
    loop = AsyncLoop(process) if server.has_coroutines else PlainLoop(process)
    try:
        loop.run()
    except BaseException as error:
        loop_failed(error)
    process.end()
    raise SystemExit(0)


def loop_failed(error: BaseException) -> NoReturn:
    """End a worker whose loop was left by an exception: what it had begun cannot be trusted any more.

    A child that a signal handler has forked ends as the handler says.
    """
    forks.leave(error)
    words = "an exception ended this worker's loop, such as one that a signal handler raises"
    end_worker(words, code=LOOP_FAILED, exc_info=error)


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return a new event loop of the kind that the setting `loop` names.

    Raises:
        ImportError: uvloop is not installed any more.
    """
    if name == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.new_event_loop()


class PlainLoop:
    """The loop of an app without coroutines."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._poller = select.epoll()
        self._connecting = True  # whether there may be a link that is not connected, or not watched
        self._waits_for_room = False
        self._watched: dict[int, tuple[MasterLink, int]] = {}  # by descriptor: a link, and the mask it is watched with

    def run(self) -> None:
        """Serve until told to stop.

        If a signal handler of the app raises SystemExit while no batch is being taken, nothing is lost by that.
        """
        process = self._process
        try:
            check_result(process.invoker.call_for_worker("worker_start", process.worker_id))
        except BaseException as error:
            process.boot_failed(error)
        process.connect()
        for descriptor in process.descriptors:
            self._poller.register(descriptor, select.EPOLLIN)
        while not process.stopping:
            try:
                self._turn()
            except SystemExit as error:
                forks.leave(error)
                if not process.is_intact():
                    raise
                process.ask_for_successor("SystemExit", "a signal handler raised SystemExit")
        process.take_batches()
        if process.is_to_retire():
            self._call_for_worker("retire")
        self._call_for_worker("worker_stop")
        process.goodbye()

    def _turn(self) -> None:
        """Take what has come, send the output, and sleep until something comes."""
        process = self._process
        again = process.take_batches()
        process.masters.flush()
        process.obey()
        if process.changed:
            self._follow()
        if not (again or process.stopping or process.masters.has_batches()):
            self._sleep(process.recorder.turn(SLEEP_S))

    def _follow(self) -> None:
        """Do what a change of the worker's state asks for."""
        process = self._process
        process.changed = False
        if process.is_to_retire():
            self._call_for_worker("retire")
        if process.masters_changed:
            process.follow_masters()
            self._connecting = True
        if process.is_drained():
            process.stopping = True

    def _sleep(self, seconds: float) -> None:
        """Sleep until something comes, or a link that is not connected yet may be."""
        if self._connecting or self._waits_for_room or self._process.masters.is_blocked():
            self._connecting = self._process.connect_links()
            self._watch_links()
        events = self._poller.poll(RECONNECT_S if self._connecting else seconds)
        if not events:
            self._process.changed = True  # once a second it is looked at in any case
        for descriptor, mask in events:
            if descriptor in self._watched:
                link, _ = self._watched[descriptor]
                if mask & select.EPOLLOUT:
                    link.resume()
                if mask & ~select.EPOLLOUT:
                    link.look()
            elif descriptor == self._process.supervisor.descriptor:
                self._process.supervisor.readable = True

    def _watch_links(self) -> None:
        """Watch every connected link; also for room, if the kernel has not taken all of its output."""
        self._waits_for_room = self._process.masters.is_blocked()
        for link in self._process.links.values():
            if link.wire is None:
                continue
            descriptor = link.wire.descriptor
            mask = select.EPOLLIN | select.EPOLLOUT if link.wire.blocked else select.EPOLLIN
            if descriptor not in self._watched:
                self._poller.register(descriptor, mask)
                link.unwatch = self._unwatch
            elif self._watched[descriptor][1] != mask:
                self._poller.modify(descriptor, mask)
            else:
                continue
            self._watched[descriptor] = link, mask

    def _unwatch(self, descriptor: int) -> None:
        del self._watched[descriptor]
        self._poller.unregister(descriptor)

    def _call_for_worker(self, event: str) -> None:
        """Run a callback about the worker's own end."""
        process = self._process
        try:
            check_result(process.invoker.call_for_worker(event, process.worker_id))
        except BaseException as error:
            process.invoker.failed_for_worker(event, error)


class AsyncLoop:
    """The loop of an app with coroutines: asyncio calls the steps when a descriptor tells of something."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._flushing = False
        self._recording = False
        self._stop = asyncio.Event()
        self._ending = False
        self._retired: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._scheduler: Scheduler
        self._tasks: Tasks
        self._thread = get_ident()

    def run(self) -> None:
        """Serve until told to stop.

        If a task raises SystemExit or KeyboardInterrupt, that leaves asyncio's loop, which is intact then and goes on.
        """
        self._loop = new_event_loop(self._process.loop)
        asyncio.set_event_loop(self._loop)
        main = self._loop.create_task(self.serve(), name="zwoole")
        self._tasks = Tasks(self._loop)
        while not main.done():
            try:
                self._loop.run_until_complete(main)
            except SystemExit as error:
                forks.leave(error)
                self._process.ask_for_successor("SystemExit", "a task raised SystemExit")
            except KeyboardInterrupt as error:
                forks.leave(error)
                log.error("a task raised KeyboardInterrupt", exc_info=error)
        main.result()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(end_executor())
        self._loop.close()

    async def serve(self) -> None:
        """Serve until told to stop."""
        process = self._process
        masters = process.masters
        flow_control = FlowControl(masters, process.output_limit)
        self._scheduler = Scheduler(process.invoker, process.commands, flow_control, process.server.handlers)
        process.dispatcher.scheduler = self._scheduler
        masters.may_block = False
        masters.on_output = self._flush_soon
        install_commands(process.server, {"drain": flow_control.drain})
        forks.in_child(self._leave_child)
        try:
            await self._call("worker_start")
        except BaseException as error:
            process.boot_failed(error)
        process.connect()
        for descriptor in process.descriptors:
            self._loop.add_reader(descriptor, self._told)
        self._connect_links()
        self._beat()
        await self._stop.wait()
        await self._scheduler.stop()
        if process.is_to_retire():
            await self._call_for_worker("retire")
        if self._retired is not None:
            await self._retired
        await self._call_for_worker("worker_stop")
        await self._tasks.end()
        for descriptor in process.descriptors:
            self._loop.remove_reader(descriptor)
        process.goodbye()

    def _leave_child(self) -> None:
        """In a child that the app has forked in this loop's thread: nothing that the loop has may run there."""
        if get_ident() != self._thread or self._loop.is_closed():
            return
        ready = getattr(self._loop, "_ready", None)  # asyncio's own loop has it
        if ready is not None:
            ready.clear()
        task = self._scheduler.forked_in = asyncio.current_task(self._loop)
        self._loop.call_soon(end_child, task)

    async def _call(self, event: str) -> None:
        """Run a callback about the worker itself to its end."""
        result = self._process.invoker.call_for_worker(event, self._process.worker_id)
        if result is not None and hasattr(result, "__await__"):
            with forks.child_ends_here():
                await result

    async def _call_for_worker(self, event: str) -> None:
        """Run a callback about the worker's own end."""
        try:
            await self._call(event)
        except BaseException as error:
            self._process.invoker.failed_for_worker(event, error)

    def _beat(self) -> None:
        """Turn at least once a second, also while all coroutines wait."""
        self._read()
        self._loop.call_later(SLEEP_S, self._beat)

    def _connect_links(self) -> None:
        """Connect the links that are not connected and watch them; try again later if a master does not listen yet."""
        if self._process.connect_links():
            self._loop.call_later(RECONNECT_S, self._connect_links)
        for link in self._process.links.values():
            if link.wire is not None and link.unwatch is None:
                self._loop.add_reader(link.wire.descriptor, self._link_readable, link)
                link.unwatch = self._unwatch

    def _unwatch(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        self._loop.remove_writer(descriptor)

    def _end_child(self) -> None:
        """End a forked child that has come back to this loop."""
        if forks.forked:
            end_child(self._scheduler.forked_in)

    def _link_readable(self, link: MasterLink) -> None:
        link.look()
        self._read()

    def _told(self) -> None:
        """Take what the supervisor or another thread has sent."""
        self._process.supervisor.readable = True
        self._read()

    def _read(self) -> None:
        """Take what has come."""
        self._end_child()
        try:
            self._take()
        except SystemExit as error:  # of a signal handler of the app
            if not self._process.is_intact():
                loop_failed(error)
            self._loop.call_soon(self._read)
            raise
        except BaseException as error:
            loop_failed(error)
        self._flush()

    def _take(self) -> None:
        process = self._process
        self._flushing = True  # by `_read`
        process.obey()
        again = process.take_batches()
        self._scheduler.resume()
        if process.masters_changed:
            process.follow_masters()
            self._connect_links()
        if process.is_to_retire():
            self._retired = self._loop.create_task(self._call_for_worker("retire"), name="retire")
        if process.stopping:
            self._stop.set()
        elif not self._ending and process.is_drained():
            self._ending = True
            self._end_when_idle()
        if again:
            self._loop.call_soon(self._read)
        if not self._recording:
            self._recording = True
            self._loop.call_later(RECORD_S, self._record)

    def _end_when_idle(self) -> None:
        """Stop when every callback has finished; handlers that still run are cancelled then."""
        if self._scheduler.busy():
            self._loop.call_later(IDLE_LOOK_S, self._end_when_idle)
        else:
            self._stop.set()

    def _record(self) -> None:
        """Write the counters, and again later as long as callbacks go on."""
        wait = self._process.recorder.turn(NEVER)
        self._recording = wait < NEVER or self._scheduler.busy()
        if self._recording:
            self._loop.call_later(min(wait, RECORD_S), self._record)

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send the output, and take what was read meanwhile."""
        self._flushing = False
        self._process.masters.flush()
        if self._process.masters.is_blocked():
            for link in self._process.links.values():
                if link.wire is not None and link.wire.blocked:
                    self._loop.add_writer(link.wire.descriptor, self._link_has_room, link)
        if self._process.masters.has_batches():
            self._loop.call_soon(self._read)

    def _link_has_room(self, link: MasterLink) -> None:
        self._end_child()
        link.resume()
        if link.wire is not None and not link.wire.blocked:
            self._loop.remove_writer(link.wire.descriptor)
