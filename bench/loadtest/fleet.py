"""The processes of a load run, seen from the parent: it starts them, talks to them, and leaves none of them behind."""

import multiprocessing
import time
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any

from zwoole.bench.loadtest.opener import Address
from zwoole.bench.loadtest.plan import Plan
from zwoole.bench.loadtest.process import Share, load_process
from zwoole.shared.errors import ZwooleError

_LONGEST_WAIT_S = 60.0  # poll() accepts no more than 24 days


class LoadError(ZwooleError):
    """No result is available; the message gives the reason in one line."""


class Fleet:
    """The load processes of a plan, as a context manager; at most one per connection."""

    def __init__(self, plan: Plan, address: Address) -> None:
        count = min(plan.processes, plan.connections)
        sizes = [plan.connections // count + (index < plan.connections % count) for index in range(count)]
        self._shares = [Share(plan, address, size, sum(sizes[:index])) for index, size in enumerate(sizes)]
        self._pipes: list[Connection] = []
        self._processes: list[SpawnProcess] = []

    def __len__(self) -> int:
        return len(self._shares)

    def __enter__(self) -> "Fleet":
        """Start the processes."""
        spawn = multiprocessing.get_context("spawn")
        for share in self._shares:
            pipe, remote = spawn.Pipe()
            self._pipes.append(pipe)
            process = spawn.Process(target=load_process, args=(remote, share), daemon=True)
            process.start()
            self._processes.append(process)
            remote.close()  # so that the pipe ends when the process does
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(1)
            process.kill()
            process.join()

    def send(self, message: object) -> None:
        """Send a message to every process.

        Raises:
            LoadError: a process has died.
        """
        for pipe in self._pipes:
            try:
                pipe.send(message)
            except OSError:
                raise _death() from None

    def receive(self, until_ns: int) -> list[tuple[int, Any]]:
        """Wait for messages until a time of time.monotonic_ns(); return each with the index of its process.

        Raises:
            LoadError: a process has died.
        """
        received = []
        timeout_s = min(max(0, until_ns - time.monotonic_ns()) / 1e9, _LONGEST_WAIT_S)
        for ready in wait(self._pipes, timeout_s):
            assert isinstance(ready, Connection)
            try:
                received.append((self._pipes.index(ready), ready.recv()))
            except (EOFError, OSError):
                raise _death() from None
        return received


def _death() -> LoadError:
    return LoadError("a load process died")
