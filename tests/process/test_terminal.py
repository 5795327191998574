"""A server that was started on a terminal, and is moved to the background there."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from tests.process.server_process import ServerProcess
from tests.process.waiting import wait_for

APP = """
from zwoole import Server

server = Server()

@server.on("message")
def on_message(server, frame):
    print("says", frame.data, flush=True)
    server.push(frame.fd, frame.data)

server.start()
"""
# A shell, as far as job control goes: it has the terminal, starts the command as a job of the foreground, and takes the
# terminal back at a word. It says nothing itself.
SHELL = """
import fcntl, os, signal, subprocess, sys, termios
terminal, command = int(sys.argv[1]), sys.argv[2:]
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)

def in_the_foreground():
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)

job = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=in_the_foreground)
print(job.pid, flush=True)
sys.stdin.readline()
os.tcsetpgrp(terminal, os.getpgrp())
print("taken", flush=True)
sys.exit(job.wait())
"""


class Terminal:
    """The user's end of a terminal: everything that was written to it is in `text`."""

    def __init__(self) -> None:
        self._user, self.descriptor = pty.openpty()
        attributes = termios.tcgetattr(self.descriptor)
        attributes[3] |= termios.TOSTOP  # `stty tostop`: jobs in the background that write are stopped
        termios.tcsetattr(self.descriptor, termios.TCSANOW, attributes)
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def close(self) -> None:
        """Close it here, where it was the last that had it open."""
        os.close(self.descriptor)
        self._reader.join()
        os.close(self._user)

    def _read(self) -> None:
        with suppress(OSError):  # nobody has it open any more
            while data := os.read(self._user, 65536):
                self.text += data.decode()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with closing(Terminal()) as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(APP, workers=2) as prepared:
        yield prepared


def test_a_job_in_the_background_that_may_not_write_goes_on_serving(server: ServerProcess, terminal: Terminal) -> None:
    command = [sys.executable, "-c", SHELL, str(terminal.descriptor), *server.command]
    shell = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[terminal.descriptor],
        start_new_session=True,
    )
    assert shell.stdin is not None and shell.stdout is not None
    pid = int(shell.stdout.readline())
    try:
        wait_for(lambda: "listening on " in terminal.text, "the server")
        shell.stdin.write("\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == "taken\n"
        os.kill(pid, signal.SIGHUP)
        wait_for(lambda: "reload: done" in terminal.text, "the reload")
        assert "workers: 2 ->" not in terminal.text
        os.kill(pid, signal.SIGTERM)
        assert shell.wait() == 0
    finally:
        if shell.poll() is None:
            os.killpg(pid, signal.SIGKILL)
        shell.communicate()
