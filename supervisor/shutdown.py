"""How a server ends: in good order, the masters before the workers, or at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from zwoole.shared.process.log import get_logger
from zwoole.shared.settings import Settings
from zwoole.supervisor.notify import STOPPING, Notifier
from zwoole.supervisor.processes import KILL_GRACE_S, Crew

EXIT_OK = 0
EXIT_FORCED = 4

STOPS = "the server stops"
SECOND_SIGNAL_S = 1.0  # a wrapper that forwards a signal sends it twice at once; a person waits

log = get_logger("supervisor")


class Stop:
    """The end of one server. The callables are the supervisor's.

    Attributes:
        exit_code: what the supervisor should end with.
        since: when it began, in monotonic seconds; None where it has not.
    """

    def __init__(
        self,
        crew: Crew,
        settings: Settings,
        listeners: list[list[socket.socket]],
        notifier: Notifier,
        tell: Callable[..., None],
        later: Callable[[float, Callable[[], None]], None],
        before_shutdown: Callable[[], None],
    ) -> None:
        """Prepare; nothing ends yet.

        Args:
            crew: whom to stop.
            settings: the effective settings.
            listeners: for each reactor, its listening sockets, which are closed first.
            notifier: tells the service manager.
            tell: sends a child a message on the control socket.
            later: calls something after so many seconds.
            before_shutdown: runs the app's callback of that name.
        """
        self.exit_code = EXIT_OK
        self.since: float | None = None
        self._crew = crew
        self._settings = settings
        self._listeners = listeners
        self._notifier = notifier
        self._tell = tell
        self._later = later
        self._before_shutdown = before_shutdown
        self._stopped_masters: set[int] = set()
        self._told: set[bytes] = set()

    def asked(self, name: str) -> None:
        """Act on a signal that asks for the end; a second one, of a person who does not want to wait, kills."""
        if self.since is None:
            most_s = self._settings.max_wait_time
            log.info("%s: stopping, for %.0f s at most; once more, a second later, stops at once", name, most_s)
            self.begin()
        elif time.monotonic() - self.since >= SECOND_SIGNAL_S:
            log.warning("%s again: stopping at once", name)
            self.at_once()

    def requested(self, drain: float) -> None:
        """Act on `zwoole stop`; see `begin`."""
        if self.since is None:
            log.info("zwoole stop: stopping, for %.0f s at most", self._settings.max_wait_time + drain)
            self.begin(drain)

    def begin(self, drain: float = 0.0) -> None:
        """Stop in good order: the masters first, which finish what was accepted, then the workers.

        A child that has not said hello could not be told, and has nothing to finish.

        Args:
            drain: seconds to spread the clients' goodbye over, so that they do not all come back at once.
        """
        self.since = time.monotonic()
        self._crew.stopping = True
        self._notifier.send(STOPPING)
        if self._crew.complete:
            self._before_shutdown()
        self.close_listeners()
        seconds = self._settings.max_wait_time + drain
        for child in self._crew.children.values():
            if not child.greeted:
                child.kill(STOPS)
            elif child.role == "master":
                self._tell(child.identity, "stop", seconds=seconds, spread=drain)
        self._later(seconds + KILL_GRACE_S, self._kill_the_rest)

    def master_stopped(self, incarnation: int) -> None:
        """A master has said goodbye to its clients, and has nothing more for the workers."""
        self._stopped_masters.add(incarnation)

    def go_on(self) -> None:
        """Stop the workers when the masters are done with them; one that has never been ready has nothing to finish."""
        if self.since is None:
            return
        if all(child.incarnation in self._stopped_masters for child in self._crew.of("master")):
            for child in self._crew.of("worker"):
                if child.identity not in self._told:
                    self._told.add(child.identity)
                    if child.ready_at is None:
                        child.kill(STOPS)
                    else:
                        self._tell(child.identity, "stop")

    def give_up(self, exit_code: int) -> None:
        """End a server that cannot be started."""
        self.exit_code = exit_code
        self.at_once()

    def at_once(self) -> None:
        """Kill everything."""
        if self.since is None:
            self.since = time.monotonic()
        self._crew.stopping = True
        self.close_listeners()
        self._kill_all()

    def close_listeners(self) -> None:
        """Take no more connections."""
        for group in self._listeners:
            for listening in group:
                listening.close()

    def _kill_the_rest(self) -> None:
        for child in self._crew.children.values():
            log.warning("%s did not stop in time: killed", child)
        self._kill_all()

    def _kill_all(self) -> None:
        """Kill every child that is left; what it had accepted is lost, and the exit code says so."""
        self._crew.orphans.kill_all()
        for child in self._crew.children.values():
            child.kill(STOPS)
        if self._crew.children and self.exit_code == EXIT_OK:
            self.exit_code = EXIT_FORCED
