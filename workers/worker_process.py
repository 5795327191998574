"""A worker's life: it boots, says hello to the masters, follows them when one dies, drains, and says goodbye.

A loop (loops.py) calls these steps in turn. A worker ends in one of three ways:
- *Stopped*: the masters have ended, so that nobody reads what it would still send.
- *Ended*: the supervisor wants it gone now; callbacks that run are cancelled, its output still leaves.
- *Drained*: it was replaced, and every master said that nothing follows; it ends when its callbacks have finished.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
from pathlib import Path

import msgpack
import zmq

from zwoole.shared.memory.turn_counter import TurnCounter
from zwoole.shared.process import forks, signals
from zwoole.shared.process.control_messages import NO_MASTER
from zwoole.shared.process.descriptors import file_identity
from zwoole.shared.process.log import boot_trace_of, get_logger, reopen
from zwoole.shared.settings import Settings
from zwoole.shared.wire.events import DRAIN, END_NOW, HELLO, PROTOCOL_VERSION, WELCOME
from zwoole.workers.background import name_threads, waited_for, watch_threads
from zwoole.workers.core.exits import BOOT_FAILED, CANNOT_START, end_worker
from zwoole.workers.invocation.dispatch import Dispatcher
from zwoole.workers.invocation.invocation import Invoker, hint
from zwoole.workers.links.commands import Commands
from zwoole.workers.links.master_link import MasterLink
from zwoole.workers.links.masters import Masters
from zwoole.workers.server import WORKER_COMMANDS, Server, install_commands, refuse_commands
from zwoole.workers.stats_writer import Recorder
from zwoole.workers.supervisor_link import SupervisorLink

BATCHES_PER_TURN = 16
GOODBYE_S = 1.0  # how long the last batch has to leave

log = get_logger("worker")


class WorkerProcess:
    """One worker process.

    Attributes:
        worker_id: the worker's number, from 0.
        output_limit: bytes that may wait to be sent to one client.
        loop: which event loop runs coroutines, as the setting names it.
        masters: the links that commands go over.
        commands: what callbacks can ask the masters to do.
        links: the links that batches may come from, by reactor: all but those of masters that are gone for good.
        server: the app's Server; from `begin` on, like those below.
        invoker: calls the app's callbacks.
        dispatcher: takes batches and has their callbacks run.
        recorder: writes the counters where other processes can read them.
        supervisor: the link to the supervisor.
        stopping: whether the worker is to stop now, whatever still runs.
        changed: whether there may be something to do since the loop has looked: to retire, to follow the masters, or to
            end. The loop resets it.
        obeying: whether a message of the supervisor is being carried out.
        ended: whether it has served, and what is left of the app's script is to end.
    """

    def __init__(
        self,
        run_dir: Path,
        worker_id: int,
        incarnation: int,
        master_incarnations: list[int],
        tables: list[int],
        turns: TurnCounter,
        settings: Settings,
        given: list[str],
    ) -> None:
        """Prepare to serve.

        Args:
            run_dir: the run directory.
            worker_id: the worker's number.
            incarnation: this process's number; no two processes ever have the same.
            master_incarnations: the incarnation of each reactor's master.
            tables: the descriptor of each reactor's connection table.
            turns: where this process counts its turns.
            settings: the effective settings.
            given: names of the settings that the command line gave; for these the app's values do not count.
        """
        self.worker_id = worker_id
        self.output_limit = settings.output_limit
        self.loop = settings.loop
        self.masters = Masters(settings.reactor_num, settings.up_window_bytes)
        self.masters.on_wait = self._obey_while_waiting
        self.masters.on_welcome = self._welcomed
        self.commands = Commands(self.masters, settings.pipe_queue_bytes)
        self.links: dict[int, MasterLink] = {}
        self.server: Server
        self.invoker: Invoker
        self.dispatcher: Dispatcher
        self.recorder: Recorder
        self.supervisor: SupervisorLink
        self.stopping = False
        self.changed = True
        self.obeying = False
        self.ended = False
        self._settings = settings
        self._run_dir = run_dir
        self._incarnation = incarnation
        self._master_incarnations = master_incarnations
        self._new_masters: list[int] | None = None  # incarnations that `follow_masters` has not seen
        self._tables = tables
        self._inherited = [file_identity(table) for table in tables]
        self._turns = turns
        self._given = given
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._drained: set[MasterLink] = set()  # those on which no event follows
        self._is_replaced = False  # whether this worker was replaced and a newer master does not know it
        self._retire_due = False
        self._linger_s = GOODBYE_S
        self._recycle: tuple[str, str] | None = None  # why this worker is to be replaced: as it is counted, in words
        self._recycle_told = False
        self._max_events = jittered(settings.max_request)

    # Boot.

    def begin(self, server: Server) -> None:
        """Take over from the app's script, whose `start()` was reached: build the parts, and tell the supervisor."""
        self._end_if_descriptors_are_gone()
        self.server = server
        self.invoker = Invoker(server, server.callbacks, self.commands, self._settings.slow_callback_s)
        self.dispatcher = Dispatcher(self.invoker, self.commands)
        self.dispatcher.on_command = self._take_command
        self.recorder = Recorder(self._run_dir, self.worker_id, self._incarnation, self.invoker.counts, self.masters)
        install_commands(server, {name: getattr(self.commands, name) for name in WORKER_COMMANDS})
        install_commands(server, {"stats": self.recorder.stats})
        server.worker_id = self.worker_id
        self.supervisor = SupervisorLink(self._context, self._run_dir, self._incarnation)
        signals.leave_to_supervisor()  # again: the script may have installed its own handlers
        signals.install(signal.SIGTERM, self._terminated)
        forks.in_child(self._leave_child)
        changed = self._settings.changes(server.settings, self._given)
        self.supervisor.say_hello(sys.gettrace() is not None, changed)
        watch_threads()

    def _end_if_descriptors_are_gone(self) -> None:
        """End this worker if its app has closed our descriptors: the log's is among them, so stderr is told."""
        if [file_identity(table) for table in self._tables] == self._inherited:
            return
        with open(2, "w", closefd=False) as stderr:
            print(
                f"zwoole: worker {self.worker_id} cannot serve: its app has closed descriptors that zwoole needs, as "
                "os.closerange does; close only what the app has opened",
                file=stderr,
            )
        os._exit(BOOT_FAILED)

    def boot_failed(self, error: BaseException) -> None:
        """Say why `worker_start` failed, and end the worker."""
        again, trace = boot_trace_of(error, self._run_dir)
        words = "worker_start failed: this worker cannot serve%s%s"
        end_worker(words, hint(error), again, code=BOOT_FAILED, exc_info=trace)

    def connect(self) -> None:
        """Say hello to every master, and begin to send output in time.

        What the app has made by now stays, so the garbage collector need not look at it again.
        """
        gc.collect()
        gc.freeze()
        for reactor, incarnation in enumerate(self._master_incarnations):
            self._connect(reactor, incarnation)
        try:
            self.masters.start_flusher()
        except RuntimeError as error:
            words = "no thread can be started: %s; `ulimit -u` or a container's limit of processes is too low"
            end_worker(words, error, code=BOOT_FAILED)

    def _connect(self, reactor: int, incarnation: int) -> MasterLink:
        """Return a new link to a master, whose first batch says what the app serves."""
        hello = {
            "callbacks": "message" in self.server.callbacks,
            "handshake": "handshake" in self.server.callbacks,
            "handlers": sorted(self.server.handlers),
        }
        link = MasterLink(self._run_dir, self._incarnation, incarnation, self.masters.flusher)
        link.turns = self._turns
        link.writer.add_bytes(HELLO, PROTOCOL_VERSION, msgpack.packb(hello))
        self.links[reactor] = self.masters.links[reactor] = link
        return link

    def connect_links(self) -> bool:
        """Connect the links whose masters did not listen before; return whether there is still such a link."""
        waiting = False
        for link in self.links.values():
            if link.wire is None and not link.closed:
                try:
                    waiting = not link.connect() or waiting
                except PermissionError as error:
                    end_worker("this worker ends: %s", error, code=CANNOT_START)
        return waiting

    def _welcomed(self, link: MasterLink, body: bytes) -> None:
        """Open what a master shares with this worker, now that it has answered the hello.

        A command that waited for the answer may have read it already. A worker that cannot open what the master shares
        is of no use; its successor may find it there.
        """
        if link.ready:
            return
        welcome = msgpack.unpackb(body)
        table = self._tables[self.masters.links.index(link)]
        try:
            link.welcome(welcome["up_window"], table, welcome["memory"])
        except (OSError, ValueError) as error:
            words = "this worker ends: it cannot open what the master shares with it: %s"
            end_worker(words, error, code=CANNOT_START)

    # Serve.

    @property
    def descriptors(self) -> tuple[int, int]:
        """Readable when the supervisor has sent something, and when another thread has handed a command over."""
        return self.supervisor.descriptor, self.masters.mailbox.descriptor

    def take_batches(self) -> bool:
        """Have the callbacks run for what the masters have sent; return whether some link may have more."""
        more = False
        for link in self.links.values():
            if self.dispatcher.take_batches(link, BATCHES_PER_TURN):
                more = True
        return more

    def obey(self) -> None:
        """Take the supervisor's messages, show it that the loop turns, and ask for a successor if one is needed."""
        self._turns.tick()
        self._look_at_recycling()
        while (message := self.supervisor.receive()) is not None:
            self.obeying = True
            self.changed = True
            if message["type"] == "stop":
                self._begin_to_retire()
                self.stopping = True
                self._linger_s = 0.0  # the masters have ended, so nobody reads the rest
                self.masters.have_ended = True
            elif message["type"] == "retire":
                self._begin_to_retire()
            elif message["type"] == "end":
                self._begin_to_retire()
                self.stopping = True
            elif message["type"] == "masters":
                self._masters_changed(message["incarnations"])
            elif message["type"] == "reopen_log":
                reopen(self._settings.log_file)
            else:
                log.warning("the supervisor sent a message of unknown type %r", message["type"])
            self.obeying = False

    def _obey_while_waiting(self) -> None:
        """Do what `obey` does while a push waits, when the loop looks at no descriptor."""
        self.supervisor.readable = True
        self.obey()

    def _take_command(self, link: MasterLink, kind: int, number: int, body: bytes) -> bool:
        """Take an event that no callback is for; return False if its kind is unknown."""
        self.changed = True
        if kind == WELCOME:
            self._welcomed(link, body)
        elif kind == DRAIN:
            self._begin_to_retire()  # the supervisor's message may come later
            self._drained.add(link)
            if number == END_NOW:
                self.stopping = True
            else:
                link.owned.clear()  # other workers have its connections now, or get them
        else:
            return False
        return True

    # Masters die.

    def _masters_changed(self, incarnations: list[int]) -> None:
        """A master died, or its successor is there: close the dead one's link now; `follow_masters` does the rest.

        What was not sent is dropped, or the successor would be told of connections that it never had.

        Args:
            incarnations: the incarnation of each reactor's master; NO_MASTER stands for a successor that came after
                this worker was replaced, and does not know it.
        """
        self._master_incarnations = self._new_masters = incarnations
        for reactor, link in self.links.items():
            if link.incarnation != incarnations[reactor] and not link.closed:
                link.close(0)

    @property
    def masters_changed(self) -> bool:
        """Whether `follow_masters` has something to do."""
        return self._new_masters is not None

    def follow_masters(self) -> list[MasterLink]:
        """Tell the app of the connections that went with a master, and connect to its successor; return new links."""
        incarnations, self._new_masters = self._new_masters or [], None
        new = []
        for reactor, incarnation in enumerate(incarnations):
            old = self.links.get(reactor)
            if old is None or old.incarnation == incarnation:
                continue
            self.dispatcher.master_died(old)
            if incarnation == NO_MASTER:
                self._is_replaced = True
                del self.links[reactor]
            else:
                new.append(self._connect(reactor, incarnation))
        return new

    # A successor is needed.

    def ask_for_successor(self, reason: str, why: str) -> None:
        """Have the supervisor replace this worker; may be called by a signal handler.

        Args:
            reason: why, as it is counted.
            why: the same in words.
        """
        self._recycle = reason, why
        self.masters.mailbox.wake()

    def _terminated(self, number: int, frame: object) -> None:
        self.ask_for_successor("SIGTERM", "it was sent SIGTERM")

    def _look_at_recycling(self) -> None:
        """Ask for a successor, once, if there is a reason; until it is there this worker goes on."""
        if self._recycle_told:
            return
        events = self.invoker.counts.finished
        if self.invoker.exit_requested:
            self._recycle = "SystemExit", "a callback raised SystemExit"
        elif self._max_events and events >= self._max_events:
            self._recycle = "max_request", f"it has run {events} events"
        if self._recycle is not None:
            self._recycle_told = True
            self.supervisor.ask_for_successor(*self._recycle)

    # The end.

    def is_to_retire(self) -> bool:
        """Tell, once, whether the `retire` callback is to run."""
        due, self._retire_due = self._retire_due, False
        return due

    def is_intact(self) -> bool:
        """Tell whether nothing is lost by an exception that a signal handler of the app raises now in the loop."""
        return not (self.dispatcher.taking or self.obeying)

    def _begin_to_retire(self) -> None:
        if not self.server.retiring:
            self.server.retiring = self._retire_due = True

    def is_drained(self) -> bool:
        """Tell whether no master has anything more for this worker: it ends when its callbacks have."""
        if self.masters_changed or not (self._drained or self._is_replaced):
            return False
        return all(link in self._drained or not link.ready for link in self.links.values())

    def goodbye(self) -> None:
        """Send the output that is left, and tell the masters that are still there that nothing follows."""
        self.recorder.write()
        self.masters.goodbye(self._linger_s)

    def end(self) -> None:
        """Let go of what is left after the loop; the app's script may still do something when `start()` is left."""
        self.supervisor.close()
        self._context.term()
        name_threads(waited_for())
        self.ended = True

    def _leave_child(self) -> None:
        """In a child that the app has forked: it is no worker, and the masters must see when this one has ended."""
        self.invoker.forked = True
        refuse_commands(self.server)
        self.masters.flusher.abandon()
        self.masters.mailbox.abandon()
        forks.close_connections(self._run_dir)


def jittered(events: int) -> int:
    """Return a number at most a tenth off, so that workers started together are not replaced together."""
    return 0 if events == 0 else max(1, round(events * random.uniform(0.9, 1.1)))
