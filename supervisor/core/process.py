"""One process of the server, as the supervisor knows it: how far it has come, and how it ended."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import time
from dataclasses import dataclass, field

from zwoole.shared.memory.turn_counter import TurnCounter
from zwoole.shared.process import signals
from zwoole.supervisor.core.hang_detector import Liveness
from zwoole.supervisor.core.roles import Role

EARLY_DEATH_S = 1.0  # a process that dies sooner after it became ready, without having served, has failed to boot
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
KILL_GRACE_S = 1.0  # added to the time limit of an end; after it the process is killed
FIRST_NOTICE_S = 5.0  # the log tells of a process that takes longer to start


@dataclass(eq=False)
class Process:
    """A process of the server.

    Attributes:
        role: the kind of process.
        id: its number within the role: the worker id, or the number of the reactor.
        incarnation: the number of this process; no other process of the server has the same.
        popen: the process as `subprocess` has it.
        pidfd: a descriptor that becomes readable when the process ends.
        turns: counts the turns of its loop.
        leads_group: whether it leads a process group, or will as soon as it runs.
        started: when it was started, in monotonic seconds.
        connected: whether it has said hello on the control socket, so that it can be told something.
        known_to: the incarnations of the masters that were told of it.
        taken_by: the incarnations of the masters that have taken its hello.
        ready_at: when it became ready, in monotonic seconds; None before that.
        served: whether it has finished an event.
        standby: whether it is a successor that waits until the others of its rollout are ready.
        retiring: whether it was replaced, or its worker id is no longer wanted.
        age_factor: `max_age` is multiplied by it, so that workers do not all become old at the same time.
        recycle_for: why it has asked to be replaced, as it is counted and in words; None if it has not.
        not_replaced_before: when the next try to replace it may begin, in monotonic seconds; 0 if none has failed.
        killed: why we have killed it, "" if we have not.
        sent: the signals that we have killed it with.
        unheard_s: for how many seconds its loop has turned without a master that took its hello.
        next_notice_s: how many seconds after its start the log next says what it is waiting for.
        debugged: whether a debugger traces it, so that it may take any time.
        liveness: what is known of its turns.
    """

    role: Role
    id: int
    incarnation: int
    popen: subprocess.Popen[bytes]
    pidfd: int
    turns: TurnCounter
    leads_group: bool = False
    started: float = field(default_factory=time.monotonic)
    connected: bool = False
    known_to: set[int] = field(default_factory=set)
    taken_by: set[int] = field(default_factory=set)
    ready_at: float | None = None
    served: bool = False
    standby: bool = False
    retiring: bool = False
    age_factor: float = field(default_factory=lambda: random.uniform(0.9, 1.1))
    recycle_for: tuple[str, str] | None = None
    not_replaced_before: float = 0.0
    killed: str = ""
    sent: set[int] = field(default_factory=set)
    unheard_s: float = 0.0
    next_notice_s: float = FIRST_NOTICE_S
    debugged: bool = False
    liveness: Liveness = field(init=False)
    _failed_successors: int = 0

    def __post_init__(self) -> None:
        self.liveness = Liveness(self.pid, self.turns, self.started)

    def __str__(self) -> str:
        return f"{self.role.name} {self.id} (pid {self.pid})"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def identity(self) -> bytes:
        """Its name on the control socket."""
        return f"{self.role.name}-{self.incarnation}".encode()

    @property
    def died_early(self) -> bool:
        """Whether it ended without having served, before or soon after it was ready: a new one will do no better."""
        return not self.served and (self.ready_at is None or time.monotonic() - self.ready_at < EARLY_DEATH_S)

    def replacing_failed(self) -> None:
        """Note that a successor has failed: the next is started later each time."""
        self._failed_successors += 1
        self.not_replaced_before = time.monotonic() + backoff(self._failed_successors)

    def kill(self, why: str) -> None:
        """Kill it; the log gives the reason of the first kill."""
        self._kill_with(signal.SIGKILL, why)

    def abort(self, why: str) -> None:
        """Have it write the stacks of its threads to stderr and end: faulthandler does that at SIGABRT."""
        self._kill_with(signal.SIGABRT, why)

    def _kill_with(self, number: signal.Signals, why: str) -> None:
        """Send it a deadly signal, unless it has ended by itself already."""
        if not self.has_ended():
            self.killed = self.killed or why
            self.sent.add(number)
            self._send(number)

    def has_ended(self) -> bool:
        """Tell whether it has ended, even if the loop has not noticed yet."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def _send(self, number: signal.Signals) -> None:
        """Send it a signal. Popen's own method would reap a process that has ended, too early for `Orphans`."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass

    def ended_by_us(self, status: int) -> bool:
        """Tell whether it ended because we have killed it; `status` is what `wait` returned."""
        return -status in self.sent

    def describe_end(self, status: int) -> str:
        """Return how it ended, and why if we have ended it."""
        if self.ended_by_us(status):
            return f"was ended by zwoole with {exit_name(status)}: {self.killed}"
        return describe_exit(status)

    def wait(self) -> int:
        """Wait until it has ended, without reaping it; return the exit code, or the signal as a negative number."""
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # the app's code in this process has reaped it: how it ended is unknown
            return 0
        assert ended is not None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def reap(self) -> None:
        """Reap it after its end: from now on its process id may be given to another process."""
        os.close(self.pidfd)
        self.turns.close()
        self.popen.wait()


def describe_exit(status: int) -> str:
    """Return how a process ended by itself, with the signal's name and a hint."""
    if status >= 0:
        return f"exited with code {status}"
    hint = ": out of memory?" if -status == signal.SIGKILL else ""
    return f"was ended by {exit_name(status)} ({-status}){hint}"


def ended_by_signal_for_supervisor(status: int) -> bool:
    """Tell whether a process ended by a signal that workers ignore until Python restores its default at its end."""
    return -status in signals.SUPERVISOR_SIGNALS


def exit_name(status: int) -> str:
    """Return how a process ended in a word or two: the signal's name, or "exit 3"."""
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return "an unknown signal"


def backoff(failures: int) -> float:
    """Return how many seconds to wait before the next try, after a number of early deaths in a row."""
    doublings = min(failures - 1, 16)  # after a night of failures 2 to their power would be too large for a float
    return 0.0 if failures == 0 else min(FIRST_BACKOFF_S * 2**doublings, MAX_BACKOFF_S)
