"""The master as a process of the server: obeys the supervisor, and writes its counters for other processes to read."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from zwoole.reactor.reactor import Reactor
from zwoole.shared.memory import stats
from zwoole.shared.memory.connection_table import ConnectionTable
from zwoole.shared.memory.snapshot import Snapshot
from zwoole.shared.process import control_messages, open_files
from zwoole.shared.process.log import get_logger, reopen
from zwoole.shared.process.run_files import control_address, remove_abandoned, snapshot_path
from zwoole.shared.settings import Settings
from zwoole.shared.wire.zmq_flags import POLLIN

ORPHANED_STOP_S = 2.5
RECORD_S = 0.5  # how often the counters are written


log = get_logger("master")


class MasterProcess:
    """One master process.

    Attributes:
        loop: its event loop.
    """

    def __init__(
        self,
        run_dir: Path,
        incarnation: int,
        master_id: int,
        sockets: list[socket.socket],
        table: ConnectionTable,
        settings: Settings,
    ) -> None:
        """Build the reactor and say hello to the supervisor; see Reactor for the arguments."""
        self._run_dir = run_dir
        self._log_file = settings.log_file
        self._started = time.monotonic()
        self._reactor = Reactor(run_dir, incarnation, master_id, sockets, table, settings, self._tell, self._stopped)
        self.loop = self._reactor.loop
        self._orders: dict[str, Callable[[dict[str, Any]], object]] = {
            "worker": self._expect_worker,
            "switch": lambda order: self._reactor.pool.switch(order["incarnations"]),
            "worker_num": self._set_worker_num,
            "stop": lambda order: self._reactor.stop(order["seconds"], order["spread"]),
            "reopen_log": lambda _: reopen(self._log_file),
            "query": self._query,
        }
        self._orphaned = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control = self._connect(incarnation)
        self._named = {"role": stats.MASTER, "id": master_id, "pid": os.getpid(), "incarnation": incarnation}
        self._snapshot = Snapshot(snapshot_path(run_dir, stats.MASTER, incarnation))
        self._records = self.loop.add_deadlines(RECORD_S, self._record)
        self._record(0)

    def run(self) -> None:
        """Serve until the supervisor stops this master, or is gone."""
        self.loop.run()
        self._record(0)
        self._reactor.close()
        self._control.close(linger=0 if self._orphaned else 500)
        self._context.term()
        if self._orphaned:
            remove_abandoned(self._run_dir)

    def orphaned(self) -> None:
        """Stop soon, because the supervisor is gone; `run` cleans up in its place."""
        log.error("the supervisor is gone: stopping")
        self._orphaned = True
        self._control.disconnect(control_address(self._run_dir))  # or it would connect to the next supervisor
        self._reactor.stop(ORPHANED_STOP_S)

    # Messages of the supervisor.

    def _connect(self, incarnation: int) -> zmq.Socket[bytes]:
        dealer = self._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.IDENTITY, f"master-{incarnation}".encode())
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(control_address(self._run_dir))
        self.loop.add_source(int(dealer.getsockopt(zmq.FD)), self._obey)
        dealer.send(control_messages.pack("hello", role="master"))
        self.loop.next_turn(self._obey)
        return dealer

    def _tell(self, kind: str, **fields: Any) -> None:
        if not self._orphaned:
            self._control.send(control_messages.pack(kind, **fields), zmq.DONTWAIT)
            self.loop.next_turn(self._obey)  # sending may have used up what the descriptor had to report

    def _obey(self) -> None:
        """Carry out the supervisor's messages that have arrived."""
        while int(self._control.getsockopt(zmq.EVENTS)) & POLLIN:
            message = control_messages.unpack(self._control.recv(zmq.DONTWAIT))
            carry_out = self._orders.get(message["type"])
            if carry_out is None:
                log.warning("unknown message from the supervisor: %r", message["type"])
            else:
                carry_out(message)

    def _expect_worker(self, order: dict[str, Any]) -> None:
        self._reactor.pool.expect(order["worker_id"], order["incarnation"], order["pid"], order["standby"])

    def _set_worker_num(self, order: dict[str, Any]) -> None:
        registry = self._reactor.registry
        self._reactor.pool.set_worker_num(order["number"])
        registry.limit = min(registry.table.limit, open_files.for_connections(order["number"]))

    def _query(self, order: dict[str, Any]) -> None:
        self._reactor.queries.answer(order, partial(self._answer, order["id"]))

    def _answer(self, query: int, result: dict[str, Any]) -> None:
        self._tell("answer", id=query, result=result)

    # Reports.

    def _record(self, _: int) -> None:
        """Write the counters and gauges to this master's snapshot, every RECORD_S."""
        times = {"started": self._started, "written": time.monotonic()}
        counted = {"counters": self._reactor.counters(), "gauges": self._reactor.gauges()}
        self._snapshot.write({**self._named, **times, **counted})
        self._records.start(0)

    def _stopped(self) -> None:
        """End the loop: the graceful stop is over."""
        if self._orphaned:
            self._reactor.pool.dismiss()
        self._tell("stopped")
        self.loop.stop()
