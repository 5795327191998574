"""Going into the background: the first process waits until its child serves, says so, and ends."""

from __future__ import annotations

import os
import select
import socket
import sys

from zwoole.shared.process.stderr import print_line
from zwoole.supervisor.system.notify import READY

MAX_STATE_BYTES = 4096


def detach(log_file: str) -> None:
    """Go on in a child process without a terminal. The first process ends here, when the child serves or has ended.

    Raises:
        SystemExit: in the first process, with 0 if the server serves, else with its exit code.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind("")  # the kernel gives it an abstract name
    name = listening.getsockname()
    first = str(os.getpid())
    pid = os.fork()
    if pid:
        raise SystemExit(wait(pid, listening, log_file))
    listening.close()
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if os.environ.get("LISTEN_PID") == first:  # the sockets of the service manager are this process's now
        os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["NOTIFY_SOCKET"] = "@" + name[1:].decode()


def wait(pid: int, listening: socket.socket, log_file: str) -> int:
    """Wait until a daemon serves or has ended; return the exit code for the process that has started it."""
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(listening, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if listening.fileno() in ready and READY.encode() in listening.recv(MAX_STATE_BYTES).split(b"\n"):
            print_line(f"serving in the background (pid {pid}), log in {log_file}")
            return 0
        if pidfd in ready:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            print_line(f"the server has not started (exit code {code}); {log_file} says why")
            return code if code > 0 else 1
