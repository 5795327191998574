"""For tests of apps: a real server on a free port, of which nothing is left after the test.

with zwoole.testing.serve("app.py") as server:
    with websockets.sync.client.connect(server.url("/")) as client: ...
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil

from zwoole import control_client
from zwoole.shared.errors import ZwooleError
from zwoole.supervisor.system import running_servers
from zwoole.supervisor.system.run_directory import TEMPORARY, run_directory_fits, told_folder
from zwoole.workers.server import Server

Self = TypeVar("Self", bound="Serving")

# Generous, for a busy machine: what takes longer has gone wrong.
START_S = 60.0
STOP_S = 60.0
RELOAD_S = 60.0
ANSWER_S = 60.0
GONE_S = 10.0  # how long after the server's end its processes and files may still exist
POLL_S = 0.01

PREFIX = "zw-"
RUN = "run"
LONGEST_NAME = f"{PREFIX}12345678/{RUN}"  # of a run directory in a temporary folder


class ServerFailed(ZwooleError):
    """A server under test did not start, did not end well, or left something behind; the message has its log."""


def serve(app: str | Path, **settings: Any) -> Serving:
    """Return a context manager that serves an app on a free port of 127.0.0.1, in processes of its own.

    Args:
        app: the path of a script, or "module:attribute", relative to the current folder.
        settings: any settings except host and port; they override those in the app's file.

    Raises:
        TypeError: the app is something else. A Server object cannot be served: workers are processes of their own,
            which run or import the code that makes it.
        ServerFailed: no folder can be made for its files.
    """
    return Serving(app, **settings)


class Serving:
    """A server under test, from its start until nothing of it is left.

    Attributes:
        folder: the folder for its files.
        run_dir: its run directory.
        stdout: the file that the app prints to.
        stderr: the file with zwoole's log.
        command: the command that starts it.
        process: the supervisor.
    """

    def __init__(self, app: str | Path, **settings: Any) -> None:
        """Prepare to serve; see `serve`."""
        if isinstance(app, Server):
            raise TypeError(
                "serve() takes a script's path or 'module:attribute', not a Server: workers are processes of their own,"
                " which run or import the code that makes it"
            )
        if not isinstance(app, str | Path):
            raise TypeError(f"serve() takes a script's path or 'module:attribute', not {app!r}")
        self.folder = new_folder()
        self.run_dir = self.folder / RUN
        self.process: subprocess.Popen[bytes]
        self.stdout = self.folder / "stdout"
        self.stderr = self.folder / "stderr"
        options = [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]
        self.command: Sequence[str] = [
            *(sys.executable, "-m", "zwoole", "run", str(app), "--host", "127.0.0.1", "--port", "0"),
            *("--run-dir", str(self.run_dir), *options),
        ]
        self._family: dict[int, psutil.Process] = {}

    # Its life.

    def __enter__(self: Self) -> Self:
        """Start it and wait until every process serves.

        Raises:
            ServerFailed: one of them does not, or not in time.
        """
        try:
            self.launch()
            self.wait_until_ready(START_S)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Stop it. If the test has failed, kill it and print its log to stderr.

        Raises:
            ServerFailed: its exit code was not 0, or it left something behind.
        """
        try:
            if kind is None:
                self.finish()
            else:
                print(self.log(), file=sys.stderr)
        finally:
            self._remove()

    def finish(self) -> None:
        """Stop it if it runs, and check that it has ended well.

        Raises:
            ServerFailed: it has not.
        """
        self.family()
        if self.process.poll() is None:
            self.process.terminate()
        code = self.wait_for_end(STOP_S)
        if code != 0:
            raise self._failed(f"the server ended with code {code}")
        self.assert_nothing_left(GONE_S)

    def assert_nothing_left(self, within: float = GONE_S) -> None:
        """Check that every process that was ever seen has ended, and that the run directory is gone.

        Args:
            within: how many seconds that may take.

        Raises:
            ServerFailed: something is left.
        """
        if not wait(lambda: not self.alive(), within):
            raise self._failed(f"the server has ended and left processes: {self.alive()}")
        if not wait(lambda: not self.run_dir.exists(), within):
            raise self._failed(f"the server has ended and left its run directory: {list(self.run_dir.iterdir())}")

    def launch(
        self,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        """Start it in a session of its own, as a terminal would, and do not wait.

        Args:
            cwd: its current folder; None for that of this process.
            environment: its environment; None for that of this process.
            stdin: the descriptor of its standard input.
        """
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                self.command,
                stdin=stdin,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env=environment,
                start_new_session=True,
            )

    def wait_until_ready(self, within_s: float) -> None:
        """Wait until the masters and all workers serve.

        Raises:
            ServerFailed: it has ended, or they do not serve in time.
        """
        wait(lambda: self.process.poll() is not None or self.is_ready(), within_s)
        if self.process.poll() is not None:
            raise self._failed(f"the server did not start but ended with code {self.process.returncode}")
        if not self.is_ready():
            raise self._failed(f"the server was not ready within {within_s:g} s")

    def is_ready(self) -> bool:
        """Tell whether the masters and all workers serve."""
        try:
            status = self.status()
        except ZwooleError:
            return False
        ready = all(process["ready"] for process in status["processes"])
        return ready and status["state"] == "serving" and not status["missing"]

    def wait_for_end(self, within_s: float) -> int:
        """Wait for the supervisor's end and return its exit code.

        Raises:
            ServerFailed: it has not ended in time.
        """
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise self._failed(f"the server has not ended within {within_s:g} s") from None

    def reload(self) -> dict[str, Any]:
        """Replace all workers by new ones that read the code again, as `zwoole reload` does.

        Raises:
            ZwooleError: the new code does not boot, and the old workers go on.
        """
        result: dict[str, Any] = control_client.request(self.run_dir, "reload", timeout_s=RELOAD_S)
        self.family()
        return result

    # Its address and output.

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.status()["listening"][0].rpartition(":")[2])

    def url(self, path: str = "/") -> str:
        """Return the URL of a path, which may have a query."""
        return f"ws://127.0.0.1:{self.port}/{path.removeprefix('/')}"

    def log(self) -> str:
        """Return what was written to stderr: zwoole's log and the app's tracebacks."""
        return self.stderr.read_text() if self.stderr.exists() else ""

    def output(self) -> str:
        """Return what the app has printed."""
        return self.stdout.read_text()

    # Its processes.

    def status(self) -> dict[str, Any]:
        """Return what `zwoole status --json` prints.

        Raises:
            ZwooleError: the server does not answer.
        """
        run_dir = running_servers.find(str(self.run_dir)).run_dir
        result: dict[str, Any] = control_client.request(run_dir, "status", timeout_s=ANSWER_S)
        self.family()
        return result

    def pids(self, role: str = "worker") -> list[int]:
        """Return the process ids of its workers by worker id, or of its masters ("master")."""
        processes = sorted(self.status()["processes"], key=lambda process: process["id"])
        return [process["pid"] for process in processes if process["role"] == role]

    def family(self) -> list[psutil.Process]:
        """Return all descendants of the supervisor that were ever seen."""
        try:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self._family[child.pid] = child
        except psutil.NoSuchProcess:
            pass
        return list(self._family.values())

    def alive(self) -> list[psutil.Process]:
        """Return those of them that are still running."""
        return [child for child in self.family() if is_alive(child)]

    def _failed(self, why: str) -> ServerFailed:
        return ServerFailed(f"{why}; its log:\n{self.log()}")

    def _remove(self) -> None:
        """Kill what is left, and remove the folder."""
        if hasattr(self, "process"):
            left = self.alive()
            self.process.kill()
            for process in left:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    pass
            self.process.wait()
            wait(lambda: not self.alive(), GONE_S)
        shutil.rmtree(self.folder, ignore_errors=True)


def new_folder() -> Path:
    """Make a folder for a server's files: in `TMPDIR` if that is short enough for Unix sockets, else in `/tmp` or
    `/var/tmp`.

    Raises:
        ServerFailed: none can be made.
    """
    told = told_folder()
    reasons = []
    for place in (*([] if told is None else [told]), *TEMPORARY):
        try:
            if not run_directory_fits(place / LONGEST_NAME):
                reasons.append(f"{place}: the path is too long for Unix sockets")
                continue
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError as error:
            reasons.append(f"{place}: {error.strerror}")
    raise ServerFailed(
        f"no folder can be made for the server under test ({'; '.join(reasons)}); name a place with the variable TMPDIR"
    )


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs, and is not just waiting to be reaped."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait(condition: Callable[[], bool], within_s: float) -> bool:
    """Wait until a condition holds, and return whether it does."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
