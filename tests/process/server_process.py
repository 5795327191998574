"""A real server for a test. It adds to `zwoole.testing` what only zwoole's own tests need: apps as text, other
commands, signals, failing starts and ends, clients.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.process.waiting import PATIENCE_S, wait_for
from zwoole import control_client
from zwoole.bench.compare.peer_process import claim_port
from zwoole.supervisor.system import running_servers
from zwoole.testing import Serving
from zwoole.testing import is_alive as is_alive

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_claims: list[tuple[int, socket.socket]] = []
ZWOOLE = Path(sys.executable).with_name("zwoole")


class ServerProcess(Serving):
    """One server. The `with` statement does not start it but makes sure that it ends."""

    def __init__(self, app: str | Path, *options: str, command: Sequence[str] = (), **settings: Any) -> None:
        """Prepare to serve an app with `zwoole run` on a free port.

        Args:
            app: its source, or the path of a script.
            options: additional options of `zwoole run`.
            command: run this instead of `zwoole run APP`, without options.
            settings: passed with --set; `workers` is 1 by default.
        """
        super().__init__("app.py")
        self.app = app if isinstance(app, Path) else self.write("app.py", app)
        self.workers = int(settings.pop("workers", 1))
        self.reactors = int(settings.get("reactor_num", 1))
        set_options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        self.command = list(command) or [
            *(str(ZWOOLE), "run", str(self.app), "--host", "127.0.0.1", "--port", "0"),
            *("--workers", str(self.workers), "--run-dir", str(self.run_dir), *set_options, *options),
        ]

    # Start and end.

    def __enter__(self) -> ServerProcess:
        return self

    def start(self, environment: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL) -> ServerProcess:
        """Start it in its own folder."""
        self.launch(self.folder, {**os.environ, "TMPDIR": str(self.folder), **(environment or {})}, stdin)
        return self

    def serve(self) -> ServerProcess:
        """Start it and wait until every worker serves."""
        self.start()
        self.wait_log("listening on ")
        self.wait_ready()
        return self

    def wait_ready(self, within: float = PATIENCE_S) -> None:
        """Wait until the masters and all workers serve."""
        wait_for(self.is_ready, "all processes to be ready", within)

    def wait_acknowledged(self) -> None:
        """Wait until the masters know that all events have finished: a worker that is killed now costs no
        connection.
        """

        def are_finished() -> bool:
            masters = self.status()["masters"]  # those that answered
            workers = [worker for master in masters for worker in master["workers"]]
            return len(masters) == self.reactors and not any(worker["outstanding"] for worker in workers)

        wait_for(are_finished, "all events to be acknowledged")

    def is_ready(self) -> bool:
        """Return whether all masters and workers serve."""
        if not super().is_ready():
            return False
        ready = [process["role"] for process in self.status()["processes"] if process["ready"]]
        return (ready.count("worker"), ready.count("master")) == (self.workers, self.reactors)

    def send_signal(self, number: signal.Signals) -> None:
        """Send the supervisor a signal; record its children first, to check that none outlives it."""
        self.family()
        self.process.send_signal(number)

    def wait(self, within: float = PATIENCE_S) -> int:
        """Wait for the supervisor's end and return its exit code."""
        return self.wait_for_end(within)

    def stop(self, number: signal.Signals = signal.SIGTERM, within: float = PATIENCE_S) -> int:
        """Stop it, check that nothing is left, and return the exit code."""
        self.send_signal(number)
        code = self.wait(within)
        self.assert_nothing_left()
        return code

    def finish(self) -> None:
        """Stop it if the test has not done so."""
        if hasattr(self, "process") and self.process.poll() is None:
            super().finish()
        print(self.log(), file=sys.stderr)  # pytest shows it if the test fails

    def report(self) -> dict[str, Any]:
        """Return what `status` does, without looking for processes, which is slow on a machine with many.

        Raises:
            ZwooleError: the server does not answer.
        """
        run_dir = running_servers.find(str(self.run_dir)).run_dir
        result: dict[str, Any] = control_client.request(run_dir, "status", timeout_s=PATIENCE_S)
        return result

    # Output.

    def lines(self) -> list[str]:
        """Return what the app has printed."""
        return self.output().splitlines()

    def wait_line(self, line: str, within: float = PATIENCE_S) -> None:
        """Wait until the app has printed a line."""
        wait_for(lambda: line in self.lines(), f"the line {line!r}", within)

    def wait_log(self, text: str, within: float = PATIENCE_S) -> str:
        """Wait until stderr contains `text`, and return all of it."""
        wait_for(lambda: text in self.log() or self.process.poll() is not None, f"{text!r} on stderr", within)
        log = self.log()
        assert text in log, f"the server ended with code {self.process.returncode}; stderr:\n{log}"
        return log

    def write(self, name: str, text: str) -> Path:
        """Write a file into its folder."""
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path

    # Clients.

    @property
    def port(self) -> int:
        """The port that it listens on, even if its supervisor does not answer."""
        found = re.search(r"listening on ws://[^:]+:(\d+)", self.wait_log("listening on "))
        assert found is not None
        return int(found[1])

    def connect(self, path: str = "/", **options: Any) -> ClientConnection:
        """Return a client of the `websockets` library."""
        patience = {"open_timeout": PATIENCE_S, "close_timeout": PATIENCE_S}
        return connect(self.url(path), compression=None, **{**patience, **options})

    @contextmanager
    def connect_later(self, path: str = "/") -> Iterator[Future[ClientConnection]]:
        """Connect in a thread, and yield the resulting client."""
        with ThreadPoolExecutor(1) as executor:
            yield executor.submit(self.connect, path)


def free_ports(count: int) -> list[int]:
    """Return ports that only servers of this test will listen on, and that no client is assigned."""
    claims = [claim_port() for _ in range(count)]
    _claims.extend(claims)  # until this process ends
    return [port for port, _ in claims]
