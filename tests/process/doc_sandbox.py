"""A sandbox in which the documentation's commands run unchanged without touching anything else."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from tests.process.server_process import EXAMPLES, ZWOOLE, free_ports
from tests.process.waiting import wait_for

PORTS = ("8080", "8085", "9000", "9090")  # the ports used in the pages
PATIENCE_S = 60.0


def listens(port: int) -> bool:
    """Return whether anything listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class DocSandbox:
    """A folder with the examples, free ports that replace the well-known ones, and servers.

    Attributes:
        folder: the folder in which commands run; `zwoole status` finds only servers that they start.
        ports: the replacement for each port that a page names.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="zw-", dir="/tmp"))  # short: the paths of Unix sockets are limited
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self._environment = {
            **os.environ,
            "TMPDIR": str(self.folder),
            "PATH": f"{ZWOOLE.parent}:{os.environ['PATH']}",
            "NO_PROXY": "*",
        }
        self._servers: list[subprocess.Popen[bytes]] = []
        for example in EXAMPLES.iterdir():
            self.write(f"examples/{example.name}", example.read_text())
        for app in ("app.py", "echo.py"):
            self.write(app, (EXAMPLES / "echo.py").read_text())
        (self.folder / "bench").symlink_to(EXAMPLES.parent / "bench")
        (self.folder / ".venv").symlink_to(sys.prefix)

    def here(self, text: str) -> str:
        """Return a text with the ports of this sandbox."""
        for known, port in self.ports.items():
            text = re.sub(rf"\b{known}\b", str(port), text)
        return text

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.here(text))

    def run(self, command: str) -> str:
        """Run a command that ends, and return its output; the test fails if the command does."""
        done = subprocess.run(
            self.here(command),
            shell=True,
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, command: str) -> None:
        """Run a command that serves, and wait until it does."""
        path = self.folder / f"log-{len(self._servers)}"
        arguments = shlex.split(self.here(command))
        with path.open("wb") as log:
            server = subprocess.Popen(arguments, cwd=self.folder, env=self._environment, stdout=log, stderr=log)
        self._servers.append(server)
        wait_for(lambda: "listening on ws://" in path.read_text() or server.poll() is not None, f"{command} to serve")
        assert server.poll() is None, path.read_text()

    def __enter__(self) -> DocSandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Stop the servers, also those in the background, and check their exit codes."""
        try:
            for run_dir in self.folder.glob("zwoole-*/*"):
                self.run(f"zwoole stop --run-dir {run_dir}")
            codes = [server.wait(PATIENCE_S) for server in self._servers]
            assert kind is not None or not any(codes), [log.read_text() for log in self.folder.glob("log-*")]
        finally:
            for server in self._servers:
                server.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
