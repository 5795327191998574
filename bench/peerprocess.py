"""The servers of the comparison: what each needs, how it is started on a free port, watched, and stopped."""

import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
FOLDER = Path(__file__).parent / "peers"


class PeerError(Exception):
    """A peer that did not start, for a reason the message tells in one line."""


@dataclass(frozen=True)
class Peer:
    """A server of the comparison: the script in peers/ and what it needs."""

    name: str
    script: str
    modules: tuple[str, ...] = ()
    """Top-level modules that it imports."""
    packages: str = ""
    """What ``pip install`` has to be given for the modules."""
    program: str = ""

    def skip_reason(self) -> str:
        """Return why this peer cannot run here and what would help, or an empty string."""
        if any(importlib.util.find_spec(module) is None for module in self.modules):
            return f"not installed: {sys.executable} -m pip install {self.packages}"
        if self.program and not shutil.which(self.program):
            return f"there is no {self.program}"
        return ""


PEERS = (
    Peer("zwoole", "zwoole_echo.py"),
    Peer("websockets", "websockets_echo.py", ("websockets", "uvloop"), "websockets uvloop"),
    Peer("picows", "picows_echo.py", ("picows", "uvloop"), "picows uvloop"),
    Peer("C limit", "limit_echo.py", program="cc"),
)


class PeerProcess:
    """A running peer, as a context manager that stops it and all its processes in the end.

    ``port`` is where it listens; ``killed`` says afterwards whether it had to be killed.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.port = _free_port()
        self.killed = False

    def __enter__(self) -> "PeerProcess":
        """Start the peer and wait until its port accepts a connection.

        Raises:
            PeerError: it has ended before that or takes longer than START_TIMEOUT_S.
        """
        self._log: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, FOLDER / self._peer.script, str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is this program's, which then stops the peer in an orderly way
        )
        try:
            self._wait_until_listening()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the peer: TERM to the process that was started, and KILL to what is left after STOP_TIMEOUT_S."""
        self._stop()

    def processes(self) -> list[psutil.Process]:
        """Return the process that was started and all its descendants, without those that are gone."""
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """Return the CPU seconds that the processes of the peer have used so far."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def _wait_until_listening(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise PeerError(f"{self._peer.name} did not start: {self._last_words()}")
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise PeerError(f"{self._peer.name} did not listen within {START_TIMEOUT_S:g} s: {self._last_words()}")

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it has said nothing")

    def _stop(self) -> None:
        tree = self.processes()  # psutil tells these processes from later ones that have got the same pid
        self._process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=STOP_TIMEOUT_S)
        for process in alive:
            self.killed = True
            process.kill()
        psutil.wait_procs(alive, timeout=STOP_TIMEOUT_S)
        self._process.wait()
        self._log.close()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port
