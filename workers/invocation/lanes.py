"""The events that wait for their callbacks, in order.

Operations: add an event; take the next one that may run; note that its callback has suspended, or has ended.

Goals: the events of one connection run one at a time, in order; those of other connections do not wait for them. Most
callbacks do not suspend, so an event costs some nanoseconds here, and a connection has a lane of its own only from the
suspension of its callback on.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from zwoole.workers.core.fifo import Fifo
from zwoole.workers.links.master_link import MasterLink


class Job:
    """One event, until its callback has ended.

    Attributes:
        link: the link that it came by.
        sequence: its sequence number.
        kind: which event.
        fd: the connection; for a message of another worker, -1 - the sender's id.
        opcode: of a message: OP_TEXT or OP_BINARY.
        body: what it carries, decoded; of a message, what it says.
        has_lane: whether later events of its connection wait in a lane.
    """

    __slots__ = ("body", "fd", "has_lane", "kind", "link", "opcode", "sequence")

    def __init__(self, link: MasterLink, sequence: int, kind: int, fd: int, opcode: int, body: Any) -> None:
        self.link = link
        self.sequence = sequence
        self.kind = kind
        self.fd = fd
        self.opcode = opcode
        self.body = body
        self.has_lane = False


def job_of(link: MasterLink, sequence: int, kind: int, fd: int, opcode: int, body: Any) -> Job:
    """Return a job as `Job` does; compiled, without making Python objects of its numbers."""
    job = Job.__new__(Job)
    job.link = link
    job.sequence = sequence
    job.kind = kind
    job.fd = fd
    job.opcode = opcode
    job.body = body
    job.has_lane = False
    return job


class Lanes:
    """The queue of all events, and a lane behind each callback that is suspended."""

    __slots__ = ("_lanes", "_queue")

    def __init__(self) -> None:
        self._queue = Fifo()
        self._lanes: dict[int, deque[Job]] = {}  # by fd

    def add(self, job: Job) -> None:
        """Queue an event."""
        self._queue.add(job)

    def waits(self) -> bool:
        """Tell whether some event is queued. Perhaps it may not run yet."""
        return not self._queue.is_empty()

    def busy(self) -> bool:
        """Tell whether some event is queued, or suspended."""
        return bool(self._lanes) or not self._queue.is_empty()

    def take(self) -> Job | None:
        """Return the next event that may run, None if there is none."""
        while not self._queue.is_empty():
            job: Job = self._queue.take()
            if job.has_lane or not self._lanes:
                return job
            lane = self._lanes.get(job.fd)
            if lane is None:
                return job
            lane.append(job)
        return None

    def suspended(self, job: Job) -> None:
        """Have later events of the job's connection wait until its callback has ended."""
        if not job.has_lane:
            job.has_lane = True
            self._lanes[job.fd] = deque()

    def ended(self, job: Job) -> None:
        """Queue the event that has waited for the end of the job's callback."""
        if job.has_lane:
            lane = self._lanes[job.fd]
            if lane:
                follower = lane.popleft()
                follower.has_lane = True
                self._queue.add(follower)
            else:
                del self._lanes[job.fd]
