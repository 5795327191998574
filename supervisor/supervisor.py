"""The supervisor: starts the master and the workers, keeps them alive, obeys signals and the zwoole command.

Its loop waits for three kinds of things: a signal (handlers only queue), the end of a child (pidfd), a message on the
control socket; then it looks whether something is due. Nothing in it blocks.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import os
import random
import select
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from zwoole.shared import build
from zwoole.shared.errors import StartError
from zwoole.shared.memory import mapping, stats
from zwoole.shared.process import forks, signals, titles
from zwoole.shared.process import plan as plans
from zwoole.shared.process.log import get_logger, reopen
from zwoole.supervisor import reaper
from zwoole.supervisor.admin_http import AdminListener
from zwoole.supervisor.control_server import ControlServer
from zwoole.supervisor.missing import describe
from zwoole.supervisor.notify import READY, WATCHDOG, Notifier
from zwoole.supervisor.processes import Crew
from zwoole.supervisor.queries import Queries
from zwoole.supervisor.run_directory import RunDirectory
from zwoole.supervisor.shutdown import Stop
from zwoole.supervisor.status import Status
from zwoole.supervisor.upkeep import Upkeep
from zwoole.supervisor.watching import Watcher
from zwoole.workers.server import Server, install_commands, refuse_commands, remove_commands

MAX_SLEEP_S = 1.0
# Processes of a supervisor that was killed live on for seconds. A server that is started at once in the same run
# directory has other numbers, so that they cannot be taken for its own.
FIRST_INCARNATIONS = (1_000_000, 1_000_000_000)

log = get_logger("supervisor")


class Supervisor:
    """Runs one server."""

    def __init__(
        self,
        server: Server,
        plan: plans.Plan,
        directory: RunDirectory,
        listeners: list[list[socket.socket]],
        watched: Sequence[Path] = (),
    ) -> None:
        """Prepare.

        Args:
            server: the app's server.
            plan: how it is to run.
            directory: the run directory, which this process holds.
            listeners: for each reactor, its listening sockets.
            watched: folders in which a change of a Python file has the workers replaced.
        """
        self._server = server
        addresses = [where(listening) for listening in listeners[0]]
        self._plan = dataclasses.replace(plan, listening=addresses)
        self._settings = plan.settings
        self._directory = directory
        self._watched = watched
        self._handed_over: collections.deque[Callable[[], None]] = collections.deque()
        self._listeners = listeners
        self._notifier = Notifier()
        self._told_of_reload = False
        self._changed_early = False  # a watched file, before the start was over
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._reaps_strangers = reaper.is_reaper()
        self._signals: collections.deque[int] = collections.deque()
        self._lifeline_read, self._lifeline_write = os.pipe2(os.O_CLOEXEC)
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._tables: list[int] = []
        self._poll = select.poll()
        self._control: ControlServer
        self._admin: AdminListener | None = None
        self._crew: Crew
        self._stop: Stop
        self._status: Status
        self._upkeep: Upkeep

    def run(self) -> int:
        """Serve until stopped; return the exit code.

        Raises:
            StartError: the admin listener's address cannot be listened on, the run directory has no room, or the
            machine lets no process be started.
        """
        titles.set_name("zwoole")
        if self._settings.admin_port:
            self._admin = AdminListener(self._settings, self._directory.path, self._readiness)
        self._control = ControlServer(self._directory.path)
        self._upkeep = Upkeep(self._directory, self._plan, self._control.bind, self._later)
        masters, workers = self._settings.reactor_num, self._settings.worker_num
        self._upkeep.furnish(1 + masters + workers, masters * workers)
        self._crew = self._make_crew()
        self._stop = self._make_stop()
        install_commands(self._server, {"stats": lambda: stats.gather(self._directory.path)})
        self._status = Status(self._crew, str(self._directory.path), self._plan.target, self._plan.listening)
        queries = Queries(self._crew, self._control.tell, self._later)
        self._control.serve(self._crew, self._stop, queries, self._status)
        self._take_signals()
        forks.in_child(self._leave_child)
        if self._admin is not None:
            self._admin.start()
        self._poll.register(self._control.descriptor, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)
        watcher = Watcher(self._watched, self._files_changed) if self._watched else None
        try:
            self._crew.start_all()
            self._upkeep.begin()
            while self._crew.children or self._due:
                self._turn()
        finally:
            if watcher is not None:
                watcher.stop()
            self._clean_up()
        if self._crew.complete:
            self._run_callback("shutdown")
        remove_commands(self._server)
        return self._stop.exit_code

    def _make_crew(self) -> Crew:
        try:
            self._tables = [mapping.anonymous("zwoole-table", self._directory.path) for _ in self._listeners]
        except OSError as error:
            raise StartError(f"cannot make shared memory: {error.strerror}") from None
        return Crew(
            self._settings,
            self._directory.path,
            self._listeners,
            self._tables,
            self._lifeline_read,
            tell=self._control.tell,
            later=self._later,
            watch=lambda pidfd: self._poll.register(pidfd, select.POLLIN),
            run_callback=self._run_callback,
            give_up=lambda exit_code: self._stop.give_up(exit_code),
            on_complete=self._announce,
            lacks=self._upkeep.lacks,
            first_incarnation=random.randrange(*FIRST_INCARNATIONS),
        )

    def _make_stop(self) -> Stop:
        return Stop(
            self._crew,
            self._settings,
            self._listeners,
            self._notifier,
            tell=self._control.tell,
            later=self._later,
            before_shutdown=lambda: self._run_callback("before_shutdown"),
        )

    def _turn(self) -> None:
        """Wait for something to happen, and see to it."""
        now = time.monotonic()
        sleep = min([MAX_SLEEP_S, *(when - now for when, _ in self._due)])
        if not self._control.waiting:
            for descriptor, _ in self._poll.poll(max(sleep, 0) * 1000):
                if descriptor in self._crew.children:
                    self._poll.unregister(descriptor)
                    self._crew.ended(self._crew.children.pop(descriptor))
        if self._reaps_strangers:
            own = {child.process.pid for child in self._crew.children.values()}
            reaper.reap(own | self._crew.orphans.leaders.keys())
        self._control.hear()
        self._handle_signals()
        while self._handed_over:
            self._handed_over.popleft()()
        self._run_due()
        self._tell_of_reload()
        self._stop.go_on()
        if self._crew.stopping and not self._crew.children and not self._crew.orphans.leaders:
            self._due.clear()  # nothing of it matters any more

    # What it says to others.

    def _readiness(self) -> tuple[bool, str]:
        """Tell whether clients should be sent here, and why not, or who is missing; asked from the admin listener's
        threads.
        """
        crew = self._crew
        missing = describe(crew.missing())
        if crew.stopping:
            return False, "not ready: the server is stopping"
        if not crew.complete or not crew.ready("master") or not crew.ready("worker"):
            return False, f"not ready: {missing or 'the server is starting'}"
        return True, f"ready, but not complete: {missing}" if missing else "ready"

    def _announce(self) -> None:
        """Say that the server serves, where, and with what."""
        addresses = ", ".join(f"ws://{where(listening)}" for listening in self._listeners[0])
        log.info("listening on %s with %d worker(s)", addresses, self._crew.worker_num)
        log.info("run directory %s", self._directory.path)
        compiled, of = build.count()
        if compiled == 0:
            log.warning("zwoole runs uncompiled, several times slower: install a C compiler, then install zwoole again")
        elif compiled < of:
            log.warning("zwoole runs partly compiled (%d of %d modules), slower: install zwoole again", compiled, of)
        self._notifier.send(f"{READY}\nMAINPID={os.getpid()}")
        self._feed_watchdog()
        self._run_callback("start")
        if self._changed_early:
            self._crew.reload(None)

    def _feed_watchdog(self) -> None:
        """Tell the service manager that we live, as often as it asked for."""
        if self._notifier.watchdog_s and not self._crew.stopping:
            self._notifier.send(WATCHDOG)
            self._later(self._notifier.watchdog_s / 2, self._feed_watchdog)

    def _tell_of_reload(self) -> None:
        """Tell the service manager when a reload begins and when it is over."""
        if self._crew.reloading != self._told_of_reload:
            self._told_of_reload = self._crew.reloading
            if self._told_of_reload:
                self._notifier.reloading()
            elif not self._crew.stopping:
                self._notifier.send(READY)

    def _reopen_log(self) -> None:
        """Open the log file anew, here and in all children: somebody has moved it away."""
        if not self._settings.log_file or not reopen(self._settings.log_file):
            return
        for child in self._crew.children.values():
            self._control.tell(child.identity, "reopen_log")
        log.info("the log file was opened anew")

    # Signals.

    def _take_signals(self) -> None:
        """Install the handlers, which only queue. How children end is told to those who leave SIGCHLD its default."""

        def queue(number: int, _: object) -> None:
            self._signals.append(number)

        signals.install(signal.SIGCHLD, signal.SIG_DFL)
        for number in signals.SUPERVISOR_SIGNALS:
            signals.install(number, queue)
        if not signals.is_caught(signal.SIGUSR2):  # which would end this process
            signals.install(signal.SIGUSR2, queue)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signals.unblock()

    def _handle_signals(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
        while self._signals:
            number = self._signals.popleft()
            if number == signal.SIGQUIT:
                self._stop.at_once()
            elif number in (signal.SIGHUP, signal.SIGUSR1):
                self._crew.reload(None)
            elif number == signal.SIGUSR2:
                log.warning("SIGUSR2 reloads task workers, of which there are none; SIGUSR1 reloads workers")
            elif number == signal.SIGRTMIN:
                self._reopen_log()
            elif number in (signal.SIGTTIN, signal.SIGTTOU):
                self._scale(1 if number == signal.SIGTTIN else -1)
            else:
                self._stop.asked(signal.Signals(number).name)

    def _scale(self, by: int) -> None:
        try:
            self._crew.scale(by=by)
        except ValueError as error:
            log.warning("the number of workers stays as it is: %s", error)

    def _files_changed(self, names: list[str]) -> None:
        """Reload, at the end of the start at the earliest; called in the watcher's thread, done in this one's."""

        def reload() -> None:
            log.info("changed: %s", ", ".join(names))
            if self._crew.complete:
                self._crew.reload(None)
            else:
                self._changed_early = True

        self._handed_over.append(reload)
        os.write(self._wake_write, b"\0")

    def _clean_up(self) -> None:
        self._crew.orphans.kill_all()
        for child in self._crew.children.values():  # only where something of ours went wrong
            child.kill("the supervisor has failed")
            child.wait()
            self._crew.orphans.end_group(child)
        forks.forget(self._leave_child)
        signal.set_wakeup_fd(-1)
        signals.restore()
        self._stop.close_listeners()
        if self._admin is not None:
            self._admin.close()
        self._control.close()
        forks.close_descriptors(*self._own_descriptors())

    def _own_descriptors(self) -> tuple[int, ...]:
        return (self._lifeline_read, self._lifeline_write, self._wake_read, self._wake_write, *self._tables)

    def _leave_child(self) -> None:
        """In a child that a callback has forked: let go of what would keep the server's end from being seen."""
        signal.set_wakeup_fd(-1)
        signals.restore()
        titles.restore()
        forks.close_descriptors(*self._own_descriptors())
        forks.close_connections(self._directory.path)
        self._stop.close_listeners()
        if self._admin is not None:
            self._admin.abandon()
        refuse_commands(self._server)

    # Timers and callbacks.

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + seconds, call))

    def _run_due(self) -> None:
        now = time.monotonic()
        ready = [entry for entry in self._due if entry[0] <= now]
        self._due = [entry for entry in self._due if entry[0] > now]
        for _, call in ready:
            call()

    def _run_callback(self, event: str, *arguments: Any) -> None:
        """Run a callback of the app that belongs to this process; its failure is logged and nothing more."""
        callback = self._server.callbacks.get(event)
        if callback is None:
            return
        try:
            with forks.child_ends_here():
                result = callback(self._server, *arguments)
                if hasattr(result, "__await__"):
                    asyncio.run(waited_for(result))
        except BaseException:  # SystemExit too: only a signal or `zwoole stop` ends the supervisor in good order
            log.exception("the %r callback failed", event)


async def waited_for(result: Awaitable[object]) -> None:
    """Await what a callback returned, a coroutine or another awaitable."""
    await result


def where(listening: socket.socket) -> str:
    """Return "host:port" of a listening socket, [host]:port for IPv6; "closed" once it is."""
    if listening.fileno() < 0:
        return "closed"
    host, port, *_, interface = (*listening.getsockname(), 0)[:4]
    zone = f"%{socket.if_indextoname(interface)}" if interface else ""  # of an address that is of one interface only
    return f"[{host}{zone}]:{port}" if listening.family == socket.AF_INET6 else f"{host}:{port}"
