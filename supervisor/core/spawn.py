"""Starting processes: programs of their own that are exec'ed, never forks of the supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from zwoole.shared.memory import mapping
from zwoole.shared.memory.turn_counter import TURNS_BYTES, TurnCounter
from zwoole.shared.process import signals
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.roles import Boot, Role

INSPECT = "PYTHONINSPECT"  # has Python stay after the end of the program, and ask a terminal what to do


class Spawner:
    """Starts the processes of one server."""

    def __init__(
        self,
        run_dir: Path,
        lifeline: int,
        tables: Sequence[int],
        listeners: Sequence[Sequence[int]],
        debug: bool,
    ) -> None:
        """Prepare.

        Args:
            run_dir: the run directory.
            lifeline: the read end of the pipe that only the supervisor can write to.
            tables: for each reactor, the memory of its connection table, which outlives its masters.
            listeners: for each reactor, the descriptors of its listening sockets.
            debug: whether processes that run the app may read the terminal, which only the foreground group may.
        """
        self._run_dir = run_dir
        self._lifeline = lifeline
        self._tables = tables
        self._listeners = listeners
        self._debug = debug

    def spawn(self, role: Role, id: int, incarnation: int, masters: Sequence[int]) -> Process:
        """Start a process.

        Args:
            role: the kind of process.
            id: the worker id, or the number of the reactor.
            incarnation: the number of the process.
            masters: the incarnation of each reactor's master.

        Raises:
            OSError: the machine has no room for another process, or no descriptor for it.
        """
        command = role.command(Boot(id, incarnation, masters, self._tables, self._listeners))
        turns = mapping.anonymous("zwoole-turns", self._run_dir)
        try:
            mapping.reserve(turns, 0, TURNS_BYTES)
            counter = TurnCounter(turns)
            common = ["--run-dir", str(self._run_dir), "--lifeline", str(self._lifeline), "--turns", str(turns)]
            leads_group = role.runs_app and not self._debug
            arguments = [*common, *command.arguments, *(["--lead-group"] if leads_group else [])]
            stdin = None if role.runs_app and self._debug else subprocess.DEVNULL
            popen, pidfd = start(role.module, arguments, [self._lifeline, turns, *command.descriptors], stdin)
        finally:
            os.close(turns)
        return Process(role, id, incarnation, popen, pidfd, counter, leads_group)


def start(
    module: str, arguments: Sequence[str], descriptors: Sequence[int], stdin: int | None
) -> tuple[subprocess.Popen[bytes], int]:
    """Run a module in a new process, with the interpreter flags of this one.

    Args:
        module: its name, as `python -m` takes it.
        arguments: its command line.
        descriptors: those that it inherits.
        stdin: its standard input; None for that of this process.

    Returns:
        The process, and a descriptor that becomes readable when it ends.

    Raises:
        OSError: the machine has no room for another process, or no descriptor for it.
    """
    environment = {name: value for name, value in os.environ.items() if name != INSPECT}
    command = [sys.executable, *interpreter_flags(), *run_module(module), *arguments]
    with signals.blocked():
        popen = subprocess.Popen(command, pass_fds=descriptors, stdin=stdin, env=environment)
    try:
        return popen, os.pidfd_open(popen.pid)
    except OSError:  # its end would not be noticed
        popen.kill()
        popen.wait()
        raise


def run_module(name: str) -> list[str]:
    """Return the arguments that run a module without the current folder on the path: a user's msgpack.py there must
    not be imported instead of msgpack.
    """
    if sys.version_info >= (3, 11):
        return ["-P", "-m", name]
    without_folder = f"import sys; del sys.path[0]; import runpy; runpy.run_module({name!r}, None, '__main__', True)"
    return ["-c", without_folder]


def interpreter_flags() -> list[str]:
    """Return the flags that this interpreter was started with, as command-line arguments."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined, no-any-return]
