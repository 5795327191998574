"""Introducing processes to each other, so that they can connect: masters to workers, and workers to masters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zwoole.shared.process.control_messages import NO_MASTER
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.processes import Processes
from zwoole.supervisor.core.roles import MASTER, WORKER


class Introductions:
    """Tells the processes of one server about each other.

    Attributes:
        masters: the incarnation of each reactor's newest master.
    """

    def __init__(self, processes: Processes, tell: Callable[..., None]) -> None:
        """Prepare.

        Args:
            processes: those that run.
            tell: sends a control message: (identity, kind, fields).
        """
        self.masters: list[int] = []
        self._processes = processes
        self._tell = tell

    def started(self, process: Process) -> None:
        """Introduce a process that was just started, as far as others can be told by now."""
        if process.role is MASTER:
            self.masters[process.id : process.id + 1] = [process.incarnation]
            for other in self._linked():
                self._tell_of_masters(other)
        elif process.role.linked:
            for master in self._processes.connected_masters():
                self._introduce(process, master)

    def said_hello(self, process: Process) -> None:
        """Introduce a process that can be told something from now on.

        A master may have been replaced since a worker was started, when the worker could not be told yet.
        """
        if process.role is MASTER:
            self._tell_worker_num(process)
            for other in self._linked():
                if other.retiring:  # this master would never take its hello
                    self._tell_of_masters(other)
                else:
                    self._introduce(other, process)
        elif process.role.linked:
            self._tell_of_masters(process)

    def hello_taken(self, process: Process, master: Process) -> bool:
        """Note that a master has taken a process's hello; return whether every master has."""
        process.taken_by.add(master.incarnation)
        return process.taken_by.issuperset(self.masters)

    def worker_num_changed(self) -> None:
        """Tell the masters how many workers there are to be. A master that has not said hello yet is told then."""
        for master in self._processes.connected_masters():
            self._tell_worker_num(master)

    def switch(self, successors: Sequence[Process]) -> None:
        """Have the masters put successors in service."""
        incarnations = [process.incarnation for process in successors]
        for master in self._processes.connected_masters():
            self._tell(master.identity, "switch", incarnations=incarnations)

    def _linked(self) -> list[Process]:
        return [process for process in self._processes.all() if process.role.linked]

    def _tell_worker_num(self, master: Process) -> None:
        self._tell(master.identity, "worker_num", number=self._processes.wanted[WORKER])

    def _introduce(self, process: Process, master: Process) -> None:
        """Tell a master of a process that will connect to it."""
        process.known_to.add(master.incarnation)
        fields = {"worker_id": process.id, "incarnation": process.incarnation, "pid": process.pid}
        self._tell(master.identity, "worker", standby=process.standby, **fields)

    def _tell_of_masters(self, process: Process) -> None:
        """Tell a process which masters there are; a retiring one gets NO_MASTER for each that does not know it."""
        known = [
            NO_MASTER if process.retiring and master not in process.known_to else master for master in self.masters
        ]
        self._tell(process.identity, "masters", incarnations=known)
