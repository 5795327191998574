"""How many files a process of the server may open, and how many it needs for itself.

ZeroMQ aborts its process if it runs out of descriptors, and during a reload there are twice as many workers. So a
master reserves descriptors for its own needs and leaves the rest to connections, and the server does not start if the
limit is too low.
"""

from __future__ import annotations

import resource

from zwoole.shared.errors import StartError

MASTER_OWN = 40  # epoll, ZeroMQ, listening sockets, log, files in the run directory: 27, rounded up
LINK = 10  # per worker in a master: endpoint or socket, pidfd, progress map, payload rings: 6, and some to spare
LINKS = 3  # per worker id at the same time: one serving, its successor, one whose death is still unhandled
SUPERVISOR_OWN = 40
CHILD = 3  # per child in the supervisor: pidfd, turn counter, control connection
WORKER_OWN = 64  # besides 16 for each master; some are for the app
WORKERS_LINK = 16
LEAST_CONNECTIONS = 16
UNLIMITED = 1 << 20


def limits() -> tuple[int, int]:
    """Return the soft and the hard limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinity = resource.RLIM_INFINITY
    return UNLIMITED if soft == infinity else soft, UNLIMITED if hard == infinity else hard


def for_connections(worker_num: int) -> int:
    """Return how many connections a master with `worker_num` workers may have at the hard limit; at least 1."""
    return max(limits()[1] - MASTER_OWN - LINKS * LINK * worker_num, 1)


def needed(worker_num: int, reactor_num: int) -> int:
    """Return how many files the process that needs the most must be able to open."""
    master = MASTER_OWN + LINKS * LINK * worker_num + LEAST_CONNECTIONS
    supervisor = SUPERVISOR_OWN + CHILD * LINKS * (worker_num + reactor_num)
    worker = WORKER_OWN + WORKERS_LINK * reactor_num
    return max(master, supervisor, worker)


def make_room(worker_num: int, reactor_num: int) -> None:
    """Raise this process's soft limit, which its children inherit, to what is needed if it is lower.

    Raises:
        StartError: the hard limit is too low.
    """
    soft, hard = limits()
    number = needed(worker_num, reactor_num)
    if hard < number:
        raise StartError(
            f"this process may open {hard} files, and a server with {worker_num} worker(s) needs {number}: raise the"
            " limit (ulimit -n), or have fewer workers"
        )
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
