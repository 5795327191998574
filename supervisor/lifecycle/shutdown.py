"""How a server stops: gracefully, the masters before the workers, or at once."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from zwoole.shared.process.control_messages import LONGEST_DRAIN_S
from zwoole.shared.process.log import get_logger
from zwoole.supervisor.core.control_tables import Answer, Field, Report, Reports, Request, Requests
from zwoole.supervisor.core.exit_codes import EXIT_FORCED, EXIT_OK
from zwoole.supervisor.core.loop import Later
from zwoole.supervisor.core.process import KILL_GRACE_S, Process
from zwoole.supervisor.core.processes import Processes
from zwoole.supervisor.lifecycle.orphans import Orphans
from zwoole.supervisor.system.notify import STOPPING, Notifier

STOPS = "the server stops"
SECOND_SIGNAL_S = 1.0  # a wrapper that forwards a signal sends it twice within less; a person waits longer

log = get_logger("supervisor")


class Shutdown:
    """Stops one server.

    Attributes:
        exit_code: the exit code that the supervisor is to end with.
        since: when the stop began, in monotonic seconds; None before that.
    """

    def __init__(
        self,
        processes: Processes,
        orphans: Orphans,
        listeners: list[list[socket.socket]],
        notifier: Notifier,
        max_wait_time_s: float,
        tell: Callable[..., None],
        later: Later,
        before_shutdown: Callable[[], None],
    ) -> None:
        """Prepare; nothing ends yet.

        Args:
            processes: those that are to stop.
            orphans: what dead processes have left, which ends too.
            listeners: for each reactor, its listening sockets, which are closed first.
            notifier: tells the service manager.
            max_wait_time_s: how long a stop may take.
            tell: sends a control message: (identity, kind, fields).
            later: calls a function after a number of seconds.
            before_shutdown: called when a graceful stop begins.
        """
        self.exit_code = EXIT_OK
        self.since: float | None = None
        self._processes = processes
        self._orphans = orphans
        self._listeners = listeners
        self._notifier = notifier
        self._max_wait_time_s = max_wait_time_s
        self._tell = tell
        self._later = later
        self._before_shutdown = before_shutdown
        self._stopped: set[int] = set()  # incarnations of those that stop first and have said that they are done
        self._told: set[bytes] = set()  # identities of the others that were told to stop

    def requests(self) -> Requests:
        """Return the requests that are carried out here."""
        return {"stop": Request({"drain": Field((int, float), 0, LONGEST_DRAIN_S, optional=True)}, self.requested)}

    def reports(self) -> Reports:
        """Return the messages of processes that are acted on here."""
        return {"stopped": Report({}, self.stopped)}

    def signalled(self, name: str) -> None:
        """Handle a signal that asks for a stop. A second signal, from a person who does not want to wait, kills."""
        if self.since is None:
            limit_s = self._max_wait_time_s
            log.info("%s: stopping, for %.0f s at most; once more, a second later, stops at once", name, limit_s)
            self.begin()
        elif time.monotonic() - self.since >= SECOND_SIGNAL_S:
            log.warning("%s again: stopping at once", name)
            self.at_once()

    def requested(self, answer: Answer, drain: float = 0.0) -> None:
        """Carry out `zwoole stop`; see `begin`. The answer says only that the stop begins."""
        answer(result={"pid": os.getpid()})
        if self.since is None:
            log.info("zwoole stop: stopping, for %.0f s at most", self._max_wait_time_s + drain)
            self.begin(drain)

    def begin(self, drain: float = 0.0) -> None:
        """Stop gracefully: first the masters, which finish what was accepted, then the others.

        A process that has not said hello is killed: it cannot be told, and has nothing to finish.

        Args:
            drain: over how many seconds the clients are sent away, so that they do not all come back at once.
        """
        self.since = time.monotonic()
        self._processes.stopping = True
        self._notifier.send(STOPPING)
        self._before_shutdown()
        self.close_listeners()
        seconds = self._max_wait_time_s + drain
        for process in self._processes.all():
            if not process.connected:
                process.kill(STOPS)
            elif process.role.stops_first:
                self._tell(process.identity, "stop", seconds=seconds, spread=drain)
        self._later(seconds + KILL_GRACE_S, self._kill_the_rest)

    def stopped(self, process: Process) -> None:
        """Handle `stopped`: the clients of a master are gone, and it has nothing more for the workers."""
        self._stopped.add(process.incarnation)

    def go_on(self) -> None:
        """Stop the others when those that stop first are done. One that has never been ready has nothing to finish."""
        processes = self._processes.all()
        busy = any(process.role.stops_first and process.incarnation not in self._stopped for process in processes)
        if self.since is None or busy:
            return
        for process in processes:
            if not process.role.stops_first and process.identity not in self._told:
                self._told.add(process.identity)
                if process.ready_at is None:
                    process.kill(STOPS)
                else:
                    self._tell(process.identity, "stop")

    def give_up(self, exit_code: int) -> None:
        """End a server that cannot be started."""
        self.exit_code = exit_code
        self.at_once()

    def at_once(self) -> None:
        """Kill everything."""
        if self.since is None:
            self.since = time.monotonic()
        self._processes.stopping = True
        self.close_listeners()
        self._kill_all()

    def close_listeners(self) -> None:
        """Take no more connections."""
        for group in self._listeners:
            for listening in group:
                listening.close()

    def _kill_the_rest(self) -> None:
        for process in self._processes.all():
            log.warning("%s did not stop in time: killed", process)
        self._kill_all()

    def _kill_all(self) -> None:
        """Kill every process that is left. What they had accepted is lost, which the exit code says."""
        self._orphans.kill_all()
        for process in self._processes.all():
            process.kill(STOPS)
        if self._processes.running and self.exit_code == EXIT_OK:
            self.exit_code = EXIT_FORCED
