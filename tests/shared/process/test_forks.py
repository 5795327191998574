"""What a forked child gives up. Separate programs do the forking: a child of pytest would run its tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from zwoole.shared.errors import WrongProcess
from zwoole.shared.process import forks

HEAD = """
import os, signal, sys, threading, time
from zwoole.shared.process import forks, signals

def fork(child):
    pid = os.fork()
    if pid == 0:
        with forks.child_ends_here():
            child()
        os._exit(99)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def run(program: str) -> tuple[list[str], str]:
    """Run a program; return the lines that it prints, and its stderr."""
    done = subprocess.run([sys.executable, "-c", HEAD + program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), done.stderr


def test_a_process_that_is_none_of_a_server_forks_as_ever() -> None:
    lines, _ = run("fork(lambda: print(forks.forked, flush=True))")
    assert lines == ["False", "99"]


def test_calls_are_made_in_the_child_once_and_not_in_its_own_children() -> None:
    lines, _ = run("""
forks.in_child(lambda: print("first", flush=True))
second = lambda: print("second", flush=True)
forks.in_child(second)
fork(lambda: fork(lambda: print(forks.forked, flush=True)))
forks.forget(second)
fork(lambda: None)
""")
    assert lines == ["first", "second", "True", "0", "0", "first", "0"]


@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        ("lambda: None", 0, ""),
        ("sys.exit", 0, ""),
        ("lambda: sys.exit(7)", 7, ""),
        ("lambda: sys.exit(256 + 7)", 7, ""),
        ("lambda: sys.exit('why')", 1, "why\n"),
        ("lambda: 1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("lambda: os.kill(os.getpid(), signal.SIGINT)", 1, "KeyboardInterrupt\n"),
        ("sys.stdout.close", 0, ""),
    ],
)
def test_a_child_ends_with_the_code_of_its_end(ends: str, code: int, said: str) -> None:
    lines, stderr = run(f"forks.in_child(lambda: None)\nfork({ends})")
    assert lines == [str(code)]
    assert stderr.endswith(said)
    assert bool(stderr) == bool(said)


def test_the_childs_output_is_flushed_and_its_exit_functions_are_not_called() -> None:
    lines, _ = run("""
import atexit
atexit.register(print, "at the end of the parent")
forks.in_child(lambda: None)
fork(lambda: print("unflushed"))
""")
    assert lines == ["unflushed", "0", "at the end of the parent"]


def test_a_signal_to_a_new_child_finds_the_handlers_that_it_is_to_have() -> None:
    """The signal is sent while the fork is still in progress."""
    lines, _ = run("""
def restore():
    os.kill(os.getpid(), signal.SIGTERM)
    signals.restore()
signals.install(signal.SIGTERM, lambda *_: print("the parent's handler", flush=True))
forks.in_child(restore)
fork(signal.pause)
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
""")
    assert lines == ["-15", "set()"]


def test_commands_are_refused() -> None:
    forks.refuse_if_forked("push")  # this process is not a forked child
    with pytest.raises(WrongProcess, match=r"^push\(\) does not work in a process that a callback has forked"):
        forks.refuse("push", 1, "text", opcode=2)


def test_the_connections_below_a_folder_are_closed_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "running").mkdir()
    inside, outside = tmp_path / "run" / "socket", tmp_path / "running" / "socket"
    sockets = []
    for path in (inside, outside):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        sockets += [listening, client, listening.accept()[0]]
    sockets += [*socket.socketpair(), socket.create_server(("127.0.0.1", 0))]
    numbers = [each.fileno() for each in sockets]
    assert [inside.as_posix().encode() in forks.unix_names(number) for number in numbers] == [True] * 3 + [False] * 6
    copies = [os.dup(number) for number in numbers]
    program = f"""
import os
from pathlib import Path
from zwoole.shared.process import forks

forks.close_connections(Path({str(inside.parent)!r}))
print([os.path.exists(f"/proc/self/fd/{{number}}") for number in {copies}])
"""
    done = subprocess.run([sys.executable, "-c", program], pass_fds=copies, capture_output=True, text=True, check=True)
    assert done.stdout == f"{[False] * 3 + [True] * 6}\n"
    for copy in copies:
        os.close(copy)
    for each in sockets:
        each.close()
    assert forks.unix_names(numbers[0]) == []
