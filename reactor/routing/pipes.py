"""Messages from one worker to another (Swoole's sendMessage): a bounded queue before each worker's place.

They go down like a client's messages, within the worker's window, and wait in the queue while that is full or the place
has no worker. How much waits stands in the connection table, so that the sender is told at once when a queue is full
and is never held by it. What overtakes that word, sent before its sender could see it, is dropped above OVERRUN times
the limit. A message is delivered at most once: what a dying worker had been sent is not sent again.
"""

from __future__ import annotations

from zwoole.reactor.core.commands import Commands
from zwoole.reactor.core.loop import Loop
from zwoole.reactor.core.worker_link import Worker, WorkerLink
from zwoole.reactor.routing.router import Router
from zwoole.shared.memory.connection_table import ConnectionTable
from zwoole.shared.process.log import get_logger
from zwoole.shared.wire.events import SEND_MESSAGE

OVERRUN = 4

log = get_logger("pipes")


class Pipes:
    """Carries messages between workers.

    Attributes:
        messages: messages sent on, in all.
        dropped: messages that found neither room nor a place.
    """

    def __init__(
        self, loop: Loop, table: ConnectionTable, router: Router, commands: Commands, queue_bytes: int
    ) -> None:
        self.messages = 0
        self.dropped = 0
        self._loop = loop
        self._table = table
        self._router = router
        self._limit = OVERRUN * queue_bytes
        for worker in router.workers:
            table.set_waiting(worker.id, 0)
        commands.register(SEND_MESSAGE, lambda link, event: self.send(link.worker.id, event.number, event.data()))

    def send(self, source: int, target: int, body: bytes) -> None:
        """Take a message of worker `source` for worker `target`."""
        workers = self._router.workers
        worker = workers[target] if target < len(workers) else None
        if worker is None or worker.pipe_bytes + len(body) > self._limit:
            self.dropped += 1
            log.warning("a message from worker %d to worker %d is dropped: no room", source, target)
            return
        worker.pipe.append((source, body))
        worker.pipe_bytes += len(body)
        if worker.link is not None:
            self.serve(worker.link)
        self._table.set_waiting(target, worker.pipe_bytes)

    def serve(self, link: WorkerLink) -> None:
        """Send what waits for a worker, as far as its window has room."""
        worker = link.worker
        if worker.link is not link or not worker.pipe:
            return
        while worker.pipe and link.window.has_room(len(worker.pipe[0][1])):
            source, body = worker.pipe.popleft()
            worker.pipe_bytes -= len(body)
            link.send_pipe_message(source, body)
            self.messages += 1
        self._loop.touch(link)
        self._table.set_waiting(worker.id, worker.pipe_bytes)

    def open_queue(self, worker: Worker) -> None:
        """Let messages be sent to a place."""
        self._table.set_waiting(worker.id, worker.pipe_bytes)

    def close_queue(self, worker: Worker) -> None:
        """A place is given up, and with it what waits there."""
        self.dropped += len(worker.pipe)
        self._table.set_waiting(worker.id, -1)
