"""A server of the comparison as a process: started on a free port, measured, and stopped."""

import os
import random
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from zwoole.bench.compare.peer import ECHO, NPM_FOLDER, Peer

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0

_PORTS = range(20000, 32768)
_PSS = re.compile(rb"^Pss: +(\d+) kB$", re.MULTILINE)  # see proc_pid_smaps(5)


class PeerError(Exception):
    """A server did not start; the message gives the reason in one line."""


class PeerProcess:
    """A running server, as a context manager that stops it and all its processes at the end.

    ``port`` is where it listens; ``killed`` tells afterwards whether it had to be killed.
    """

    def __init__(self, peer: Peer, mode: str = ECHO) -> None:
        self._peer = peer
        self._mode = mode
        self.port, self._claim = claim_port()
        self.killed = False

    def __enter__(self) -> "PeerProcess":
        """Start the server and wait until its port accepts a connection.

        Raises:
            PeerError: it ended before that, or took longer than START_TIMEOUT_S.
        """
        self._log: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._peer.command(self.port, self._mode),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "PEER_MODULES": str(NPM_FOLDER)},
            start_new_session=True,  # Ctrl-C reaches only this program, which then stops the server in order
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
        """Stop the server: SIGTERM to the started process, then SIGKILL to all that are left after STOP_TIMEOUT_S."""
        self._stop()

    def processes(self) -> list[psutil.Process]:
        """Return the started process and all its descendants that are alive."""
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """Return the CPU seconds that the server's processes have used so far."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def pss_bytes(self) -> int:
        """Return the memory of the server's processes; shared memory counts once (PSS)."""
        total = 0
        for process in self.processes():
            try:
                found = _PSS.search(Path(f"/proc/{process.pid}/smaps_rollup").read_bytes())
            except (FileNotFoundError, ProcessLookupError):
                continue
            total += int(found[1]) * 1024 if found else 0
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
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")

    def _stop(self) -> None:
        tree = self.processes()  # psutil distinguishes these processes from later ones with the same pid
        self._process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=STOP_TIMEOUT_S)
        for process in alive:
            self.killed = True
            process.kill()
        psutil.wait_procs(alive, timeout=STOP_TIMEOUT_S)
        self._process.wait()
        self._log.close()
        self._claim.close()


def claim_port() -> tuple[int, socket.socket]:
    """Return a free port, and a socket that reserves it from other callers, in all processes, until it is closed.

    The kernel assigns it to no client: it is below the range for those.
    """
    while True:
        port = random.choice(_PORTS)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0zwoole-port-{port}")
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
                sock.bind((HOST, port))
            return port, claim
        except OSError:
            claim.close()
