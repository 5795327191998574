"""What a server's processes inherit from their environment, and what programs inherit that callbacks start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.process.conftest import Serve
from tests.process.server_process import ZWOOLE, ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for
from tests.supervisor.system.test_reaper import state

RUNS_PROGRAMS = """
    import subprocess
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        run = subprocess.run(frame.data, shell=True, close_fds=False, capture_output=True, text=True)
        server.push(frame.fd, run.stdout + run.stderr)

    server.start()
"""

OTHER_SERVER = """
import os
import signal
from zwoole import Server

server = Server(port=0)
server.on("message", lambda server, frame: None)

@server.on("start")
def on_start(server):
    print("a server of its own")
    os.kill(os.getpid(), signal.SIGTERM)

server.start()
"""


def run(server: ServerProcess, command: str) -> str:
    """Let a callback run a program, and return its output."""
    with server.connect() as client:
        client.send(command)
        return str(client.recv(PATIENCE_S))


def test_a_program_inherits_no_descriptor(serve: Serve) -> None:
    """Even if the callback does not close them."""
    server = serve(RUNS_PROGRAMS)
    listed = run(server, "ls -l /proc/self/fd").splitlines()[1:]
    assert sorted(line.split()[8] for line in listed) == ["0", "1", "2", "3"], listed  # 3 is the folder that ls reads
    assert listed[0].endswith("0 -> /dev/null")


def test_a_program_does_not_inherit_the_role(serve: Serve) -> None:
    server = serve(RUNS_PROGRAMS)
    server.write("other.py", OTHER_SERVER)
    assert run(server, f"{sys.executable} other.py 2>/dev/null; echo $?") == "a server of its own\n0\n"
    assert run(server, "env | grep -ci zwoole=") == "0\n"


def test_the_terminals_input_is_nobodys(serve: Serve) -> None:
    """A child that read it would take input from the shell, or be stopped."""
    read_end, write_end = os.pipe()
    with ServerProcess(RUNS_PROGRAMS) as server:
        server.start(stdin=read_end).wait_ready()
        for pid in (*server.pids("master"), *server.pids("worker")):
            assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")
    os.close(read_end)
    os.close(write_end)


def test_process_1_reaps_orphans() -> None:
    """A subreaper has the same duty towards orphans as process 1 of a container."""
    become = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    with ServerProcess(RUNS_PROGRAMS) as server:
        server.command = [sys.executable, "-c", become, str(ZWOOLE), *server.command[1:]]
        server.start().wait_ready()
        orphan = int(run(server, "sleep 0.1 >/dev/null 2>&1 & echo $!"))
        wait_for(lambda: state(orphan) == "gone", "the orphan to be reaped")
