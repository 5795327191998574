"""The roles of processes: what the supervisor has to know of each kind of process that it runs.

A new kind of process is one more `Role` here. The other modules ask the descriptor; they do not compare names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from zwoole.supervisor.core.exit_codes import EXIT_BOOT_FAILED, EXIT_CANNOT_START


class Boot(NamedTuple):
    """What the command line of a new process is made from.

    Attributes:
        id: the worker id, or the number of the reactor.
        incarnation: the number of the process.
        masters: the incarnation of each reactor's master.
        tables: for each reactor, the descriptor of its connection table.
        listeners: for each reactor, the descriptors of its listening sockets.
    """

    id: int
    incarnation: int
    masters: Sequence[int]
    tables: Sequence[int]
    listeners: Sequence[Sequence[int]]


class Command(NamedTuple):
    """The arguments of a new process, and the descriptors that it inherits."""

    arguments: list[str]
    descriptors: list[int]


@dataclass(frozen=True, eq=False)
class Role:
    """A kind of process.

    Attributes:
        name: what it is called in the log, in `zwoole status`, on the control socket and in file names.
        module: its program, as `python -m` takes it.
        setting: the setting that says how many processes there are at the start.
        command: returns what a new process is told.
        runs_app: whether it runs the app's code. Such a process leads a process group, may read the terminal with
            `debug`, may end by itself with code 0, is recycled when it is old or large, and its failure runs the app's
            `worker_error` callback.
        linked: whether it has a link to every master. Such a process is ready when every master has taken its hello,
            any other when it has said hello to the supervisor.
        stops_first: whether it is told to stop before the others and says when it has stopped.
        says: the messages that it may send on the control socket.
        leaves: pattern of the files in the run directory that are of no use after its death, "" for none;
            `{incarnation}` stands for its incarnation.
        failing: the word in the log for what does not boot: app, master.
        exit_code: the server's exit code then.
    """

    name: str
    module: str
    setting: str
    command: Callable[[Boot], Command]
    runs_app: bool
    linked: bool
    stops_first: bool
    says: frozenset[str]
    leaves: str
    failing: str
    exit_code: int


def master_command(boot: Boot) -> Command:
    """Return what a new master is told."""
    table, listeners = boot.tables[boot.id], boot.listeners[boot.id]
    arguments = ["--incarnation", str(boot.incarnation), "--id", str(boot.id), "--table", str(table)]
    return Command([*arguments, "--listen", *map(str, listeners)], [table, *listeners])


def worker_command(boot: Boot) -> Command:
    """Return what a new worker is told."""
    arguments = ["--worker-id", str(boot.id), "--incarnation", str(boot.incarnation)]
    arguments += ["--masters", *map(str, boot.masters), "--tables", *map(str, boot.tables)]
    return Command(arguments, list(boot.tables))


MASTER = Role(
    name="master",
    module="zwoole.reactor",
    setting="reactor_num",
    command=master_command,
    runs_app=False,
    linked=False,
    stops_first=True,
    says=frozenset(("hello", "ready", "served", "kill", "stopped", "answer")),
    leaves="w*.m{incarnation}*",  # endpoints and progress maps
    failing="master",
    exit_code=EXIT_CANNOT_START,
)
WORKER = Role(
    name="worker",
    module="zwoole.workers",
    setting="worker_num",
    command=worker_command,
    runs_app=True,
    linked=True,
    stops_first=False,
    says=frozenset(("hello", "recycle")),
    leaves="",
    failing="app",
    exit_code=EXIT_BOOT_FAILED,
)
ROLES = (MASTER, WORKER)  # in the order in which they are started
