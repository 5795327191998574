"""The processes that the supervisor starts: exec'ed programs of their own, never forks."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

from zwoole.shared.memory.turn_counter import TurnCounter
from zwoole.shared.process import signals
from zwoole.supervisor.liveness import Liveness

EARLY_DEATH_S = 1.0  # a worker that dies sooner after its hello counts as one that cannot serve
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
INSPECT = "PYTHONINSPECT"  # has Python go on behind the end of the program, and ask a terminal what to do
FIRST_NOTICE_S = 5.0  # a process that takes longer to start is spoken of in the log


@dataclass
class Child:
    """A process of the server.

    Attributes:
        role: "master" or "worker".
        index: the reactor's or the worker's number.
        incarnation: the number of this process; no two of a role have the same.
        process: the process.
        pidfd: a descriptor that becomes readable when it ends.
        turns: counts the turns of its loop.
        started: when, in monotonic seconds.
        greeted: whether it has said hello on the control socket, and so can be told something.
        known_to: the incarnations of the masters that were told of it.
        ready_at: when it could serve, or None.
        served: whether it has finished an event.
        retiring: whether a successor took its place, or its place is given up.
        max_age_s: seconds after its start at which it is to be replaced; 0: never.
        killed: why we have killed it, "" where we have not.
        sent: the signals that we have killed it with.
        unheard_s: for how long its loop has turned while no master had its hello, in seconds.
        next_notice_s: seconds after its start at which it is said what it is still waited for.
        debugged: whether it said that a debugger traces it, so that it may take any time.
        leads_group: whether it leads a process group, or will when it has begun to run.
        liveness: what is known of its turns.
    """

    role: str
    index: int
    incarnation: int
    process: subprocess.Popen[bytes]
    pidfd: int
    turns: TurnCounter
    started: float = field(default_factory=time.monotonic)
    greeted: bool = False
    known_to: set[int] = field(default_factory=set)
    ready_at: float | None = None
    served: bool = False
    retiring: bool = False
    max_age_s: float = 0.0
    killed: str = ""
    sent: set[int] = field(default_factory=set)
    unheard_s: float = 0.0
    next_notice_s: float = FIRST_NOTICE_S
    debugged: bool = False
    leads_group: bool = False
    liveness: Liveness = field(init=False)

    def __post_init__(self) -> None:
        self.liveness = Liveness(self.process.pid, self.turns, self.started)

    def __str__(self) -> str:
        return f"{self.role} {self.index} (pid {self.process.pid})"

    @property
    def identity(self) -> bytes:
        """Its name on the control socket."""
        return f"{self.role}-{self.incarnation}".encode()

    @property
    def died_early(self) -> bool:
        """Whether it ended before it had served anybody, and soon: starting it again at once will not help."""
        return not self.served and (self.ready_at is None or time.monotonic() - self.ready_at < EARLY_DEATH_S)

    def kill(self, why: str) -> None:
        """End it at once; `why` is said in the log, where it was not killed before."""
        self._kill_with(signal.SIGKILL, why)

    def abort(self, why: str) -> None:
        """End it with the stacks of its threads on stderr, as faulthandler writes them at SIGABRT."""
        self._kill_with(signal.SIGABRT, why)

    def _kill_with(self, number: signal.Signals, why: str) -> None:
        """Send it a deadly signal, unless it has ended: then it was not us."""
        if not self.has_ended():
            self.killed = self.killed or why
            self.sent.add(number)
            self._send(number)

    def has_ended(self) -> bool:
        """Tell whether it has ended, though that may have been told to nobody yet."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def _send(self, number: signal.Signals) -> None:
        """Send it a signal. Popen's own way would reap it where it has ended, before its group is seen to."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass

    def ended_by_us(self, status: int) -> bool:
        """Tell whether it ended because we have killed it."""
        return -status in self.sent

    def describe_end(self, status: int) -> str:
        """Say how it ended; where we ended it, why."""
        if self.ended_by_us(status):
            return f"was ended by zwoole with {exit_name(status)}: {self.killed}"
        return describe_exit(status)

    def wait(self) -> int:
        """Wait until it has ended and return its status as Popen does: negative for a signal. It is not reaped."""
        try:
            ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # something of the app's in this process has reaped it: nobody knows how it ended
            return 0
        assert ended is not None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def reap(self) -> None:
        """Let go of a process that has ended: its id may be another's from now on."""
        os.close(self.pidfd)
        self.turns.close()
        self.process.wait()


def spawn(
    role: str,
    index: int,
    incarnation: int,
    arguments: list[str],
    inherited: list[int],
    turns: TurnCounter,
    stdin: int | None = subprocess.DEVNULL,
    leads_group: bool = False,
) -> Child:
    """Start `python -m zwoole.<room>` with the interpreter flags of this process.

    Args:
        role: "master" or "worker".
        index: the reactor's or the worker's number.
        incarnation: the number of the new process.
        arguments: its command line.
        inherited: descriptors that it keeps.
        turns: where it will count its turns.
        stdin: its standard input, None for that of this process.
        leads_group: whether it is to lead a process group, by which what it leaves behind can be found.

    Raises:
        OSError: the machine has no room for another process, or no descriptor for it.
    """
    room = {"master": "zwoole.reactor", "worker": "zwoole.workers"}[role]
    command = [sys.executable, *interpreter_flags(), *run_module(room), *arguments]
    if leads_group:
        command.append("--lead-group")
    environment = {name: value for name, value in os.environ.items() if name != INSPECT}
    with signals.blocked():
        process = subprocess.Popen(command, pass_fds=inherited, stdin=stdin, env=environment)
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # nobody would learn of its end
        process.kill()
        process.wait()
        raise
    return Child(role, index, incarnation, process, pidfd, turns, leads_group=leads_group)


def run_module(name: str) -> list[str]:
    """Return the arguments that run a module without the current folder on the path: a user's msgpack.py there must
    not be imported in the place of msgpack.
    """
    if sys.version_info >= (3, 11):
        return ["-P", "-m", name]
    without_folder = f"import sys; del sys.path[0]; import runpy; runpy.run_module({name!r}, None, '__main__', True)"
    return ["-c", without_folder]


def interpreter_flags() -> list[str]:
    """Return the flags that this interpreter was started with, as command-line arguments."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined, no-any-return]


def describe_exit(status: int) -> str:
    """Say how a process ended by itself, with the signal's name and a hint."""
    if status >= 0:
        return f"exited with code {status}"
    hint = ": out of memory?" if -status == signal.SIGKILL else ""
    return f"was ended by {exit_name(status)} ({-status}){hint}"


def ended_by_signal_for_supervisor(status: int) -> bool:
    """Tell whether a process ended by a signal that a worker handles until the end of Python restores its default."""
    return -status in signals.SUPERVISOR_SIGNALS


def exit_name(status: int) -> str:
    """Name the way a process ended: the signal, or "exit 3"."""
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return "an unknown signal"


def backoff(failures: int) -> float:
    """Return how many seconds to wait before the next try, after so many early deaths in a row."""
    doublings = min(failures - 1, 16)  # 2 to the power of a long night's failures is no float
    return 0.0 if failures == 0 else min(FIRST_BACKOFF_S * 2**doublings, MAX_BACKOFF_S)
