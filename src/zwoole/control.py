"""`Control`: commands to a running server from Python, through the same socket as the zwoole command."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, TypedDict

from zwoole import control_client
from zwoole.control_client import ControlFailed
from zwoole.shared.errors import StartError
from zwoole.supervisor.core.exit_codes import EXIT_FORCED
from zwoole.supervisor.system import running_servers
from zwoole.supervisor.system.run_directory import NO_END, End, exit_code

RELOAD_WAIT_S = 120.0
STOP_WAIT_S = 60.0
STOPPED = ("0", "")  # of `End.code`
KICK_CODE = 1008
LISTED = 1000  # how many connections of each master are listed by default


class ConnectionInfo(TypedDict):
    """One client's connection, as `connections` lists it."""

    fd: int
    address: str
    path: str
    age_s: float
    state: str
    queued_bytes: int
    outstanding: int
    worker: int | None


class ConnectionList(TypedDict):
    """The connections that are listed, and how many there are in total."""

    total: int
    connections: list[ConnectionInfo]


class Control:
    """Talks to the supervisor of a running server. All methods raise ControlFailed if the server has ended, or cannot
    do what was asked.

    Attributes:
        server: which server it is: its app, addresses, and run directory.
        run_dir: its run directory.
    """

    def __init__(self, run_dir: str | Path | None = None, *, port: int | None = None) -> None:
        """Find the server: by its run directory, by a port that it listens on, or without both the only running one.

        Args:
            run_dir: its run directory.
            port: a port that it listens on.

        Raises:
            ControlFailed: there is none, or there are several.
        """
        try:
            self.server = running_servers.find(None if run_dir is None else str(run_dir), port)
        except StartError as error:
            raise ControlFailed(str(error)) from None
        self.run_dir = self.server.run_dir

    def status(self) -> dict[str, Any]:
        """Return what `zwoole status --json` prints."""
        result: dict[str, Any] = self._ask("status")
        return result

    def reload(self) -> int:
        """Replace the workers by new ones that read the code again; return how many, after they have taken over."""
        return self._ask_number("workers", "reload", timeout_s=RELOAD_WAIT_S)

    def workers(self, number: int | None = None, *, by: int | None = None) -> int:
        """Change the number of workers, to 1 to 1024; return the new number.

        Args:
            number: how many in total.
            by: how many more, or fewer, instead of `number`.
        """
        fields = {name: value for name, value in (("to", number), ("by", by)) if value is not None}
        return self._ask_number("worker_num", "workers", **fields)

    def stop(self, drain: float = 0.0) -> int:
        """Stop the server gracefully, wait for its end, and return the process id that it had.

        Args:
            drain: over how many seconds the clients are sent away.

        Raises:
            ControlFailed: it has not ended, or not gracefully. `exit_code` is then its exit code, such as 4 if
                something did not finish in time and was killed.
        """
        with contextlib.closing(End(self.run_dir)) as end:
            pid = self._ask_number("pid", "stop", drain=drain)
            deadline = time.monotonic() + STOP_WAIT_S + drain
            while not end.has_come():
                if time.monotonic() > deadline:
                    raise ControlFailed(f"the server in {self.run_dir} has not ended after {STOP_WAIT_S:.0f} s")
                time.sleep(0.02)
            check_end(end.code())
        return pid

    def connections(self, limit: int = LISTED) -> ConnectionList:
        """Return the oldest connections, at most `limit` of each master."""
        result: ConnectionList = self._ask("connections", limit=limit)
        return result

    def kick(self, fd: int | None, code: int = KICK_CODE, reason: str = "") -> int:
        """Close one connection, or all for None; return how many were closed."""
        return self._ask_number("clients", "kick", fd=fd, code=code, reason=reason)

    def push(self, fd: int, message: str | bytes) -> bool:
        """Send a client a message, as text if it is a `str`; return whether its connection is open."""
        return bool(self._ask_number("clients", "push", fd=fd, data=message))

    def broadcast(self, message: str | bytes) -> int:
        """Send all clients a message; return how many clients."""
        return self._ask_number("clients", "push", fd=None, data=message)

    def _ask(self, what: str, **fields: Any) -> Any:
        return control_client.request(self.run_dir, what, **fields)

    def _ask_number(self, name: str, what: str, **fields: Any) -> int:
        """Send a request, and return one number of the answer."""
        result = self._ask(what, **fields)
        try:
            return int(result[name])
        except (KeyError, TypeError, ValueError):
            raise ControlFailed(
                f"the answer of the server in {self.run_dir} could not be understood: it has no {name}"
            ) from None


def check_end(code: str) -> None:
    """Check how a server has ended; see `End.code` for the argument.

    Raises:
        ControlFailed: it has not ended gracefully, or how it has ended is unknown.
    """
    if code in STOPPED:
        return
    if code == NO_END:
        raise ControlFailed("the server was killed, or failed, before it had stopped; its log may say why")
    number = exit_code(code)
    if number == EXIT_FORCED:
        raise ControlFailed(
            "the server stopped by force: what had not finished in time was killed; its log says what (exit code 4)",
            number,
        )
    if number:
        raise ControlFailed(f"the server ended with exit code {number}; its log says why", number)
    raise ControlFailed(
        "whether the server stopped gracefully is unknown: its lock file was removed or changed; see its log"
    )
