"""A real server for a test: its processes, what they write, and the certainty that nothing of it is left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from websockets.sync.client import ClientConnection, connect

from tests.process.waiting import PATIENCE_S, wait_for
from zwoole import control_client
from zwoole.shared.errors import ZwooleError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ZWOOLE = Path(sys.executable).with_name("zwoole")


class ServerProcess:
    """One server, from its start until nothing of it is left.

    Attributes:
        folder: its own folder, short enough for the paths of Unix sockets; the app's current folder.
        run_dir: its run directory.
        process: the supervisor.
    """

    def __init__(self, app: str | Path, *options: str, command: Sequence[str] = (), **settings: Any) -> None:
        """Prepare to serve an app with `zwoole run` on a free port.

        Args:
            app: its source, or the path of a script.
            options: further options of `zwoole run`.
            command: what to run in the place of `zwoole run APP`; it gets no options.
            settings: given by --set; `workers` is 1 unless it says otherwise.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="zw-", dir="/tmp"))
        self.run_dir = self.folder / "run"
        self.stdout = self.folder / "stdout"
        self.stderr = self.folder / "stderr"
        self.app = app if isinstance(app, Path) else self.write("app.py", app)
        self.workers = int(settings.pop("workers", 1))
        self.reactors = int(settings.get("reactor_num", 1))
        set_options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        self.command = list(command) or [
            *(str(ZWOOLE), "run", str(self.app), "--host", "127.0.0.1", "--port", "0"),
            *("--workers", str(self.workers), "--run-dir", str(self.run_dir), *set_options, *options),
        ]
        self.process: subprocess.Popen[bytes]
        self._family: dict[int, psutil.Process] = {}

    # Its life.

    def start(self, environment: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL) -> ServerProcess:
        """Start it, in a session of its own as a terminal would."""
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                self.command,
                stdin=stdin,
                stdout=out,
                stderr=err,
                cwd=self.folder,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self.folder), **(environment or {})},
            )
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

    def is_ready(self) -> bool:
        """Tell whether the masters and all workers serve."""
        try:
            status = self.status()
        except ZwooleError:
            return False
        ready = [process["role"] for process in status["processes"] if process["ready"]]
        return (ready.count("worker"), ready.count("master")) == (self.workers, self.reactors)

    def send_signal(self, number: signal.Signals) -> None:
        """Send the supervisor a signal; note its children first, to see that none outlives it."""
        self.family()
        self.process.send_signal(number)

    def wait(self, within: float = PATIENCE_S) -> int:
        """Wait for the supervisor's end and return its exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server has not ended within {within:g} s; stderr below") from None

    def stop(self, number: signal.Signals = signal.SIGTERM, within: float = PATIENCE_S) -> int:
        """Stop it, see that nothing is left, and return the exit code."""
        self.send_signal(number)
        code = self.wait(within)
        self.assert_nothing_left()
        return code

    def assert_nothing_left(self, within: float = 1.0) -> None:
        """Assert that every process ever seen has ended, and that the run directory is gone."""
        wait_for(lambda: not self.alive(), "its processes to end", within)
        wait_for(lambda: not self.run_dir.exists(), "its run directory to be removed", within)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Stop it where it still runs, by force where the test has failed anyway."""
        try:
            if hasattr(self, "process") and self.process.poll() is None and kind is None:
                assert self.stop() == 0, self.log()
        finally:
            self._kill()
            print(self.log(), file=sys.stderr)  # pytest shows it where the test has failed
            shutil.rmtree(self.folder, ignore_errors=True)

    def _kill(self) -> None:
        if not hasattr(self, "process"):
            return
        left = [*self.family(), self.process] if self.process.poll() is None else self.alive()
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        self.process.wait()

    # Its processes.

    def family(self) -> list[psutil.Process]:
        """Return all descendants of the supervisor that were ever seen."""
        try:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self._family[child.pid] = child
        except psutil.NoSuchProcess:
            pass
        return list(self._family.values())

    def alive(self) -> list[psutil.Process]:
        """Return those of them that live."""
        return [child for child in self.family() if is_alive(child)]

    def status(self) -> dict[str, Any]:
        """Return what `zwoole status --json` shows, and note the processes that there are now.

        Raises:
            ZwooleError: the server does not answer.
        """
        result = self.report()
        self.family()
        return result

    def report(self) -> dict[str, Any]:
        """Return the same, and look for no processes, which costs more the more the machine has.

        Raises:
            ZwooleError: the server does not answer.
        """
        result: dict[str, Any] = control_client.request(control_client.find(str(self.run_dir)), "status")
        return result

    def pids(self, role: str) -> list[int]:
        """Return the process ids of its masters or workers, by index."""
        processes = sorted(self.status()["processes"], key=lambda process: process["index"])
        return [process["pid"] for process in processes if process["role"] == role]

    # What it writes.

    def lines(self) -> list[str]:
        """Return what the app has printed."""
        return self.stdout.read_text().splitlines()

    def log(self) -> str:
        """Return what was written to stderr."""
        return self.stderr.read_text() if self.stderr.exists() else ""

    def wait_line(self, line: str, within: float = PATIENCE_S) -> None:
        """Wait until the app has printed a line."""
        wait_for(lambda: line in self.lines(), f"the line {line!r}", within)

    def wait_log(self, text: str, within: float = PATIENCE_S) -> str:
        """Wait until stderr has `text`, and return all of it."""
        wait_for(lambda: text in self.log() or self.process.poll() is not None, f"{text!r} on stderr", within)
        log = self.log()
        assert text in log, f"the server ended with code {self.process.returncode}; stderr:\n{log}"
        return log

    def write(self, name: str, text: str) -> Path:
        """Write a file into its folder."""
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path

    # Its clients.

    @property
    def port(self) -> int:
        """The port that it listens on."""
        found = re.search(r"listening on ws://[^:]+:(\d+)", self.wait_log("listening on "))
        assert found is not None
        return int(found[1])

    def url(self, path: str = "/") -> str:
        """Return the URL of a path."""
        return f"ws://127.0.0.1:{self.port}{path}"

    def connect(self, path: str = "/", **options: Any) -> ClientConnection:
        """Return a client of the `websockets` library."""
        return connect(self.url(path), close_timeout=2, compression=None, **options)

    @contextmanager
    def connect_later(self, path: str = "/") -> Iterator[Future[ClientConnection]]:
        """Connect in a thread, and give the client that comes of it."""
        with ThreadPoolExecutor(1) as executor:
            yield executor.submit(self.connect, path)


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs: neither gone, nor waiting to be reaped."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
