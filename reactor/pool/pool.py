"""The worker processes as the master knows them: expected, ready, gone.

The supervisor starts processes and says which is to take which place; the master makes each incarnation an endpoint of
its own, takes its hello, and watches its process by a pidfd, so that a death is known at once and not by silence.

A death is judged only when it is certain that nothing more of that worker will come: its process has ended, its
endpoint has seen the disconnect, and the endpoint is read empty. What then becomes of its connections is handover.py's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgpack
import zmq
from zmq.utils.monitor import parse_monitor_message

from zwoole.reactor.clients.opening import Opening, Routes
from zwoole.reactor.core.commands import Commands
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.worker_link import Worker, WorkerLink
from zwoole.reactor.pool.handover import Handover
from zwoole.reactor.routing.pipes import Pipes
from zwoole.reactor.routing.router import Router
from zwoole.reactor.sending.outbound import Outbound
from zwoole.shared.memory.progress_map import RING, ProgressMap
from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import endpoint, endpoint_path, progress_path, remove
from zwoole.shared.settings import Settings
from zwoole.shared.wire.batches import BatchReader
from zwoole.shared.wire.events import BYE, DRAIN, END_NOW, HELLO, PROTOCOL_VERSION, RINGS, WELCOME

LEAVE_S = 1.0  # a worker whose wire is closed has so long to end by itself, as one does that dies
DISCONNECT_WAIT_S = 2.0  # an endpoint that has not seen its dead worker go by then will not
TICK_S = 0.05
BOOT_S = 1.0  # how often it is looked whether workers that boot find what they need
POLLIN = int(zmq.POLLIN)

log = get_logger("pool")


class ExitState:
    """How far the end of one worker is known.

    Attributes:
        pidfd: its process as a descriptor, -1 once it has ended.
        monitor: tells what its endpoint sees.
        accepted: whether the worker has connected.
        disconnected: whether it has gone again, for good.
        left_at: when it did, in seconds of the loop's clock, where it was not told to; 0 before.
        exited_at: when its process had ended; 0 before.
    """

    def __init__(self, pidfd: int, monitor: zmq.Socket[bytes]) -> None:
        self.pidfd = pidfd
        self.monitor = monitor
        self.accepted = False
        self.disconnected = False
        self.left_at = 0.0
        self.exited_at = 0.0


@dataclass(frozen=True, slots=True)
class Expected:
    """A worker process that the supervisor has told of.

    Attributes:
        worker_id: the id it is to have.
        incarnation: its number.
        pid: its process.
        pidfd: its process as a descriptor, -1 if it ended before we heard of it.
        standby: whether it waits for `switch`, or takes its place as soon as it says hello.
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
        kill: Callable[[int, str], None],
    ) -> None:
        """Begin without workers.

        Args:
            loop: the master's loop.
            router: has the workers' places.
            opening: learns which paths are served.
            outbound: takes what workers send.
            handover: moves connections from worker to worker.
            pipes: messages between workers.
            commands: what comes up from workers about themselves is registered here.
            run_dir: the run directory, where the endpoints are.
            incarnation: this master incarnation's number.
            settings: what the links to workers need.
            ready: called with the incarnation of a worker that said hello.
            kill: called with the incarnation of a worker that the supervisor is to kill, and why.
        """
        self._loop = loop
        self._router = router
        self._opening = opening
        self._outbound = outbound
        self._handover = handover
        self._pipes = pipes
        self._run_dir = run_dir
        self._incarnation = incarnation
        self._settings = settings
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._links: dict[int, WorkerLink] = {}
        self._exit_states: dict[int, ExitState] = {}
        self._standby: set[int] = set()  # incarnations that take their place only when told
        self._routes: dict[int, Routes] = {}  # what each incarnation serves, as it said
        self._without_endpoint: list[Expected] = []  # the run directory had no room, or was gone
        self._told_why = ""
        self._ticks = loop.add_deadlines(TICK_S, self._tick)
        self._boots = loop.add_deadlines(BOOT_S, self._look_after_boots)
        self._ready = ready
        self._kill = kill
        commands.register(HELLO, lambda link, event: self._hello(link, event.number, event.data()))
        commands.register(RINGS, self._rings)
        commands.register(BYE, self._bye)

    @property
    def links(self) -> list[WorkerLink]:
        """All links, also of workers that have not said hello."""
        return list(self._links.values())

    # The supervisor's word.

    def expect(self, worker_id: int, incarnation: int, pid: int, standby: bool) -> None:
        """Make the endpoint for a worker process that is starting.

        Args:
            worker_id: the id it is to have.
            incarnation: its number.
            pid: its process.
            standby: whether it waits for `switch`, or takes its place as soon as it says hello.
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
        """Make the progress map and the endpoint; where the run directory does not allow it now, later."""
        path = progress_path(self._run_dir, expected.incarnation, self._incarnation)
        try:
            progress = ProgressMap(path, RING, create=True)
        except OSError as error:
            self._no_endpoint(expected, str(error.strerror))
            return
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        # No high-water mark: with one, libzmq drops what the kernel still holds when the peer dies. Credits bound it.
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        monitor = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        try:
            socket.bind(endpoint(self._run_dir, expected.incarnation, self._incarnation))
        except zmq.ZMQError as error:
            socket.disable_monitor()
            monitor.close(0)
            socket.close(0)
            progress.close()
            remove(path)
            self._no_endpoint(expected, os.strerror(error.errno or 0))
            return
        self._told_why = ""
        worker = self._router.workers[expected.worker_id]
        link = WorkerLink(worker, expected.incarnation, expected.pid, socket, progress, **link_limits(self._settings))
        self._links[expected.incarnation] = link
        if expected.standby:
            self._standby.add(expected.incarnation)
        self._loop.add_link(link)
        self._watch(link, monitor, expected.pidfd)

    def _no_endpoint(self, expected: Expected, why: str) -> None:
        self._without_endpoint.append(expected)
        if why != self._told_why:
            self._told_why = why
            log.error("no endpoint for worker %d in %s, trying on: %s", expected.worker_id, self._run_dir, why)

    def _look_after_boots(self, _: int) -> None:
        """Make endpoints that could not be made before, and end workers that will never find theirs."""
        waiting, self._without_endpoint = self._without_endpoint, []
        for expected in waiting:
            if expected.worker_id < len(self._router.workers) and lives(expected.pidfd):
                self._make_endpoint(expected)
            elif expected.pidfd >= 0:
                os.close(expected.pidfd)
        booting = [link for link in self.links if not link.ready and not self._exit_states[link.incarnation].exited_at]
        for link in booting:
            endpoint_there = endpoint_path(self._run_dir, link.incarnation, self._incarnation).exists()
            if not (endpoint_there and link.progress.path.exists()):
                self.distrust(link, "what it needs was removed from the run directory")
        if booting or self._without_endpoint:
            self._boots.start(0)

    def switch(self, incarnations: list[int]) -> None:
        """Let workers that are ready take their places; those that had them retire."""
        for incarnation in incarnations:
            self._standby.discard(incarnation)
            link = self._links.get(incarnation)
            if link is not None and link.ready:
                self._activate(link)
                self._dismiss_booting(link.worker)
        self._ticks.start(0)

    def set_worker_num(self, number: int) -> None:
        """Have places for so many workers."""
        workers = self._router.workers
        while len(workers) < number:
            workers.append(Worker(len(workers)))
            self._pipes.open_queue(workers[-1])
        while len(workers) > number:
            self._give_up(workers.pop())

    def _give_up(self, worker: Worker) -> None:
        """Give up a place that is not among the router's any more: its connections go to the others."""
        self._pipes.close_queue(worker)
        self._dismiss_booting(worker)
        self._handover.give_up(worker)
        self._ticks.start(0)

    def _dismiss_booting(self, worker: Worker) -> None:
        """Let workers that boot for a place that they will not get end: their hello is their goodbye."""
        for booting in self.links:
            if booting.worker is worker and not booting.active:
                booting.retiring = True

    def dismiss(self) -> None:
        """Tell every worker to go, where no supervisor is left to do it."""
        for link in self.links:
            if link.ready and not link.drained:
                link.drained = True
                link.send_command(DRAIN, END_NOW, b"")
                link.flush()

    def close(self) -> None:
        """Close every endpoint."""
        for link in self.links:
            self._forget(link)
        self._context.destroy(linger=0)

    def serve(self, link: WorkerLink) -> None:
        """Send what waits for a worker."""
        self._router.serve(link)
        self._pipes.serve(link)

    # Booting.

    def _watch(self, link: WorkerLink, monitor: zmq.Socket[bytes], pidfd: int) -> None:
        exit_state = self._exit_states[link.incarnation] = ExitState(pidfd, monitor)
        self._loop.add_source(int(monitor.getsockopt(zmq.FD)), lambda: self._monitored(link, exit_state))
        if pidfd >= 0:
            self._loop.add_source(pidfd, lambda: self._exited(link, exit_state), last=True)
        else:
            self._exited(link, exit_state)
        self._monitored(link, exit_state)  # its descriptor tells of nothing before it was looked at once

    def _rings(self, link: WorkerLink, _: BatchReader) -> None:
        """A worker has mapped the payload rings: large payloads may go through them."""
        if link.memory is not None:
            link.writer.ring = link.memory.down

    def _bye(self, link: WorkerLink, _: BatchReader) -> None:
        """A worker has finished everything; it may wait for its threads before it ends."""
        link.drained = link.drained or link.retiring

    def _hello(self, link: WorkerLink, version: int, body: bytes) -> None:
        """A worker has booted: answer it, and let it take its place."""
        if version != PROTOCOL_VERSION:
            self.distrust(link, f"it speaks version {version} of the wire, this master {PROTOCOL_VERSION}")
            return
        hello = msgpack.unpackb(body)
        self._routes[link.incarnation] = Routes(hello["callbacks"], hello["handlers"], hello["handshake"])
        memory = None if link.memory is None else [os.getpid(), link.memory.descriptor]
        welcome = {"up_window": self._settings.up_window_bytes, "memory": memory}
        link.send_command(WELCOME, PROTOCOL_VERSION, msgpack.packb(welcome))
        link.ready = True
        self._loop.touch(link)
        if not link.retiring and link.incarnation not in self._standby:
            self._activate(link)
            self._ticks.start(0)
        self._ready(link.incarnation)

    def _activate(self, link: WorkerLink) -> None:
        """Give a worker its place; what it serves is what the server serves from here on."""
        self._opening.routes = self._routes[link.incarnation]
        self._handover.activate(link)

    # Deaths.

    def distrust(self, link: WorkerLink, reason: str) -> None:
        """A worker that sends what is no batch cannot be trusted with another: it is killed, its death handled.

        The supervisor kills it: it holds the process, so that it cannot hit another one which has got the number, and
        it says why when it tells of the death. What the worker sends until then is not read.
        """
        if link.deaf:
            return
        log.error("worker %d (pid %d) is ended: %s", link.worker.id, link.pid, reason)
        link.deaf = True
        self._loop.remove_link(link)
        self._kill(link.incarnation, reason)

    def _monitored(self, link: WorkerLink, exit_state: ExitState) -> None:
        """The endpoint saw its worker come or go; it serves one connection in its life, so going is for good."""
        while not exit_state.monitor.closed and int(exit_state.monitor.getsockopt(zmq.EVENTS)) & POLLIN:
            event = parse_monitor_message(exit_state.monitor.recv_multipart())["event"]
            if event == zmq.EVENT_ACCEPTED:
                exit_state.accepted = True
            elif event == zmq.EVENT_DISCONNECTED:
                exit_state.disconnected = True
        if exit_state.disconnected and not exit_state.left_at and not exit_state.exited_at and not link.drained:
            exit_state.left_at = self._loop.clock.now
            self._ticks.start(0)
        self._bury(link, exit_state)

    def _exited(self, link: WorkerLink, exit_state: ExitState) -> None:
        """The worker's process has ended."""
        if exit_state.pidfd >= 0:
            self._loop.remove_source(exit_state.pidfd)
            os.close(exit_state.pidfd)
            exit_state.pidfd = -1
        exit_state.exited_at = self._loop.clock.now
        self._ticks.start(0)
        self._monitored(link, exit_state)

    def _bury(self, link: WorkerLink, exit_state: ExitState) -> None:
        """Judge a death when it is certain that nothing more will come."""
        if link.closed or not exit_state.exited_at:
            return
        late = self._loop.clock.now - exit_state.exited_at > DISCONNECT_WAIT_S
        if exit_state.accepted and not exit_state.disconnected and not late:
            return
        if self._outbound.receive(link):
            self._loop.next_turn(lambda: self._bury(link, exit_state))
            return
        verdict = self._handover.judge(link)
        self._forget(link)
        self._handover.bury(link, verdict)

    def _forget(self, link: WorkerLink) -> None:
        self._links.pop(link.incarnation, None)
        self._standby.discard(link.incarnation)
        self._routes.pop(link.incarnation, None)
        self._router.forget_line(link)
        self._loop.remove_link(link)
        exit_state = self._exit_states.pop(link.incarnation, None)
        if exit_state is not None:
            self._loop.remove_source(int(exit_state.monitor.getsockopt(zmq.FD)))
            link.socket.disable_monitor()
            exit_state.monitor.close(0)
            if exit_state.pidfd >= 0:
                self._loop.remove_source(exit_state.pidfd)
                os.close(exit_state.pidfd)
        link.close()
        # libzmq leaves the file of an endpoint that has seen its only peer go.
        remove(endpoint_path(self._run_dir, link.incarnation, self._incarnation))

    # What time brings.

    def _tick(self, _: int) -> None:
        """Look after what has waited: deaths without a disconnect, and what handovers left for later."""
        for incarnation, exit_state in list(self._exit_states.items()):
            link = self._links[incarnation]
            if exit_state.exited_at:
                self._bury(link, exit_state)
            elif exit_state.left_at and self._loop.clock.now - exit_state.left_at > LEAVE_S:
                self.distrust(link, "it has left its wire to the master")
        waiting = (
            exit_state.exited_at or (exit_state.left_at and not self._links[incarnation].deaf)
            for incarnation, exit_state in self._exit_states.items()
        )
        if self._handover.look_after() or any(waiting):
            self._ticks.start(0)


def lives(pidfd: int) -> bool:
    """Tell whether a process still runs, or waits to be reaped."""
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except OSError:
        return False
    return True


def link_limits(settings: Settings) -> dict[str, int]:
    """Return the arguments of a WorkerLink that are settings."""
    return {
        "window_events": settings.window_events,
        "window_bytes": settings.window_bytes,
        "up_window_bytes": settings.up_window_bytes,
        "ring_bytes": settings.payload_ring_bytes,
    }
