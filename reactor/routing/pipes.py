"""Messages from one worker to another (Swoole's sendMessage): a bounded queue for each worker.

They are sent down like the messages of clients, within the worker's window. They wait in the queue while the window is
full or the worker has no process. The size of each queue is in the connection table, so `send_message` fails at once if
the queue is full, and the sender never waits. A sender may see the size too late; messages above OVERRUN times the
limit are dropped. A message is delivered at most once: if a worker dies, the messages that it was sent are not sent
again.
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
        messages: how many messages were sent on.
        dropped: how many messages were dropped, because the queue was full or there was no such worker.
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
        """Queue a message of worker `source` for worker `target`, and send it if there is room; or drop it."""
        workers = self._router.workers
        worker = workers[target] if target < len(workers) else None
        if worker is None or worker.pipe_bytes + len(body) > self._limit:
            self.dropped += 1
            log.warning(
                "dropped a message from worker %d to worker %d: its queue is full, or there is no such worker",
                source,
                target,
            )
            return
        worker.pipe.append((source, body))
        worker.pipe_bytes += len(body)
        if worker.link is not None:
            self.serve(worker.link)
        self._table.set_waiting(target, worker.pipe_bytes)

    def serve(self, link: WorkerLink) -> None:
        """Send the queued messages of a worker, as far as its window has room."""
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
        """Let messages be sent to a new worker."""
        self._table.set_waiting(worker.id, worker.pipe_bytes)

    def close_queue(self, worker: Worker) -> None:
        """Drop the queue of a worker that is given up."""
        self.dropped += len(worker.pipe)
        self._table.set_waiting(worker.id, -1)
