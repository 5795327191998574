"""A worker: connects to the masters, runs `worker_start`, says hello, and serves events until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from typing import Any

import msgpack
import zmq

from zwoole.shared.errors import WrongProcess
from zwoole.shared.memory.turn_counter import TurnCounter
from zwoole.shared.process import control_messages, forks, signals
from zwoole.shared.process.descriptors import file_identity
from zwoole.shared.process.log import boot_trace_of, flush, get_logger, reopen
from zwoole.shared.process.run_files import control_address
from zwoole.shared.settings import Settings
from zwoole.shared.wire.batches import BYE, DRAIN, END_NOW, HELLO, PROTOCOL_VERSION, WELCOME
from zwoole.workers.background import Tasks, end_executor, name_threads, waited_for, watch_threads
from zwoole.workers.commands import Commands
from zwoole.workers.dispatch import Dispatcher
from zwoole.workers.flow_control import FlowControl
from zwoole.workers.invocation import Invoker, check_result, hint
from zwoole.workers.link import MasterLink
from zwoole.workers.masters import Masters
from zwoole.workers.scheduler import Scheduler
from zwoole.workers.server import Server, bind, forbid
from zwoole.workers.stats_writer import RECORD_S, Recorder

CANNOT_START = 1  # exit code of a worker that finds the run directory, or a part of it, gone
BOOT_FAILED = 3  # exit code of a worker whose app or `worker_start` failed
BATCHES_PER_TURN = 16
SLEEP_S = 1.0  # the supervisor sees by it that the loop turns
NEVER = float("inf")
IDLE_LOOK_S = 0.02  # how often a worker that is to end looks whether its callbacks have finished
GOODBYE_S = 1.0  # how long the last batch has to leave
LOOP_FAILED = 1  # exit code of a worker whose loop an exception has ended

log = get_logger("worker")


class Runtime:
    """One worker process.

    Attributes:
        recorder: who writes its counters where others can read them.
        ended: whether it has served, and what is left of the app's script is to end.
    """

    def __init__(
        self,
        run_dir: Path,
        slot: int,
        incarnation: int,
        epochs: list[int],
        tables: list[int],
        turns: TurnCounter,
        settings: Settings,
        given: list[str],
    ) -> None:
        """Prepare to serve.

        Args:
            run_dir: the run directory.
            slot: the worker's number.
            incarnation: this process's number; no two workers ever have the same.
            epochs: the incarnation of each reactor's master.
            tables: the descriptor of each reactor's connection table.
            turns: where this process counts its turns.
            settings: the effective settings.
            given: names of those that the command line gave, for which the file does not count.
        """
        self.ended = False
        self._run_dir = run_dir
        self._slot = slot
        self._incarnation = incarnation
        self._settings = settings
        self._given = given
        self._epochs = epochs
        self._tables = tables
        self._inherited = [file_identity(table) for table in tables]
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._masters = Masters(settings.reactor_num, settings.up_window_bytes)
        self._masters.on_wait = self.obey
        self._masters.on_welcome = self._welcomed
        self._commands = Commands(self._masters, settings.pipe_queue_bytes)
        self._mailbox = self._masters.mailbox
        self._turns = turns
        self._invoker: Invoker
        self._dispatcher: Dispatcher
        self.recorder: Recorder
        self._server: Server
        self._links: list[MasterLink] = []
        self._control: zmq.Socket[bytes]
        self._stopping = False
        self._drained: set[MasterLink] = set()  # those on which no event follows
        self._left: set[MasterLink] = set()  # those of masters that died when this worker had been replaced
        self._retire_due = False
        self._linger_s = GOODBYE_S
        self._recycle: tuple[str, str] | None = None  # why this worker is to be replaced: as it is counted, in words
        self._recycle_told = False
        self._max_events = jittered(settings.max_request)
        self._new_epochs: list[int] | None = None

    def run(self, server: Server) -> None:
        """Be the worker that `server` describes; ends the process."""
        self._end_if_descriptors_are_gone()
        self._server = server
        self._invoker = Invoker(server, server.callbacks, self._commands, self._settings.slow_callback_s)
        self._dispatcher = Dispatcher(self._invoker, self._commands)
        self._dispatcher.on_command = self._take_command
        self.recorder = Recorder(self._run_dir, self._slot, self._incarnation, self._invoker.counts, self._masters)
        names = (
            *("push", "ping", "broadcast", "disconnect", "set_state", "send_message"),
            *("exists", "is_established", "buffered_amount"),
        )
        bind(server, {name: getattr(self._commands, name) for name in names})
        bind(server, {"stats": self.recorder.stats})
        server.worker_id = self._slot
        self._control = self._context.socket(zmq.DEALER)
        self._control.setsockopt(zmq.IDENTITY, f"worker-{self._incarnation}".encode())
        self._control.setsockopt(zmq.LINGER, 0)
        self._control.connect(control_address(self._run_dir))
        signals.leave_to_supervisor()  # again: the script may have installed its own handlers
        signals.install(signal.SIGTERM, self._terminated)
        forks.in_child(self._leave_child)
        changed = self._settings.changes(server.settings, self._given)
        debugged = sys.gettrace() is not None
        self._control.send(control_messages.pack("hello", role="worker", debugged=debugged, changed=changed))
        watch_threads()
        try:
            if server.has_coroutines:
                AsyncLoop(self).run()
            else:
                self._serve()
        except SystemExit:
            raise
        except BaseException as error:
            self.loop_failed(error)
        self._control.close()
        self._context.term()
        name_threads(waited_for())
        self.ended = True
        raise SystemExit(0)

    def _end_if_descriptors_are_gone(self) -> None:
        """End this worker if its app has closed our descriptors: the log's is among them, so stderr is told."""
        if [file_identity(table) for table in self._tables] == self._inherited:
            return
        with open(2, "w", closefd=False) as stderr:
            print(
                f"zwoole: worker {self._slot} cannot serve: its app has closed descriptors that zwoole needs, as "
                "os.closerange does; close only what the app has opened",
                file=stderr,
            )
        os._exit(BOOT_FAILED)

    def loop_failed(self, error: BaseException) -> None:
        """End a worker whose loop was left by an exception: what it had begun cannot be trusted any more."""
        log.error("an exception ended this worker's loop, such as one that a signal handler raises", exc_info=error)
        flush()
        os._exit(LOOP_FAILED)

    # The loop of an app without coroutines.

    def _serve(self) -> None:
        self.boot(lambda: check_result(self._invoker.call_for_worker("worker_start", self._slot)))
        poller = select.epoll()
        for descriptor in (*(link.descriptor for link in self._links), self.wake_descriptor, self.control_descriptor):
            poller.register(descriptor, select.EPOLLIN)
        while not self.stopping:
            self._take_batches()
            self._masters.flush()
            self.obey()
            if self.is_to_retire():
                self._tell("retire")
            if self._new_epochs is not None:
                for link in self.follow_masters():
                    poller.register(link.descriptor, select.EPOLLIN)
            if self.is_drained():
                self._stopping = True
            if not self.stopping and not any(link.readable() for link in self._links):
                poller.poll(self.recorder.turn(SLEEP_S))
        self._take_batches()
        if self.is_to_retire():
            self._tell("retire")
        self._tell("worker_stop")
        self.goodbye()

    def _tell(self, event: str) -> None:
        """Run a callback about the worker's own end."""
        try:
            check_result(self._invoker.call_for_worker(event, self._slot))
        except BaseException as error:
            self._invoker.failed_for_worker(event, error)

    def _take_batches(self) -> None:
        for link in self._links:
            for _ in range(BATCHES_PER_TURN):
                parts = link.receive()
                if parts is None:
                    break
                self._dispatcher.take_batch(link, parts)

    # Steps that both loops take.

    @property
    def control_descriptor(self) -> int:
        """The supervisor's socket, for polling."""
        return int(self._control.getsockopt(zmq.FD))

    @property
    def wake_descriptor(self) -> int:
        """Readable when another thread handed a function over."""
        return self._mailbox.descriptor

    @property
    def links(self) -> list[MasterLink]:
        """The wire to each master."""
        return self._links

    @property
    def dispatcher(self) -> Dispatcher:
        """Who runs the callbacks."""
        return self._dispatcher

    @property
    def invoker(self) -> Invoker:
        """Calls the callbacks."""
        return self._invoker

    @property
    def worker_id(self) -> int:
        """The worker's number."""
        return self._slot

    @property
    def masters(self) -> Masters:
        """The links to all masters."""
        return self._masters

    @property
    def output_limit(self) -> int:
        """Bytes that may wait to be sent to one client."""
        return self._settings.output_limit

    @property
    def commands(self) -> Commands:
        """What callbacks can do."""
        return self._commands

    @property
    def server(self) -> Server:
        """The app."""
        return self._server

    def boot(self, worker_start: Callable[[], object]) -> None:
        """Run `worker_start`, then say hello to every master; a failure ends the process."""
        try:
            worker_start()
        except BaseException as error:
            self.boot_failed(error)
        self.say_hello()

    def boot_failed(self, error: BaseException) -> None:
        """Say why the worker cannot serve, and end it."""
        again, trace = boot_trace_of(error, self._run_dir)
        log.error("worker_start failed: this worker cannot serve%s%s", hint(error), again, exc_info=trace)
        flush()
        os._exit(BOOT_FAILED)

    def say_hello(self) -> None:
        """Connect to every master; what the app has made by now stays, and the collector need not look at it again."""
        gc.collect()
        gc.freeze()
        self._links = [self._connect(reactor, epoch) for reactor, epoch in enumerate(self._epochs)]
        try:
            self._masters.start_flusher()
        except RuntimeError as error:
            log.error("no thread can be started: %s; `ulimit -u` or a container's limit of processes is too low", error)
            flush()
            os._exit(BOOT_FAILED)

    def _connect(self, reactor: int, epoch: int) -> MasterLink:
        """Connect to a master and tell it what the app serves."""
        hello = {
            "callbacks": "message" in self._server.callbacks,
            "handshake": "handshake" in self._server.callbacks,
            "handlers": sorted(self._server.handlers),
        }
        link = MasterLink(self._context, self._run_dir, self._incarnation, epoch, self._masters.flusher)
        link.turns = self._turns
        link.writer.add_bytes(HELLO, PROTOCOL_VERSION, msgpack.packb(hello))
        link.flush()
        self._masters.links[reactor] = link
        return link

    def is_to_retire(self) -> bool:
        """Tell, once, whether the `retire` callback is to run."""
        due, self._retire_due = self._retire_due, False
        return due

    def _begin_to_retire(self) -> None:
        if not self._server.retiring:
            self._server.retiring = self._retire_due = True

    @property
    def stopping(self) -> bool:
        """Whether the worker is to stop now, whatever still runs."""
        return self._stopping

    def is_drained(self) -> bool:
        """Tell whether no master has anything more for this worker: it ends when its callbacks have."""
        if self._new_epochs is not None or not (self._drained or self._left):
            return False
        return all(link in self._drained or not link.ready for link in self._links)

    def obey(self) -> None:
        """Take the supervisor's messages, show it that the loop turns, and tell it where this worker is worn."""
        self._turns.tick()
        self._look_at_recycling()
        while int(self._control.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            message = control_messages.unpack(self._control.recv(zmq.DONTWAIT))
            if message["type"] == "stop":
                self._begin_to_retire()
                self._stopping = True
                self._linger_s = 0.0  # the masters have ended: nobody is there to hear the rest
                self._masters.have_ended = True
            elif message["type"] == "retire":
                self._begin_to_retire()
            elif message["type"] == "end":
                self._begin_to_retire()
                self._stopping = True
            elif message["type"] == "masters":
                self._masters_changed(message["epochs"])
            elif message["type"] == "reopen_log":
                reopen(self._settings.log_file)
            else:
                log.warning("the supervisor said %r, which this worker does not know", message["type"])

    def _look_at_recycling(self) -> None:
        """Ask for a successor, where there is a reason; until it is there this worker goes on."""
        if self._recycle_told:
            return
        if self._invoker.exit_requested:
            self._recycle = "SystemExit", "a callback raised SystemExit"
        elif self._max_events and self._invoker.counts.finished >= self._max_events:
            self._recycle = "max_request", f"it has run {self._invoker.counts.finished} events"
        if self._recycle is not None:
            self._recycle_told = True
            reason, why = self._recycle
            self._control.send(control_messages.pack("recycle", reason=reason, why=why), zmq.DONTWAIT)

    def _terminated(self, number: int, frame: object) -> None:
        self.ask_for_successor("SIGTERM", "it was sent SIGTERM")

    def ask_for_successor(self, reason: str, why: str) -> None:
        """Have the supervisor replace this worker; may be called by a signal handler.

        Args:
            reason: why, as it is counted.
            why: the same in words.
        """
        self._recycle = reason, why
        self._mailbox.wake()

    def _masters_changed(self, epochs: list[int]) -> None:
        """A master died, or its successor is there: let go of the dead one's wire now, the rest comes between events.

        NO_MASTER stands for a successor that came when this worker had been replaced, and does not know it.

        What was not sent is dropped, or the successor would be told of connections that it never had.
        """
        self._epochs = epochs
        self._new_epochs = epochs
        for link, epoch in zip(self._links, epochs, strict=True):
            if link.epoch != epoch and not link.closed:
                link.close(0)

    def follow_masters(self) -> list[MasterLink]:
        """Tell the app of the connections that went with a master, and connect to its successor; return new links."""
        epochs, self._new_epochs = self._new_epochs, None
        new = []
        for reactor, epoch in enumerate(epochs or []):
            old = self._links[reactor]
            if old.epoch == epoch or old in self._left:
                continue
            self._dispatcher.master_died(old)
            if epoch == control_messages.NO_MASTER:
                self._left.add(old)
                continue
            self._links[reactor] = self._connect(reactor, epoch)
            new.append(self._links[reactor])
        return new

    def has_left(self, link: MasterLink) -> bool:
        """Tell whether a link's master is gone for good."""
        return link in self._left

    @property
    def masters_changed(self) -> bool:
        """Whether `follow_masters` has something to do."""
        return self._new_epochs is not None

    def goodbye(self) -> None:
        """Send what waits, and the word that nothing follows, to masters that are still there to read it."""
        self.recorder.write()
        self._masters.flusher.stop()
        self._masters.flush_all()
        self._mailbox.close()
        for link in self._links:
            link.writer.add(BYE, 0)
            link.flush()
            if not link.closed:
                link.close(self._linger_s)
        self._masters.said_goodbye = True
        self._masters.links[:] = [None] * len(self._masters.links)

    def _leave_child(self) -> None:
        """In a child that the app has forked: it is no worker, and the masters must see when this one has ended."""
        self._invoker.forked = True
        forbid(self._server)
        self._masters.flusher.abandon()
        self._mailbox.abandon()
        forks.close_connections(self._run_dir)

    def _take_command(self, link: MasterLink, kind: int, number: int, body: bytes) -> bool:
        if kind == WELCOME:
            self._welcomed(link, body)
        elif kind == DRAIN:
            self._begin_to_retire()  # the supervisor's word of it may come later
            self._drained.add(link)
            self._stopping = self._stopping or number == END_NOW
        else:
            return False
        return True

    def _welcomed(self, link: MasterLink, body: bytes) -> None:
        """A master took our hello; a command that waited for that may have read its answer already.

        A worker that cannot open what the master shares is of no use; its successor may find it there.
        """
        if link.ready:
            return
        welcome = msgpack.unpackb(body)
        table = self._tables[self._masters.links.index(link)]
        try:
            link.welcome(welcome["up_window"], table, welcome["memory"])
        except (OSError, ValueError) as error:
            log.error("this worker ends, it cannot open what the master shares with it: %s", error)
            flush()
            os._exit(CANNOT_START)


def jittered(events: int) -> int:
    """Return a number at most a tenth off, so that workers started together are not replaced together."""
    return 0 if events == 0 else max(1, round(events * random.uniform(0.9, 1.1)))


class AsyncLoop:
    """The loop of an app with coroutines: the same steps, called by asyncio."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
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

        SystemExit and KeyboardInterrupt of a task leave the loop; the loop is in order then, and goes on.
        """
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        main = self._loop.create_task(self.serve(), name="zwoole")
        self._tasks = Tasks(self._loop)
        while not main.done():
            try:
                self._loop.run_until_complete(main)
            except SystemExit as error:
                forks.leave(error)
                self._runtime.ask_for_successor("SystemExit", "a task raised SystemExit")
            except KeyboardInterrupt as error:
                forks.leave(error)
                log.error("a task raised KeyboardInterrupt", exc_info=error)
        main.result()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(end_executor())
        self._loop.close()

    async def serve(self) -> None:
        """Serve until told to stop."""
        runtime = self._runtime
        server = runtime.server
        flow_control = FlowControl(runtime.masters, runtime.output_limit)
        self._scheduler = Scheduler(runtime.invoker, runtime.commands, flow_control, server.handlers)
        runtime.dispatcher.scheduler = self._scheduler
        runtime.masters.may_block = False
        runtime.masters.on_output = self._flush_soon
        bind(server, {"drain": flow_control.drain})
        forks.in_child(self._leave_child)
        try:
            await self._callback("worker_start")
        except BaseException as error:
            runtime.boot_failed(error)
        runtime.say_hello()
        for link in runtime.links:
            self._loop.add_reader(link.descriptor, self._read)
        self._loop.add_reader(runtime.control_descriptor, self._read)
        self._loop.add_reader(runtime.wake_descriptor, self._read)
        self._beat()
        await self._stop.wait()
        await self._scheduler.stop()
        if runtime.is_to_retire():
            await self._tell("retire")
        if self._retired is not None:
            await self._retired
        await self._tell("worker_stop")
        await self._tasks.end()
        for link in runtime.links:
            self._loop.remove_reader(link.descriptor)
        self._loop.remove_reader(runtime.control_descriptor)
        self._loop.remove_reader(runtime.wake_descriptor)
        runtime.goodbye()

    def _leave_child(self) -> None:
        """In a child that the app has forked in this loop's thread: let nothing else run there that the loop has."""
        if get_ident() != self._thread or self._loop.is_closed():
            return
        ready = getattr(self._loop, "_ready", None)  # asyncio's own loop has it
        if ready is not None:
            ready.clear()
        self._loop.call_soon(end_child, asyncio.current_task(self._loop))

    async def _callback(self, event: str) -> None:
        result = self._runtime.invoker.call_for_worker(event, self._runtime.worker_id)
        if result is not None and hasattr(result, "__await__"):
            with forks.child_ends_here():
                await result

    async def _tell(self, event: str) -> None:
        """Run a callback about the worker's own end."""
        try:
            await self._callback(event)
        except BaseException as error:
            self._runtime.invoker.failed_for_worker(event, error)

    def _beat(self) -> None:
        """Turn at least once a second, also where all coroutines wait."""
        self._read()
        self._loop.call_later(SLEEP_S, self._beat)

    def _read(self) -> None:
        """Take what has come, from whomever: ZeroMQ's descriptors do not tell twice, so all are asked."""
        try:
            self._take()
        except BaseException as error:
            self._runtime.loop_failed(error)

    def _take(self) -> None:
        runtime = self._runtime
        runtime.obey()
        again = False
        for link in runtime.links:
            for _ in range(BATCHES_PER_TURN):
                parts = link.receive()
                if parts is None:
                    break
                runtime.dispatcher.take_batch(link, parts)
            else:
                again = True
        self._scheduler.resume()
        if runtime.masters_changed:
            self._follow_masters()
        if runtime.is_to_retire():
            self._retired = self._loop.create_task(self._tell("retire"), name="retire")
        if runtime.stopping:
            self._stop.set()
        elif not self._ending and runtime.is_drained():
            self._ending = True
            self._end_when_idle()
        if again:
            self._loop.call_soon(self._read)
        self._flush_soon()
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
        wait = self._runtime.recorder.turn(NEVER)
        self._recording = wait < NEVER or self._scheduler.busy()
        if self._recording:
            self._loop.call_later(min(wait, RECORD_S), self._record)

    def _follow_masters(self) -> None:
        runtime = self._runtime
        for link in runtime.links:
            if link.closed and not runtime.has_left(link):  # else another may have the descriptor by now
                self._loop.remove_reader(link.descriptor)
        for link in runtime.follow_masters():
            self._loop.add_reader(link.descriptor, self._read)

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what waits; then look once more, since sending can use up the descriptor's edge."""
        self._flushing = False
        self._runtime.masters.flush()
        if any(link.readable() for link in self._runtime.links):
            self._loop.call_soon(self._read)


def end_child(task: asyncio.Task[Any] | None) -> None:
    """End a forked child that has come back to its parent's event loop.

    Args:
        task: the task that forked, None where it was none.
    """
    with forks.child_ends_here():
        if task is not None and not task.done():
            raise WrongProcess(
                "a process that a coroutine has forked cannot await anything: the event loop is its parent's; fork with"
                " multiprocessing or concurrent.futures"
            )
        if task is not None:
            task.result()
