"""The supervisor: starts the masters and the workers, keeps them alive, obeys signals and the zwoole command.

Its loop waits for signals, for the end of processes, and for messages on the control socket; then it looks whether
something is due. Nothing in it blocks but the app's own callbacks, such as `start`.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from zwoole.shared import build
from zwoole.shared.errors import StartError
from zwoole.shared.memory import mapping, stats
from zwoole.shared.process import forks, signals, titles
from zwoole.shared.process import plan as plans
from zwoole.shared.process.log import get_logger, reopen
from zwoole.supervisor.admin.admin_http import AdminListener
from zwoole.supervisor.app_callbacks import AppCallbacks
from zwoole.supervisor.assembly import Outside, Parts
from zwoole.supervisor.control.control_server import ControlServer
from zwoole.supervisor.control.control_socket import ControlSocket
from zwoole.supervisor.control.signal_handlers import handlers
from zwoole.supervisor.core.loop import MAX_SLEEP_S, Loop
from zwoole.supervisor.core.roles import WORKER
from zwoole.supervisor.core.spawn import Spawner
from zwoole.supervisor.system import reaper
from zwoole.supervisor.system.file_watcher import Watcher
from zwoole.supervisor.system.listening import where
from zwoole.supervisor.system.notify import READY, WATCHDOG, Notifier
from zwoole.supervisor.system.run_directory import RunDirectory
from zwoole.supervisor.system.run_directory_upkeep import Upkeep
from zwoole.workers.server import Server, install_commands, refuse_commands, remove_commands

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
        """Take what the server needs.

        Args:
            server: the app's server.
            plan: how it is to run.
            directory: the run directory, which this process holds.
            listeners: for each reactor, its listening sockets.
            watched: folders in which a change of a Python file has the workers replaced.

        Raises:
            StartError: the admin listener's address cannot be listened on, or the run directory or the machine has no
                room.
        """
        titles.set_name("zwoole")
        self._server = server
        self._plan = dataclasses.replace(plan, listening=[where(listening) for listening in listeners[0]])
        self._settings = plan.settings
        self._directory = directory
        self._listeners = listeners
        self._watched = watched
        self._callbacks = AppCallbacks(server)
        self._notifier = Notifier()
        self._told_of_reload = False
        self._changed_early = False  # a watched file has changed before the start was over
        self._reaps_orphans = reaper.is_reaper()
        self._admin = self._make_admin()
        self._loop = Loop()
        self._lifeline_read, self._lifeline_write = os.pipe2(os.O_CLOEXEC)
        self._tables: list[int] = []
        self._socket = ControlSocket(directory.path)
        self._upkeep = Upkeep(directory, self._plan, self._socket.bind, self._loop.later)
        masters, workers = self._settings.reactor_num, self._settings.worker_num
        try:
            self._upkeep.furnish(1 + masters + workers, masters * workers)
            self._make_tables()
        except StartError:
            self._close()
            raise
        self._parts = self._make_parts()
        self._control = ControlServer(
            self._socket, self._parts.processes, self._parts.requests(), self._parts.reports()
        )
        self._signals = handlers(self._parts.shutdown, self._parts.rollouts, self._reopen_log)

    def run(self) -> int:
        """Serve until stopped; return the exit code.

        Raises:
            StartError: the machine lets no process be started.
        """
        install_commands(self._server, {"stats": lambda: stats.gather(self._directory.path)})
        try:
            self._serve()
            if self._parts.readiness.complete:
                self._callbacks.run("shutdown")
        finally:
            remove_commands(self._server)
        return self._parts.shutdown.exit_code

    def _serve(self) -> None:
        """Start the processes, and serve until all have ended."""
        self._take_signals()
        forks.in_child(self._leave_child)
        if self._admin is not None:
            self._admin.start()
        self._loop.watch(self._socket.descriptor)
        watcher = Watcher(self._watched, self._files_changed) if self._watched else None
        processes = self._parts.processes
        try:
            self._parts.staffing.start_all()
            self._parts.readiness.update()
            self._parts.health.begin()
            self._upkeep.begin()
            while processes.running or self._loop.has_timers:
                self._turn()
        finally:
            if watcher is not None:
                watcher.stop()
            self._clean_up()

    # What it is made of.

    def _make_admin(self) -> AdminListener | None:
        settings = self._settings
        if not settings.admin_port:
            return None
        address, token = (settings.admin_host, settings.admin_port), settings.admin_token
        return AdminListener(address, token, self._directory.path, lambda: self._parts.readiness.answer())

    def _make_tables(self) -> None:
        """Make the memory of the connection tables, which outlives the masters."""
        try:
            for _ in self._listeners:
                self._tables.append(mapping.anonymous("zwoole-table", self._directory.path))
        except OSError as error:
            raise StartError(f"cannot make shared memory: {error.strerror}") from None

    def _make_parts(self) -> Parts:
        listeners = [[listening.fileno() for listening in group] for group in self._listeners]
        spawner = Spawner(
            self._directory.path, self._lifeline_read, self._tables, listeners, debug=self._settings.debug
        )
        outside = Outside(
            self._directory.path,
            self._plan.target,
            self._plan.listening,
            self._listeners,
            self._notifier,
            spawner,
            tell=self._socket.tell,
            later=self._loop.later,
            watch=self._loop.watch,
            lacks=self._upkeep.lacks,
            run_callback=self._callbacks.run,
            on_complete=self._announce,
        )
        return Parts(self._settings, outside, random.randrange(*FIRST_INCARNATIONS))

    # What it does.

    def _turn(self) -> None:
        """Wait for events, and handle them."""
        parts = self._parts
        processes = parts.processes
        for descriptor in self._loop.wait(0 if self._socket.waiting else MAX_SLEEP_S):
            if descriptor in processes.running:
                self._loop.unwatch(descriptor)
                parts.deaths.ended(descriptor)
        if self._reaps_orphans:
            own = {process.pid for process in processes.all()}
            reaper.reap(own | parts.orphans.leaders.keys())
        self._control.handle_messages()
        self._loop.run_signals(self._signals)
        self._loop.run_due()
        self._tell_of_reload()
        parts.shutdown.go_on()
        if processes.stopping and not processes.running and not parts.orphans.leaders:
            self._loop.forget_timers()  # none of them matters any more

    def _announce(self) -> None:
        """Announce that the server serves: in the log, to the service manager, and to the app."""
        addresses = ", ".join(f"ws://{where(listening)}" for listening in self._listeners[0])
        log.info("listening on %s with %d worker(s)", addresses, self._parts.processes.wanted[WORKER])
        log.info("run directory %s", self._directory.path)
        compiled, of = build.count()
        if compiled == 0:
            log.warning("zwoole runs uncompiled, several times slower: install a C compiler, then install zwoole again")
        elif compiled < of:
            log.warning("zwoole runs partly compiled (%d of %d modules), slower: install zwoole again", compiled, of)
        self._notifier.send(f"{READY}\nMAINPID={os.getpid()}")
        self._feed_watchdog()
        self._callbacks.run("start")
        if self._changed_early:
            self._parts.rollouts.reload()

    def _feed_watchdog(self) -> None:
        """Tell the service manager that we live, as often as it asked for."""
        if self._notifier.watchdog_s and not self._parts.processes.stopping:
            self._notifier.send(WATCHDOG)
            self._loop.later(self._notifier.watchdog_s / 2, self._feed_watchdog)

    def _tell_of_reload(self) -> None:
        """Tell the service manager when a reload begins and when it is over."""
        reloading = self._parts.rollouts.reloading
        if reloading != self._told_of_reload:
            self._told_of_reload = reloading
            if reloading:
                self._notifier.reloading()
            elif not self._parts.processes.stopping:
                self._notifier.send(READY)

    def _files_changed(self, names: list[str]) -> None:
        """Reload, at the end of the start at the earliest; called in the watcher's thread, done in this one's."""

        def reload() -> None:
            log.info("changed: %s", ", ".join(names))
            if self._parts.readiness.complete:
                self._parts.rollouts.reload()
            else:
                self._changed_early = True

        self._loop.call_soon(reload)

    # Signals.

    def _take_signals(self) -> None:
        """Have signals queued for the loop. SIGCHLD has its default: else the kernel would not say how children end."""
        signals.install(signal.SIGCHLD, signal.SIG_DFL)
        left_alone = {signal.SIGUSR2} if signals.is_caught(signal.SIGUSR2) else set()  # else it would end this process
        self._loop.queue_signals(self._signals.keys() - left_alone)

    def _reopen_log(self) -> None:
        """Reopen the log file here and in all processes, after it was moved."""
        if not self._settings.log_file or not reopen(self._settings.log_file):
            return
        for process in self._parts.processes.all():
            self._socket.tell(process.identity, "reopen_log")
        log.info("the log file was reopened")

    # The end.

    def _clean_up(self) -> None:
        parts = self._parts
        parts.orphans.kill_all()
        for process in parts.processes.all():  # there are some only if the supervisor has failed
            process.kill("the supervisor has failed")
            process.wait()
            parts.orphans.end_group(process)
        forks.forget(self._leave_child)
        parts.shutdown.close_listeners()
        self._close()

    def _close(self) -> None:
        """Close what the constructor has opened."""
        self._loop.close()
        if self._admin is not None:
            self._admin.close()
        self._socket.close()
        forks.close_descriptors(*self._own_descriptors())

    def _own_descriptors(self) -> tuple[int, ...]:
        return (self._lifeline_read, self._lifeline_write, *self._tables)

    def _leave_child(self) -> None:
        """In a child that a callback has forked: close what would hide the server's end from other processes."""
        self._loop.close()
        titles.restore()
        forks.close_descriptors(*self._own_descriptors())
        forks.close_connections(self._directory.path)
        self._parts.shutdown.close_listeners()
        if self._admin is not None:
            self._admin.abandon()
        refuse_commands(self._server)
