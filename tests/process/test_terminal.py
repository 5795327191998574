"""A server that was started on a terminal, and is moved to the background there."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.process.server_process import ServerProcess
from tests.process.waiting import wait_for

APP = """
import subprocess
from zwoole import Server

server = Server()

def of_callback():
    with open("/dev/tty") as terminal:
        return terminal.readline()

def of_program():
    program = subprocess.run(["cat", "/dev/tty"], capture_output=True, text=True)
    return program.stdout + program.stderr

@server.on("message")
def on_message(server, frame):
    print("says", frame.data, flush=True)
    try:
        answer = {"program": of_program, "callback": of_callback}[frame.data]()
    except OSError as error:
        answer = error.strerror
    server.push(frame.fd, answer)

server.start()
"""
# A shell reduced to job control: it owns the terminal, starts the command as a foreground job, and takes the terminal
# back on request. It prints nothing itself.
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
    """The user's end of a terminal: `text` contains everything that was written to it."""

    def __init__(self) -> None:
        self._user, self.descriptor = pty.openpty()
        attributes = termios.tcgetattr(self.descriptor)
        attributes[3] |= termios.TOSTOP  # `stty tostop`: background jobs that write are stopped
        termios.tcsetattr(self.descriptor, termios.TCSANOW, attributes)
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def close(self) -> None:
        """Close this end."""
        os.close(self.descriptor)
        self._reader.join()
        os.close(self._user)

    def press(self, key: str) -> None:
        """Press a key."""
        os.write(self._user, key.encode())

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


@pytest.fixture
def shell(server: ServerProcess, terminal: Terminal) -> Iterator[subprocess.Popen[str]]:
    """The shell on whose terminal the server was started in the foreground."""
    command = [sys.executable, "-c", SHELL, str(terminal.descriptor), *server.command]
    shell = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[terminal.descriptor],
        start_new_session=True,
    )
    assert shell.stdout is not None
    server_pid = int(shell.stdout.readline())
    try:
        wait_for(lambda: "listening on " in terminal.text, "the server")
        yield shell
        if shell.poll() is None:
            os.kill(server_pid, signal.SIGTERM)
            shell.communicate(timeout=60)
        assert shell.returncode == 0
    finally:
        if shell.poll() is None:
            os.killpg(server_pid, signal.SIGKILL)
        shell.wait()


def connected(terminal: Terminal) -> ClientConnection:
    """Return a client of the server, whose port is read from the terminal."""
    found = re.search(r"listening on (ws://[^ \r]+)", terminal.text)
    assert found is not None
    return connect(found[1], compression=None, open_timeout=60, close_timeout=60)


def take_terminal(shell: subprocess.Popen[str]) -> None:
    """Move the server to the background."""
    assert shell.stdin is not None and shell.stdout is not None
    shell.stdin.write("\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == "taken\n"


def supervisor_of(shell: subprocess.Popen[str]) -> psutil.Process:
    (supervisor,) = psutil.Process(shell.pid).children()
    return supervisor


def test_a_job_in_the_background_that_may_not_write_goes_on_serving(
    terminal: Terminal, shell: subprocess.Popen[str]
) -> None:
    take_terminal(shell)
    with connected(terminal) as client:
        client.send("program")
        assert client.recv(60)
    wait_for(lambda: "says program" in terminal.text, "what the callback has printed")
    supervisor_of(shell).send_signal(signal.SIGHUP)
    wait_for(lambda: "reload: done" in terminal.text, "the reload")
    assert "workers: 2 ->" not in terminal.text


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("reader", ["callback", "program"])
def test_a_read_from_the_terminal_fails_and_stops_nothing(
    terminal: Terminal, shell: subprocess.Popen[str], reader: str, background: bool
) -> None:
    if background:
        take_terminal(shell)
    with connected(terminal) as client:
        for _ in range(2):
            client.send(reader)
            assert "Input/output error" in str(client.recv(60))


def test_a_key_of_the_terminal_ends_the_server_in_order(terminal: Terminal, shell: subprocess.Popen[str]) -> None:
    with connected(terminal) as client:
        client.send("program")
        assert client.recv(60)
        workers = [child for child in supervisor_of(shell).children() if "worker" in " ".join(child.cmdline())]
        terminal.press("\x03")
        with pytest.raises(ConnectionClosed):
            client.recv(60)
    shell.communicate(timeout=60)
    assert len(workers) == 2
    wait_for(lambda: not any(map(psutil.Process.is_running, workers)), "the workers to end")
    assert "Traceback" not in terminal.text and "KeyboardInterrupt" not in terminal.text
