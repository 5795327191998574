"""How a master stops in good order, in the time that it is given.

First some clients are told goodbye, so many that at the end of the spread all have been. Then no connection and no
message is taken any more; what was accepted is finished; every client is sent 1001 and waited for; the workers run the
`close` callbacks. Each step has a share of the time, so that the last ones have some too: the workers' own end,
`worker_stop`, comes after all this.

A client that has answered our close frame has had its goodbye. It is to close the TCP connection then, and is given
LINGER_S for it. One that does not answer is waited for `close_timeout`, but not longer than GOODBYE_SHARE of the time
that is left.
"""

from __future__ import annotations

from collections.abc import Callable

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.clients.handshake import Refused
from zwoole.reactor.clients.opening import Opening
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.slices import SLICE, Slices
from zwoole.reactor.core.stages import STAGE_HANDSHAKE, STAGE_LINGERING, STAGE_OPEN
from zwoole.reactor.core.worker_link import WorkerLink
from zwoole.reactor.routing.router import Router
from zwoole.shared.settings import FINISH_SHARE
from zwoole.shared.websocket.close_codes import CLOSE_GOING_AWAY

STEP_S = 0.02  # how often it is looked whether a step is done
GOODBYE_SHARE = 0.5  # of the time that is left then, that clients have to answer it
LINGER_S = 1.0
LOOKS = 2000  # connections that are looked at in a step
REASON = "the server is stopping"


class GracefulStop:
    """The end of one master's service.

    Attributes:
        begun: whether it is under way, or over.
    """

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        router: Router,
        opening: Opening,
        closing: Closing,
        close_timeout: float,
        links: Callable[[], list[WorkerLink]],
        done: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            loop: the master's loop.
            registry: the connections.
            router: accepts messages.
            opening: accepts connections.
            closing: says goodbye.
            close_timeout: seconds that a client has to answer our close frame.
            links: returns the links to workers.
            done: called at the end.
        """
        self.begun = False
        self._loop = loop
        self._registry = registry
        self._router = router
        self._opening = opening
        self._closing = closing
        self._close_timeout = close_timeout
        self._links = links
        self._done = done
        self._timer = loop.add_deadlines(STEP_S, self._step)
        self._steps: list[Callable[[float], bool]] = []
        self._slices: Slices[Connection] | None = None
        self._unfinished: list[Connection] | None = None
        self._said_at = 0.0
        self._spread = 0.0
        self._spread_ends = 0.0
        self._staying: list[Connection] | None = None
        self._told = 0  # how many of those were told goodbye
        self._finish_ends = 0.0
        self._goodbye_ends = 0.0
        self._ends = 0.0

    def begin(self, seconds: float, spread: float = 0.0) -> None:
        """Begin to stop; a second word only shortens the time.

        Args:
            seconds: the time it may take in all.
            spread: seconds of it over which clients are told goodbye.
        """
        now = self._loop.clock.woke
        if self.begun:
            self._ends = min(self._ends, now + seconds)
            return
        self.begun = True
        self._ends = now + seconds
        self._spread = spread
        self._spread_ends = now + spread
        self._finish_ends = now + spread + (seconds - spread) * FINISH_SHARE
        self._steps = [
            self._leave_slowly,
            self._stop_reading,
            self._finish_accepted,
            self._say_goodbye,
            self._wait_for_clients,
            self._force_the_rest,
            self._wait_for_workers,
        ]
        self._timer.start(0)

    def _step(self, _: int) -> None:
        """Go on as far as it goes now."""
        while self._steps and self._steps[0](self._loop.clock.woke):
            self._steps.pop(0)
        if self._steps:
            self._timer.start(0)
        else:
            self._done()

    def _each(self, act: Callable[[Connection], None]) -> bool:
        """Act on every connection, slice by slice; tell whether all have had their turn."""
        if self._slices is None:
            self._slices = Slices(self._loop, list(self._registry), act)
        if not self._slices.done:
            return False
        self._slices = None
        return True

    def _leave_slowly(self, now: float) -> bool:
        """Tell as many clients goodbye as the time that has passed is of the spread; the others are served on."""
        if now >= self._spread_ends or len(self._registry) == 0:
            return True
        if self._staying is None:
            self._staying = list(self._registry)
        passed = 1 - (self._spread_ends - now) / self._spread
        due = min(int(len(self._staying) * passed), self._told + SLICE)
        for connection in self._staying[self._told : due]:
            self._closing.server_close(connection, CLOSE_GOING_AWAY, REASON)
        self._told = due
        return False

    def _stop_reading(self, now: float) -> bool:
        """Accept no further message, and no further handshake."""
        self._router.draining = True
        return self._each(self._refuse_more)

    def _refuse_more(self, connection: Connection) -> None:
        if connection.stage == STAGE_HANDSHAKE:
            self._opening.refuse(connection, Refused(503, REASON))
        elif connection.stage == STAGE_OPEN:
            self._router.stop_reading(connection)

    def _finish_accepted(self, now: float) -> bool:
        """Wait until every accepted message has been answered."""
        if now >= min(self._finish_ends, self._ends):
            return True
        if self._unfinished is None:
            self._unfinished = list(self._registry)
        for _ in range(LOOKS):  # no message comes any more, so one that is idle stays so
            if not self._unfinished:
                return True
            connection = self._unfinished[-1]
            if connection.stage <= STAGE_OPEN and not self._router.is_idle(connection):
                return False
            self._unfinished.pop()
        return False

    def _say_goodbye(self, now: float) -> bool:
        if not self._each(lambda connection: self._closing.server_close(connection, CLOSE_GOING_AWAY, REASON)):
            return False
        self._said_at = now
        self._goodbye_ends = min(now + self._close_timeout, now + (self._ends - now) * GOODBYE_SHARE)
        return True

    def _wait_for_clients(self, now: float) -> bool:
        """Wait until every client has gone, or has had the time for it."""
        if len(self._registry) == 0 or now >= min(self._goodbye_ends, self._ends):
            return True
        return now >= self._said_at + LINGER_S and all(it.stage == STAGE_LINGERING for it in self._registry)

    def _force_the_rest(self, now: float) -> bool:
        return self._each(self._closing.force)

    def _wait_for_workers(self, now: float) -> bool:
        """Wait until the workers have run what they were told last, the `close` callbacks above all."""
        return now >= self._ends or all(link.window.places == 0 for link in self._links() if link.ready)
