"""How a master stops gracefully, within a given time.

The master has closed its listening sockets before.

1. During the spread, if there is one, clients are sent 1001 at a constant rate; the others are served on.
2. No message and no handshake is accepted any more.
3. The accepted messages are finished.
4. Every client that is left is sent 1001 and waited for.
5. The workers run the `close` callbacks.

Each step has a share of the time, so that the last steps have time too. `worker_stop` of the workers comes after all
this.

A client that has answered our close frame has LINGER_S to close the TCP connection. The master waits for an answer for
`close_timeout`, but not longer than GOODBYE_SHARE of the time that is left.
"""

from __future__ import annotations

from collections.abc import Callable

from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.clients.handshake import Refused
from zwoole.reactor.clients.opening import Opening
from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.connection_stages import STAGE_HANDSHAKE, STAGE_LINGERING, STAGE_OPEN
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.core.turn_slices import SLICE, Slices
from zwoole.reactor.core.worker_link import WorkerLink
from zwoole.reactor.routing.router import Router
from zwoole.shared.settings import FINISH_SHARE
from zwoole.shared.websocket.close_codes import CLOSE_GOING_AWAY

STEP_S = 0.02  # how often to check whether a step is done
GOODBYE_SHARE = 0.5  # the share of the remaining time that clients have to answer our close frame
LINGER_S = 1.0
LOOKS = 2000  # connections that one check looks at
REASON = "the server is stopping"
NEVER = float("inf")


class GracefulStop:
    """The graceful stop of one master.

    Attributes:
        begun: whether it has begun; stays true when it is over.
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
            registry: all connections.
            router: is told to stop reading.
            opening: refuses unfinished handshakes.
            closing: closes connections.
            close_timeout: seconds that a client has to answer our close frame.
            links: returns the links to workers.
            done: called when the stop is over.
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
        self._spread_ends = NEVER
        self._staying: list[Connection] | None = None
        self._told = 0  # how many of the connections in _staying were closed
        self._finish_ends = 0.0
        self._goodbye_ends = 0.0
        self._ends = NEVER

    def begin(self, seconds: float, spread: float = 0.0) -> None:
        """Begin to stop. A second call can only shorten the time, of which each step then has its share again.

        Args:
            seconds: how long the whole stop may take.
            spread: over how many of these seconds clients are sent 1001.
        """
        now = self._loop.clock.woke
        spread = min(spread, seconds)  # so no step below ends after the whole
        if now + seconds >= self._ends:
            return
        self._ends = now + seconds
        self._spread_ends = min(self._spread_ends, now + spread)
        self._finish_ends = now + spread + (seconds - spread) * FINISH_SHARE
        if self.begun:
            return
        self.begun = True
        self._spread = spread
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
        """Run the steps as far as they can go now."""
        while self._steps and self._steps[0](self._loop.clock.woke):
            self._steps.pop(0)
        if self._steps:
            self._timer.start(0)
        else:
            self._done()

    def _each(self, act: Callable[[Connection], None]) -> bool:
        """Act on every connection, in slices; return whether all are done. To be called until it returns true."""
        if self._slices is None:
            self._slices = Slices(self._loop, list(self._registry), act)
        if not self._slices.done:
            return False
        self._slices = None
        return True

    def _leave_slowly(self, now: float) -> bool:
        """Close connections in proportion to the part of the spread that has passed; the others are served on."""
        if now >= self._spread_ends or len(self._registry) == 0:
            return True
        if self._staying is None:
            self._staying = list(self._registry)
        passed = 1 - (self._spread_ends - now) / self._spread
        due = min(int(len(self._staying) * passed), self._told + SLICE)
        for connection in self._staying[self._told : due]:
            self._send_away(connection)
        self._told = due
        return False

    def _send_away(self, connection: Connection) -> None:
        if connection.stage == STAGE_HANDSHAKE:
            self._opening.refuse(connection, Refused(503, REASON))
        else:
            self._closing.server_close(connection, CLOSE_GOING_AWAY, REASON)

    def _stop_reading(self, now: float) -> bool:
        """Accept no more messages and no more handshakes."""
        self._router.reading_stopped = True
        return self._each(self._refuse_more)

    def _refuse_more(self, connection: Connection) -> None:
        if connection.stage == STAGE_HANDSHAKE:
            self._send_away(connection)
        elif connection.stage == STAGE_OPEN:
            self._router.stop_reading(connection)

    def _finish_accepted(self, now: float) -> bool:
        """Wait until every accepted message is finished."""
        if now >= self._finish_ends:
            return True
        if self._unfinished is None:
            self._unfinished = list(self._registry)
        for _ in range(LOOKS):  # no more messages are accepted, so a connection that is idle stays idle
            if not self._unfinished:
                return True
            connection = self._unfinished[-1]
            if connection.stage <= STAGE_OPEN and not self._router.is_idle(connection):
                return False
            self._unfinished.pop()
        return False

    def _say_goodbye(self, now: float) -> bool:
        if not self._each(self._send_away):
            return False
        self._said_at = now
        self._goodbye_ends = min(now + self._close_timeout, now + (self._ends - now) * GOODBYE_SHARE)
        return True

    def _wait_for_clients(self, now: float) -> bool:
        """Wait until every client has closed its connection, or its time is up."""
        if len(self._registry) == 0 or now >= min(self._goodbye_ends, self._ends):
            return True
        return now >= self._said_at + LINGER_S and all(it.stage == STAGE_LINGERING for it in self._registry)

    def _force_the_rest(self, now: float) -> bool:
        return self._each(self._closing.force)

    def _wait_for_workers(self, now: float) -> bool:
        """Wait until the workers have finished all events, above all the `close` callbacks."""
        return now >= self._ends or all(link.window.places == 0 for link in self._links() if link.ready)
