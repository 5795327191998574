"""The worker processes as the master sees them: expected, ready, gone.

The supervisor starts processes and tells the master their worker ids. The master makes an endpoint for each
incarnation, receives its hello, and watches the process by a pidfd, so that it learns of a death at once, without a
timeout.

A death is judged when nothing more can come from the process: it has ended, and its connection has been read until it
was empty. What a process has written to a Unix socket lies in the reader's queue before the process can be seen to have
ended. The end of the connection is not waited for: a child that the worker has forked may hold it open. Then
handover.py decides about its connections.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgpack

from zwoole.reactor.clients.opening import Opening, Routes
from zwoole.reactor.core.commands import Commands
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.worker_link import Worker, WorkerLink
from zwoole.reactor.pool.endpoint import Endpoint
from zwoole.reactor.pool.handover import Handover
from zwoole.reactor.routing.pipes import Pipes
from zwoole.reactor.routing.router import Router
from zwoole.reactor.sending.outbound import Outbound
from zwoole.shared.memory.progress_map import RING, ProgressMap
from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import endpoint_path, progress_path, remove
from zwoole.shared.settings import Settings
from zwoole.shared.wire.batches import BatchReader, WireError
from zwoole.shared.wire.events import BYE, DRAIN, END_NOW, HELLO, PROTOCOL_VERSION, RINGS, WELCOME

LEAVE_S = 1.0  # a process that has disconnected must end within this time, as a dying process does
HANDSHAKE_S = 30.0  # a process that has connected must finish ZeroMQ's handshake within this time
TICK_S = 0.05
BOOT_S = 1.0  # how often to check whether booting workers still have their files in the run directory

log = get_logger("pool")


class ExitState:
    """What is known about the end of one worker process.

    Attributes:
        pidfd: the pidfd of the process; -1 once it has ended.
        endpoint: where it connects, or has connected.
        connected_at: when it connected, on the loop's clock; 0 before.
        left_at: when it disconnected although it runs and was not told to end, on the loop's clock; 0 if it did not.
        exited_at: when the master saw that the process had ended, on the loop's clock; 0 before.
    """

    def __init__(self, pidfd: int, endpoint: Endpoint) -> None:
        self.pidfd = pidfd
        self.endpoint = endpoint
        self.connected_at = 0.0
        self.left_at = 0.0
        self.exited_at = 0.0


@dataclass(frozen=True, slots=True)
class Expected:
    """A worker process that the supervisor has announced.

    Attributes:
        worker_id: its worker id.
        incarnation: the number of the incarnation.
        pid: the process id.
        pidfd: the pidfd of the process; -1 if it had ended before the announcement came.
        standby: whether it becomes active only by `switch`; otherwise it does so as soon as it says hello.
    """

    worker_id: int
    incarnation: int
    pid: int
    pidfd: int
    standby: bool


class Pool:
    """Keeps the links to workers."""

    def __init__(
        self,
        loop: Loop,
        router: Router,
        opening: Opening,
        outbound: Outbound,
        handover: Handover,
        pipes: Pipes,
        commands: Commands,
        run_dir: Path,
        incarnation: int,
        settings: Settings,
        ready: Callable[[int], None],
        serving: Callable[[], None],
        kill: Callable[[int, str], None],
    ) -> None:
        """Create without links.

        Args:
            loop: the master's loop.
            router: has the workers.
            opening: is told which paths the app serves.
            outbound: carries out what workers send.
            handover: hands connections over.
            pipes: carries messages between workers.
            commands: the table in which HELLO, RINGS and BYE are registered.
            run_dir: the run directory, where the endpoints are.
            incarnation: the number of this master incarnation.
            settings: give the limits of the links.
            ready: called with the incarnation of a worker that has said hello.
            serving: called if a worker has become active. From then on the paths that the app serves are known.
            kill: called with the incarnation of a worker that the supervisor must kill, and the reason.
        """
        self._loop = loop
        self._router = router
        self._opening = opening
        self._outbound = outbound
        self._handover = handover
        self._pipes = pipes
        self._run_dir = run_dir
        self._incarnation = incarnation
        self._link_limits = link_limits(settings)
        self._links: dict[int, WorkerLink] = {}
        self._exit_states: dict[int, ExitState] = {}
        self._standby: set[int] = set()  # incarnations that become active only by `switch`
        self._routes: dict[int, Routes] = {}  # what each incarnation serves, from its hello
        self._without_endpoint: list[Expected] = []  # no endpoint could be made: the run directory is full or gone
        self._not_accepted: list[tuple[WorkerLink, ExitState]] = []  # no descriptor was left for their connections
        self._told_why = ""
        self._ticks = loop.add_deadlines(TICK_S, self._tick)
        self._boots = loop.add_deadlines(BOOT_S, self._look_after_boots)
        self._ready = ready
        self._serving = serving
        self._kill = kill
        commands.register(HELLO, lambda link, event: self._hello(link, event.number, event.data()))
        commands.register(RINGS, self._rings)
        commands.register(BYE, self._bye)

    @property
    def links(self) -> list[WorkerLink]:
        """All links, also those of processes that have not said hello."""
        return list(self._links.values())

    # Orders of the supervisor.

    def expect(self, worker_id: int, incarnation: int, pid: int, standby: bool) -> None:
        """Make the endpoint for a worker process that is starting.

        Args:
            worker_id: its worker id.
            incarnation: the number of the incarnation.
            pid: the process id.
            standby: whether it becomes active only by `switch`; otherwise it does so as soon as it says hello.
        """
        if worker_id >= len(self._router.workers):
            self.set_worker_num(worker_id + 1)
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            pidfd = -1
        self._make_endpoint(Expected(worker_id, incarnation, pid, pidfd, standby))
        self._boots.start(0)

    def _make_endpoint(self, expected: Expected) -> None:
        """Make the progress map and the endpoint; if the run directory does not allow it now, try again later."""
        path = progress_path(self._run_dir, expected.incarnation, self._incarnation)
        try:
            progress = ProgressMap(path, RING, create=True)
        except OSError as error:
            self._no_endpoint(expected, str(error.strerror))
            return
        try:
            endpoint = Endpoint(endpoint_path(self._run_dir, expected.incarnation, self._incarnation))
        except OSError as error:
            progress.close()
            remove(path)
            self._no_endpoint(expected, str(error.strerror))
            return
        self._told_why = ""
        worker = self._router.workers[expected.worker_id]
        link = WorkerLink(worker, expected.incarnation, expected.pid, progress, **self._link_limits)
        self._links[expected.incarnation] = link
        if expected.standby:
            self._standby.add(expected.incarnation)
        self._watch(link, endpoint, expected.pidfd)

    def _no_endpoint(self, expected: Expected, why: str) -> None:
        self._without_endpoint.append(expected)
        if why != self._told_why:
            self._told_why = why
            log.error(
                "cannot make an endpoint for worker %d in %s, will try again: %s",
                expected.worker_id,
                self._run_dir,
                why,
            )

    def _look_after_boots(self, _: int) -> None:
        """Make the endpoints that could not be made before; have booting workers killed whose files were removed."""
        waiting, self._without_endpoint = self._without_endpoint, []
        for expected in waiting:
            if expected.worker_id < len(self._router.workers) and lives(expected.pidfd):
                self._make_endpoint(expected)
            elif expected.pidfd >= 0:
                os.close(expected.pidfd)
        not_accepted, self._not_accepted = self._not_accepted, []
        for link, exit_state in not_accepted:
            if not link.closed:
                self._loop.add_source(exit_state.endpoint.descriptor, partial(self._connected, link, exit_state))
        booting = [link for link in self.links if not link.ready and not self._exit_states[link.incarnation].exited_at]
        for link in booting:
            endpoint_there = link.wire is not None or self._exit_states[link.incarnation].endpoint.path.exists()
            if not (endpoint_there and link.progress.path.exists()):
                self.distrust(link, "its files were removed from the run directory")
        if booting or self._without_endpoint:
            self._boots.start(0)

    def switch(self, incarnations: list[int]) -> None:
        """Make ready incarnations active; their predecessors retire. Unknown ones and those not ready are ignored."""
        for incarnation in incarnations:
            self._standby.discard(incarnation)
            link = self._links.get(incarnation)
            if link is not None and link.ready:
                self._activate(link)
                self._dismiss_booting(link.worker)
        self._ticks.start(0)

    def set_worker_num(self, number: int) -> None:
        """Add workers, or give up those with the highest ids, until there are `number`."""
        workers = self._router.workers
        while len(workers) < number:
            workers.append(Worker(len(workers)))
            self._pipes.open_queue(workers[-1])
        while len(workers) > number:
            self._give_up(workers.pop())

    def _give_up(self, worker: Worker) -> None:
        """Give up a worker that was removed from `Router.workers`: the other workers get its connections."""
        self._pipes.close_queue(worker)
        self._dismiss_booting(worker)
        self._handover.give_up(worker)
        self._ticks.start(0)

    def _dismiss_booting(self, worker: Worker) -> None:
        """Let processes of this worker that still boot end as soon as they say hello: they are not needed any more."""
        for booting in self.links:
            if booting.worker is worker and not booting.active:
                booting.retiring = True

    def dismiss(self) -> None:
        """Tell every worker to end at once. The master does this if the supervisor is gone."""
        for link in self.links:
            if link.ready and not link.drained:
                link.drained = True
                link.send_command(DRAIN, END_NOW, b"")
                link.flush()

    def close(self) -> None:
        """Close all endpoints."""
        for link in self.links:
            self._forget(link)

    def serve(self, link: WorkerLink) -> None:
        """Send what waits for a worker, as far as its window has room."""
        self._router.serve(link)
        self._pipes.serve(link)

    # Booting.

    def _watch(self, link: WorkerLink, endpoint: Endpoint, pidfd: int) -> None:
        exit_state = self._exit_states[link.incarnation] = ExitState(pidfd, endpoint)
        self._loop.add_source(endpoint.descriptor, partial(self._connected, link, exit_state))
        if pidfd >= 0:
            self._loop.add_source(pidfd, partial(self._exited, link, exit_state), last=True)
        else:
            self._exited(link, exit_state)

    def _connected(self, link: WorkerLink, exit_state: ExitState) -> None:
        """Take the connection of a worker that has come to its endpoint, which then has done its work."""
        try:
            descriptor = exit_state.endpoint.accept(link.pid)
        except OSError as error:
            log.error("cannot accept worker %d's connection, will try again: %s", link.worker.id, error.strerror)
            self._loop.remove_source(exit_state.endpoint.descriptor)
            self._not_accepted.append((link, exit_state))
            return
        if descriptor < 0:
            return
        self._loop.remove_source(exit_state.endpoint.descriptor)
        exit_state.endpoint.close()
        exit_state.connected_at = self._loop.clock.now
        link.connect(descriptor)
        self._loop.add_link(link)
        self._ticks.start(0)

    def _rings(self, link: WorkerLink, _: BatchReader) -> None:
        """Use the payload rings for large payloads from now on: the worker has mapped them."""
        if link.memory is not None:
            link.writer.ring = link.memory.down

    def _bye(self, link: WorkerLink, _: BatchReader) -> None:
        """Note that a retiring worker has finished everything; it may still wait for its threads before it ends."""
        link.drained = link.drained or link.retiring

    def _hello(self, link: WorkerLink, version: int, body: bytes) -> None:
        """Answer the hello of a worker that has booted, and make it active unless it is on standby or retiring.

        Raises:
            WireError: it is malformed, or not the first.
        """
        if version != PROTOCOL_VERSION:
            self.distrust(link, f"it speaks version {version} of the wire protocol, not {PROTOCOL_VERSION}")
            return
        if link.ready:
            raise WireError("a second hello")
        self._routes[link.incarnation] = unpack_routes(body)
        memory = None if link.memory is None else [os.getpid(), link.memory.descriptor]
        welcome = {"up_window": self._link_limits["up_window_bytes"], "memory": memory}
        link.send_command(WELCOME, PROTOCOL_VERSION, msgpack.packb(welcome))
        link.ready = True
        self._loop.touch(link)
        if not link.retiring and link.incarnation not in self._standby:
            self._activate(link)
            self._ticks.start(0)
        self._ready(link.incarnation)

    def _activate(self, link: WorkerLink) -> None:
        """Make a link active; from now on the server serves the paths that this incarnation serves."""
        self._opening.routes = self._routes[link.incarnation]
        self._handover.activate(link)
        self._serving()

    # Deaths.

    def distrust(self, link: WorkerLink, reason: str) -> None:
        """Read nothing more from a worker, and have it killed; then its death is handled like any other.

        The supervisor kills it: the process is its child, so the pid cannot belong to another process by then. The
        supervisor logs the reason too.

        Args:
            link: the link to the worker.
            reason: why it is not to be trusted, such as a malformed batch.
        """
        if link.deaf:
            return
        log.error("killing worker %d (pid %d): %s", link.worker.id, link.pid, reason)
        link.deaf = True
        self._loop.remove_link(link)
        self._kill(link.incarnation, reason)

    def link_ended(self, link: WorkerLink) -> None:
        """Note that a process has closed its connection; unless it was told to end, it must end soon."""
        exit_state = self._exit_states[link.incarnation]
        if not exit_state.exited_at and not link.drained:
            exit_state.left_at = self._loop.clock.now
            self._ticks.start(0)

    def _exited(self, link: WorkerLink, exit_state: ExitState) -> None:
        """Note that the worker's process has ended."""
        if exit_state.pidfd >= 0:
            self._loop.remove_source(exit_state.pidfd)
            os.close(exit_state.pidfd)
            exit_state.pidfd = -1
        exit_state.exited_at = self._loop.clock.now
        if link.wire is not None:
            link.wire.readable = True  # what it sent last may have come after the last read
        self._bury(link)

    def _bury(self, link: WorkerLink) -> None:
        """Read what a dead process has sent; then judge its death."""
        if link.closed:
            return
        if self._outbound.receive(link):
            self._loop.next_turn(lambda: self._bury(link))
            return
        verdict = self._handover.judge(link)
        self._forget(link)
        self._handover.bury(link, verdict)
        self._ticks.start(0)

    def _forget(self, link: WorkerLink) -> None:
        self._links.pop(link.incarnation, None)
        self._standby.discard(link.incarnation)
        self._routes.pop(link.incarnation, None)
        self._router.forget_queue(link)
        self._loop.remove_link(link)
        exit_state = self._exit_states.pop(link.incarnation, None)
        if exit_state is not None:
            self._loop.remove_source(exit_state.endpoint.descriptor)
            exit_state.endpoint.close()
            if exit_state.pidfd >= 0:
                self._loop.remove_source(exit_state.pidfd)
                os.close(exit_state.pidfd)
        link.close()

    # Timeouts.

    def _tick(self, _: int) -> None:
        """Handle what has waited long enough: processes that have disconnected and run, or do not finish the handshake,
        and workers without a process.
        """
        now = self._loop.clock.now
        waiting = False
        for incarnation, exit_state in list(self._exit_states.items()):
            link = self._links[incarnation]
            if exit_state.exited_at or link.deaf:
                continue
            if exit_state.left_at:
                waiting = True
                if now - exit_state.left_at > LEAVE_S:
                    self.distrust(link, "it has closed its connection to the master")
            elif link.wire is not None and not link.wire.ready:
                waiting = True
                if now - exit_state.connected_at > HANDSHAKE_S:
                    self.distrust(link, "it has connected to the master and not finished ZeroMQ's handshake")
        if self._handover.look_after() or waiting:
            self._ticks.start(0)


def lives(pidfd: int) -> bool:
    """Tell whether a process still runs, or waits to be reaped."""
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except OSError:
        return False
    return True


def unpack_routes(body: bytes) -> Routes:
    """Return what a worker's hello says about the app.

    Raises:
        WireError: the body holds something else.
    """
    try:
        hello = msgpack.unpackb(body)
        return Routes(bool(hello["callbacks"]), [str(path) for path in hello["handlers"]], bool(hello["handshake"]))
    except (ValueError, TypeError, LookupError, msgpack.UnpackException):
        raise WireError("a hello that does not say what the app serves") from None


def link_limits(settings: Settings) -> dict[str, int]:
    """Return the arguments of a WorkerLink that are settings."""
    return {
        "window_events": settings.window_events,
        "window_bytes": settings.window_bytes,
        "up_window_bytes": settings.up_window_bytes,
        "ring_bytes": settings.payload_ring_bytes,
    }
