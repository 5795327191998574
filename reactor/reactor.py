"""The master: builds the reactor's parts, and obeys the supervisor."""

from __future__ import annotations

import os
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from zwoole.reactor.clients.access_log import AccessLog
from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.clients.graceful_stop import GracefulStop
from zwoole.reactor.clients.heartbeat import Heartbeat
from zwoole.reactor.clients.inbound import Inbound
from zwoole.reactor.clients.limits import Limits
from zwoole.reactor.clients.listener import Listener
from zwoole.reactor.clients.opening import Opening
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.pool.handover import Handover
from zwoole.reactor.pool.pool import Pool
from zwoole.reactor.queries import Admin
from zwoole.reactor.routing.pipes import Pipes
from zwoole.reactor.routing.router import Router
from zwoole.reactor.sending.compression import Compression
from zwoole.reactor.sending.outbound import Outbound
from zwoole.reactor.sending.output_limits import Backlog
from zwoole.shared.memory import stats
from zwoole.shared.memory.connection_table import ConnectionTable
from zwoole.shared.memory.snapshot import Snapshot
from zwoole.shared.process import control_messages, open_files, stdio
from zwoole.shared.process.log import get_logger, reopen
from zwoole.shared.process.run_files import control_address, remove_abandoned, snapshot_path
from zwoole.shared.settings import Settings

ORPHANED_STOP_S = 2.5
RECORD_S = 0.5  # how often what is counted is written where every process can read it

POLLIN = int(zmq.POLLIN)  # an enum's & costs more than the call it is for

log = get_logger("master")


class Master:
    """One master process.

    Attributes:
        loop: its event loop.
    """

    def __init__(
        self,
        run_dir: Path,
        epoch: int,
        index: int,
        sockets: list[socket.socket],
        table: ConnectionTable,
        settings: Settings,
    ) -> None:
        """Build all parts.

        Args:
            run_dir: the run directory.
            epoch: this master incarnation's number.
            index: which of the reactors this is.
            sockets: listening sockets.
            table: the connection table, emptied, with room for as many connections as there may be at a time.
            settings: the effective settings.
        """
        self._run_dir = run_dir
        self._index = index
        self._settings = settings
        self._started = time.monotonic()
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
        self._admin = Admin(self.loop, self._registry, self._closing, self._outbound, self.status)
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
        self._pool.on_kill = lambda incarnation, why: self._tell("kill", incarnation=incarnation, why=why)
        if settings.access_log:
            access = AccessLog()
            self._opening.on_upgrade = access.opened
            self._opening.on_refused = access.refused
            self._closing.on_gone = access.gone
        self._outbound.on_served = lambda incarnation: self._tell("served", incarnation=incarnation)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control = self._connect(epoch)
        self._stopping = GracefulStop(
            self.loop,
            self._registry,
            self._router,
            self._opening,
            self._closing,
            settings,
            links=lambda: self._pool.links,
            done=self._stopped,
        )
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
            remove_abandoned(self._run_dir)

    def orphaned(self) -> None:
        """The supervisor is gone: stop shortly, and clean up in its place."""
        log.error("the supervisor is gone: stopping")
        self._orphaned = True
        self._control.disconnect(control_address(self._run_dir))  # else it would connect to the next supervisor
        self._begin_stop(ORPHANED_STOP_S)

    # The supervisor's word.

    def _connect(self, epoch: int) -> zmq.Socket[bytes]:
        dealer = self._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.IDENTITY, f"master-{epoch}".encode())
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(control_address(self._run_dir))
        self.loop.add_source(int(dealer.getsockopt(zmq.FD)), self._obey)
        self.loop.before_sleep(self._obey)
        dealer.send(control_messages.pack("hello", role="master"))
        return dealer

    def _tell(self, kind: str, **fields: Any) -> None:
        if not self._orphaned:
            self._control.send(control_messages.pack(kind, **fields), zmq.DONTWAIT)

    def _obey(self) -> None:
        """Take the supervisor's messages."""
        while int(self._control.getsockopt(zmq.EVENTS)) & POLLIN:
            message = control_messages.unpack(self._control.recv(zmq.DONTWAIT))
            kind = message["type"]
            if kind == "worker":
                self._pool.expect(message["slot"], message["incarnation"], message["pid"], message["standby"])
            elif kind == "switch":
                self._pool.switch(message["incarnations"])
            elif kind == "places":
                self._pool.set_places(message["number"])
                self._registry.limit = min(self._registry.table.limit, open_files.for_connections(message["number"]))
            elif kind == "stop":
                self._begin_stop(message["seconds"], message["spread"])
            elif kind == "reopen_log":
                reopen(self._settings.log_file)
            elif kind == "query":
                self._admin.answer(message, partial(self._answer, message["id"]))
            else:
                log.warning("the supervisor said %r, which this master does not know", kind)

    def _answer(self, query: int, result: dict[str, Any]) -> None:
        self._tell("answer", id=query, result=result)

    def _worker_ready(self, incarnation: int) -> None:
        if not self._stopping.begun:
            self._listener.start()
        self._tell("ready", incarnation=incarnation)

    def _record(self, _: int) -> None:
        """Write what is counted where every process can read it, twice a second."""
        times = {"started": self._started, "written": time.monotonic()}
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
            "log_lines_lost": stdio.lost_lines(),
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
            "uptime_s": round(time.monotonic() - self._started, 1),
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

    # The end.

    def _begin_stop(self, seconds: float, spread: float = 0.0) -> None:
        """Accept nobody any more, and stop; see GracefulStop.begin."""
        self._listener.close()
        self._stopping.begin(seconds, spread)

    def _stopped(self) -> None:
        """Nobody is left to be served."""
        if self._orphaned:
            self._pool.dismiss()
        self._tell("stopped")
        self.loop.stop()
