"""The reactor: builds all parts of a master and connects them. No other module knows them all.

The program builds it with real sockets, the tests with an epoll and a clock of their own.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zwoole.reactor.clients.access_log import AccessLog
from zwoole.reactor.clients.closing import Closing
from zwoole.reactor.clients.graceful_stop import GracefulStop
from zwoole.reactor.clients.heartbeat import Heartbeat
from zwoole.reactor.clients.inbound import Inbound
from zwoole.reactor.clients.limits import Limits
from zwoole.reactor.clients.listener import Listener
from zwoole.reactor.clients.opening import Opening, log_refused
from zwoole.reactor.core.commands import Commands
from zwoole.reactor.core.connection_life import Life
from zwoole.reactor.core.deadlines import Clock
from zwoole.reactor.core.loop import Calls, Loop
from zwoole.reactor.core.registry import Registry
from zwoole.reactor.pool.handover import Handover
from zwoole.reactor.pool.pool import Pool
from zwoole.reactor.queries import Queries
from zwoole.reactor.routing.parking import Parking
from zwoole.reactor.routing.pipes import Pipes
from zwoole.reactor.routing.router import Router
from zwoole.reactor.sending.compression import Compression
from zwoole.reactor.sending.outbound import Outbound
from zwoole.reactor.sending.output_limits import OutputLimits
from zwoole.shared.memory.connection_table import ConnectionTable
from zwoole.shared.process import stdio
from zwoole.shared.settings import Settings


class Reactor:
    """The parts of one master.

    Attributes:
        loop: the event loop.
        calls: what the loop calls; the other attributes are the parts.
    """

    def __init__(
        self,
        run_dir: Path,
        incarnation: int,
        master_id: int,
        sockets: list[socket.socket],
        table: ConnectionTable,
        settings: Settings,
        tell: Callable[..., None],
        stopped: Callable[[], None],
        epoll: select.epoll | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Build all parts.

        Args:
            run_dir: the run directory.
            incarnation: the number of this master incarnation.
            master_id: the number of this master, from 0.
            sockets: listening sockets.
            table: the empty connection table, whose limit is the maximum number of connections.
            settings: the effective settings.
            tell: sends a control message to the supervisor; called with its type and its fields.
            stopped: called when a graceful stop is over.
            epoll: reports which descriptors are ready; a test may pass its own.
            clock: the clock that timeouts run on; a test may pass its own.
        """
        self._id = master_id
        self._started = time.monotonic()
        # What the other parts share.
        self.life = Life()
        self.commands = Commands()
        self.registry = Registry(table, master_id, settings.reactor_num)
        self.loop = Loop(self.registry, epoll, clock)
        self.loop.busy_poll_s = settings.busy_poll_us / 1e6
        # The way down.
        self.parking = Parking(settings.parked_messages, settings.parked_bytes, settings.parked_total_bytes)
        self.router = Router(
            *(self.loop, self.parking, settings.worker_num),
            *(settings.connection_window_events, settings.connection_window_bytes),
            finish_ending=lambda connection: self.closing.finish_ending(connection),
        )
        self.pipes = Pipes(self.loop, table, self.router, self.commands, settings.pipe_queue_bytes)
        # Clients.
        self.closing = Closing(
            self.loop,
            self.registry,
            self.router,
            self.life,
            settings.close_timeout,
            refuse_unanswered=lambda connection: self.opening.lost(connection),
        )
        self.limits = Limits(self.loop, self.registry, self.router, self.closing, self.life, settings)
        self.inbound = Inbound(
            self.loop,
            self.router,
            self.closing,
            self.limits,
            receive_head=lambda connection, count: self.opening.receive_head(connection, count),
        )
        self.opening = Opening(
            *(self.loop, self.registry, self.inbound, self.router, self.closing, self.life, self.commands, settings)
        )
        self.heartbeat = Heartbeat(
            *(self.loop, self.registry, self.inbound, self.limits, self.life),
            *(settings.ping_interval, settings.ping_timeout, settings.heartbeat_idle_time),
        )
        self.listener = Listener(
            *(sockets, self.loop, self.registry, self.opening),
            *(settings.accept_rate, settings.max_connection_per_ip),
        )
        if settings.access_log:
            AccessLog(self.life)
        else:
            self.life.refused.append(log_refused)
        # The way out.
        self.output_limits = OutputLimits(self.registry, self.router, self.closing, self.life, settings)
        self.compression = Compression(
            self.loop, self.output_limits, settings.compression_threshold, settings.compression_level
        )
        self.outbound = Outbound(
            *(self.loop, self.registry, self.router, self.closing, self.pipes, self.output_limits, self.compression),
            self.commands,
            served=lambda worker: tell("served", incarnation=worker),
            distrust=lambda link, why: self.pool.distrust(link, why),
        )
        # Workers.
        self.handover = Handover(
            *(self.loop, self.registry, self.router, self.closing, self.outbound),
            *(settings.adopt_timeout, settings.handover_timeout),
        )
        self.pool = Pool(
            *(self.loop, self.router, self.opening, self.outbound, self.handover, self.pipes, self.commands),
            *(run_dir, incarnation, settings),
            ready=lambda worker: tell("ready", incarnation=worker),
            serving=self._accept_clients,
            kill=lambda worker, why: tell("kill", incarnation=worker, why=why),
        )
        # The supervisor.
        self.queries = Queries(self.loop, self.registry, self.closing, self.outbound, self.status)
        self.stopping = GracefulStop(
            *(self.loop, self.registry, self.router, self.opening, self.closing, settings.close_timeout),
            links=lambda: self.pool.links,
            done=stopped,
        )
        self.calls = Calls(
            readable=self.inbound.read,
            unread=self.inbound.read_again,
            broken=self.closing.broken,
            flushed=self.closing.flushed,
            queue_changed=self.output_limits.note,
            batch=self.outbound.receive,
            link_ended=self.pool.link_ended,
            serve=self.pool.serve,
        )
        self.loop.connect(self.calls)

    def close(self) -> None:
        """Close the listening sockets and the endpoints of workers."""
        self.listener.close()
        self.pool.close()

    def stop(self, seconds: float, spread: float = 0.0) -> None:
        """Accept no more connections, and stop gracefully; see GracefulStop.begin."""
        self.listener.close()
        self.stopping.begin(seconds, spread)

    def counters(self) -> dict[str, Any]:
        """Return the counters since the master started; they only grow."""
        return {
            "accepted": self.listener.accepted,
            "opened": self.opening.opened,
            "opened_compressed": self.opening.compressed,
            "refused": {str(status): count for status, count in self.opening.refused.items()},
            "closed": {str(code): count for code, count in self.closing.closed.items()},
            "closed_for_limits": self.limits.enforced,
            "rate_pauses": self.limits.pauses,
            "accept_rests": self.listener.rests,
            "pings": self.heartbeat.pings,
            "messages_in": self.inbound.messages,
            "bytes_in": self.inbound.bytes,
            "messages_out": self.outbound.messages,
            "bytes_out": self.outbound.bytes,
            "pushes_dropped": self.outbound.dropped,
            "messages_dropped": self.output_limits.dropped,
            "slow_readers_closed": self.output_limits.closed,
            "pipe_messages": self.pipes.messages,
            "pipe_messages_dropped": self.pipes.dropped,
            "worker_deaths": self.handover.deaths,
            "replays": self.router.replays,
            "handovers": self.router.adoptions,
            "log_lines_lost": stdio.lost_lines(),
        }

    def gauges(self) -> dict[str, Any]:
        """Return the present sizes."""
        return {
            "connections": len(self.registry),
            "queued_bytes": self.output_limits.total,
            "parked_bytes": self.parking.bytes,
            "partial_bytes": self.limits.partial_bytes,
            "lag_s": round(self.loop.lag, 6),
            "longest_lag_s": round(self.loop.longest_lag, 6),
        }

    def status(self) -> dict[str, Any]:
        """Return counters, sizes and links as `zwoole status` shows them, and reset the largest lag."""
        clock = self.loop.clock
        latest, clock.latest = clock.latest, 0.0
        return {
            "id": self._id,
            "loop_lag_s": round(latest, 4),
            "uptime_s": round(time.monotonic() - self._started, 1),
            **self.gauges(),
            **self.counters(),
            "workers": [
                {
                    "worker_id": link.worker.id,
                    "pid": link.pid,
                    "ready": link.ready,
                    "active": link.active,
                    "connections": link.connections,
                    "outstanding": link.window.events,
                    "outstanding_bytes": link.window.bytes,
                }
                for link in self.pool.links
            ],
        }

    def _accept_clients(self) -> None:
        if not self.stopping.begun:
            self.listener.start()
