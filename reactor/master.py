"""The master: builds the reactor's parts, obeys the supervisor, and ends in good order.

Stopping has three steps, each with a share of the time it is given: no new connection and no new message; what was
accepted is finished; every client is told 1001 and waited for, so that its `close` callback runs.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from zwoole.reactor.access_log import AccessLog
from zwoole.reactor.admin import Admin
from zwoole.reactor.backlog import Backlog
from zwoole.reactor.closing import Closing
from zwoole.reactor.compression import Compression
from zwoole.reactor.connection import HANDSHAKE, OPEN
from zwoole.reactor.handover import Handover
from zwoole.reactor.handshake import Refused
from zwoole.reactor.heartbeat import Heartbeat
from zwoole.reactor.inbound import Inbound
from zwoole.reactor.limits import Limits
from zwoole.reactor.listener import Listener
from zwoole.reactor.loop import Loop
from zwoole.reactor.opening import Opening
from zwoole.reactor.outbound import Outbound
from zwoole.reactor.pipes import Pipes
from zwoole.reactor.pool import Pool
from zwoole.reactor.registry import Registry
from zwoole.reactor.router import Router
from zwoole.shared import control, outlet, stats
from zwoole.shared.close_codes import CLOSE_GOING_AWAY
from zwoole.shared.log import get_logger, reopen
from zwoole.shared.rundir import control_address, snapshot_path, table_path
from zwoole.shared.settings import Settings
from zwoole.shared.snapshot import Snapshot
from zwoole.shared.table import ConnectionTable

FINISH_SHARE = 0.7  # of the time for a stop, that accepted messages may take before 1001 is sent anyway
ORPHANED_STOP_S = 2.5
RECORD_S = 0.5  # how often what is counted is written where every process can read it
STOP_STEP_S = 0.02  # how often a stop looks whether its step is done

POLLIN = int(zmq.POLLIN)  # an enum's & costs more than the call it is for

log = get_logger("master")


class Master:
    """One master process.

    Attributes:
        loop: its event loop.
        stopping: whether a stop has begun.
    """

    def __init__(
        self, run_dir: Path, epoch: int, index: int, sockets: list[socket.socket], limit: int, settings: Settings
    ) -> None:
        """Build all parts.

        Args:
            run_dir: the run directory.
            epoch: this master incarnation's number.
            index: which of the reactors this is.
            sockets: listening sockets.
            limit: most connections at a time.
            settings: the effective settings.
        """
        table = ConnectionTable.create(table_path(run_dir, index), limit, settings.reactor_num)
        self._run_dir = run_dir
        self._index = index
        self._settings = settings
        self.stopping = False
        self._started = time.time()
        self._registry = Registry(table, index, settings.reactor_num)
        self.loop = Loop(self._registry)
        self.loop.busy_poll_s = settings.busy_poll_us / 1e6
        self._router = Router(self.loop, settings)
        self._closing = Closing(self.loop, self._registry, self._router, settings)
        self._limits = Limits(self.loop, self._registry, self._router, self._closing, settings)
        self._inbound = Inbound(self.loop, self._router, self._closing, self._limits)
        self._opening = Opening(self.loop, self._registry, self._inbound, self._router, self._closing, settings)
        self._heartbeat = Heartbeat(self.loop, self._registry, self._opening, self._closing, self._limits, settings)
        self._listener = Listener(sockets, self.loop, self._registry, self._opening, settings)
        self._backlog = Backlog(self._registry, self._router, self._closing, settings)
        self.loop.on_queue = self._backlog.note
        self._closing.on_dropped.append(self._backlog.note)
        compression = Compression(self.loop, self._backlog, settings)
        self._outbound = Outbound(self.loop, self._registry, self._router, self._closing, self._backlog, compression)
        self._outbound.on_answer = self._opening.answered
        self._pipes = Pipes(self.loop, table, self._router, settings)
        self._handover = Handover(self.loop, self._registry, self._router, self._closing, self._outbound, settings)
        self._admin = Admin(self._registry, self._closing, self._outbound, self.status)
        self._pool = Pool(
            self.loop,
            self._router,
            self._opening,
            self._outbound,
            self._handover,
            self._pipes,
            run_dir,
            epoch,
            settings,
        )
        self._pool.on_ready = self._worker_ready
        if settings.access_log:
            access = AccessLog()
            self._opening.on_upgrade = access.opened
            self._opening.on_refused = access.refused
            self._closing.on_gone = access.gone
        self._outbound.on_served = lambda incarnation: self._tell("served", incarnation=incarnation)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control = self._connect(epoch)
        self._steps: list[Callable[[float], bool]] = []
        self._step_timer = self.loop.add_deadlines(STOP_STEP_S, self._step)
        self._spread_ends = 0.0
        self._step_ends = 0.0
        self._stop_ends = 0.0
        self._orphaned = False
        self._named = {"role": stats.MASTER, "index": index, "pid": os.getpid(), "incarnation": epoch}
        self._snapshot = Snapshot(snapshot_path(run_dir, stats.MASTER, epoch))
        self._records = self.loop.add_deadlines(RECORD_S, self._record)
        self._record(0)

    def run(self) -> None:
        """Serve until told to stop."""
        self.loop.run()
        self._record(0)
        self._listener.close()
        self._pool.close()
        self._control.close(linger=0 if self._orphaned else 500)
        self._context.term()
        if self._orphaned:
            shutil.rmtree(self._run_dir, ignore_errors=True)

    def orphaned(self) -> None:
        """The supervisor is gone: stop shortly, and clean up in its place."""
        log.error("the supervisor is gone: stopping")
        self._orphaned = True
        self._begin_stop(ORPHANED_STOP_S)

    # The supervisor's word.

    def _connect(self, epoch: int) -> zmq.Socket[bytes]:
        dealer = self._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.IDENTITY, f"master-{epoch}".encode())
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(control_address(self._run_dir))
        self.loop.add_source(int(dealer.getsockopt(zmq.FD)), self._obey)
        self.loop.before_sleep(self._obey)
        dealer.send(control.pack("hello", role="master"))
        return dealer

    def _tell(self, kind: str, **fields: Any) -> None:
        self._control.send(control.pack(kind, **fields), zmq.DONTWAIT)

    def _obey(self) -> None:
        """Take the supervisor's messages."""
        while int(self._control.getsockopt(zmq.EVENTS)) & POLLIN:
            message = control.unpack(self._control.recv(zmq.DONTWAIT))
            kind = message["type"]
            if kind == "worker":
                self._pool.expect(message["slot"], message["incarnation"], message["pid"], message["standby"])
            elif kind == "switch":
                self._pool.switch(message["incarnations"])
            elif kind == "places":
                self._pool.set_places(message["number"])
            elif kind == "stop":
                self._begin_stop(message["seconds"], message["spread"])
            elif kind == "reopen_log":
                reopen(self._settings.log_file)
            elif kind == "query":
                self._tell("answer", id=message["id"], result=self._admin.answer(message))
            else:
                log.warning("the supervisor said %r, which this master does not know", kind)

    def _worker_ready(self, incarnation: int) -> None:
        if not self.stopping:
            self._listener.start()
        self._tell("ready", incarnation=incarnation)

    def _record(self, _: int) -> None:
        """Write what is counted where every process can read it, twice a second."""
        times = {"started": self._started, "written": time.time()}
        self._snapshot.write({**self._named, **times, "counters": self._counters(), "gauges": self._gauges()})
        self._records.start(0)

    def _counters(self) -> dict[str, Any]:
        return {
            "accepted": self._listener.accepted,
            "opened": self._opening.accepted,
            "opened_compressed": self._opening.compressed,
            "refused": {str(status): count for status, count in self._opening.refused.items()},
            "closed": {str(code): count for code, count in self._closing.closed.items()},
            "closed_for_limits": self._limits.enforced,
            "rate_pauses": self._limits.pauses,
            "accept_rests": self._listener.rests,
            "pings": self._heartbeat.pings,
            "messages_in": self._inbound.messages,
            "bytes_in": self._inbound.bytes,
            "messages_out": self._outbound.messages,
            "bytes_out": self._outbound.bytes,
            "pushes_dropped": self._outbound.dropped,
            "messages_dropped": self._backlog.dropped,
            "slow_readers_closed": self._backlog.kicked,
            "pipe_messages": self._pipes.messages,
            "pipe_messages_dropped": self._pipes.dropped,
            "worker_deaths": self._handover.deaths,
            "replays": self._router.replays,
            "handovers": self._router.adoptions,
            "log_lines_lost": outlet.lost_lines(),
        }

    def _gauges(self) -> dict[str, Any]:
        return {
            "connections": len(self._registry),
            "queued_bytes": self._backlog.total,
            "parked_bytes": self._router.parking.bytes,
            "partial_bytes": self._limits.partial_bytes,
            "lag_s": round(self.loop.lag, 6),
            "longest_lag_s": round(self.loop.longest_lag, 6),
        }

    def status(self) -> dict[str, Any]:
        """Return counters and sizes as `zwoole status` shows them."""
        clock = self.loop.clock
        latest, clock.latest = clock.latest, 0.0
        return {
            "index": self._index,
            "loop_lag_s": round(latest, 4),
            "uptime_s": round(time.time() - self._started, 1),
            **self._gauges(),
            **self._counters(),
            "workers": [
                {
                    "slot": link.slot.index,
                    "pid": link.pid,
                    "ready": link.ready,
                    "active": link.active,
                    "connections": link.connections,
                    "outstanding": link.window.events,
                    "outstanding_bytes": link.window.bytes,
                }
                for link in self._pool.links
            ],
        }

    # Stopping.

    def _begin_stop(self, seconds: float, spread: float = 0.0) -> None:
        """Begin to stop; a second word only shortens the time.

        Args:
            seconds: the time it may take in all.
            spread: seconds over which clients are told goodbye.
        """
        now = time.monotonic()
        self._stop_ends = now + seconds
        if self.stopping:
            return
        self.stopping = True
        self._listener.close()
        self._spread_ends = now + spread
        self._step_ends = now + spread + (seconds - spread) * FINISH_SHARE
        self._steps = [
            self._leave_slowly,
            self._stop_reading,
            self._finish_accepted,
            self._say_goodbye,
            self._wait_for_clients,
            self._wait_for_workers,
        ]
        self._step_timer.start(0)

    def _step(self, _: int) -> None:
        """Go on with the stop as far as it goes now."""
        while self._steps and self._steps[0](time.monotonic()):
            self._steps.pop(0)
        if self._steps:
            self._step_timer.start(0)
        else:
            if self._orphaned:
                self._pool.dismiss()
            self._tell("stopped")
            self.loop.stop()

    def _leave_slowly(self, now: float) -> bool:
        """Tell some clients goodbye, so many that at the end of the spread all have been; the others are served on."""
        steps_left = max(int((self._spread_ends - now) / STOP_STEP_S), 0)
        if not steps_left:
            return True
        staying = [connection for connection in self._registry if connection.stage == OPEN]
        for connection in staying[: -(-len(staying) // steps_left)]:
            self._closing.server_close(connection, CLOSE_GOING_AWAY, "the server is stopping")
        return not staying

    def _stop_reading(self, now: float) -> bool:
        """Accept no further message, and no further handshake."""
        self._router.draining = True
        for connection in self._registry:
            if connection.stage == HANDSHAKE:
                self._opening.refuse(connection, Refused(503, "the server is stopping"))
            elif connection.stage == OPEN:
                self._router.stop_reading(connection)
        return True

    def _finish_accepted(self, now: float) -> bool:
        """Wait until every accepted message has been answered."""
        if now >= min(self._step_ends, self._stop_ends):
            return True
        return all(connection.stage > OPEN or self._router.is_idle(connection) for connection in self._registry)

    def _say_goodbye(self, now: float) -> bool:
        for connection in self._registry:
            self._closing.server_close(connection, CLOSE_GOING_AWAY, "the server is stopping")
        return True

    def _wait_for_clients(self, now: float) -> bool:
        """Wait until every client has gone; force those that have not in time."""
        if len(self._registry) == 0:
            return True
        if now < self._stop_ends - 0.2:
            return False
        for connection in self._registry:
            self._closing.force(connection)
        return True

    def _wait_for_workers(self, now: float) -> bool:
        """Wait until the workers have run what they were told last, the `close` callbacks above all."""
        if now >= self._stop_ends:
            return True
        return all(link.window.places == 0 for link in self._pool.links if link.ready)
