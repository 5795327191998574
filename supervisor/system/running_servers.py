"""The running servers of this user: what each serves and where, and which of them a command means.

A server whose run directory is not in the usual folder leaves a link to it there. So a command without options knows
all servers, and does not act on one only because it is in the usual folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zwoole.shared.errors import StartError
from zwoole.shared.process import plan as plans
from zwoole.shared.process.log import get_logger
from zwoole.supervisor.system.run_directory import homes, is_running, make_private, running

LINK = "at-"  # what the names of links begin with

log = get_logger("supervisor")


@dataclass(frozen=True)
class Running:
    """A running server.

    Attributes:
        run_dir: its run directory.
        target: the app's script or module, "" while the server starts.
        listening: "host:port" of each address it listens on.
    """

    run_dir: Path
    target: str
    listening: list[str]

    def __str__(self) -> str:
        addresses = ", ".join(self.listening) or "no port yet"
        return f"{self.target or 'a server that starts'} on {addresses}, run directory {self.run_dir}"

    def listens_on(self, port: int) -> bool:
        """Tell whether it listens on a port, on any address."""
        return any(address.rpartition(":")[2] == str(port) for address in self.listening)


def find(run_dir: str | None, port: int | None = None) -> Running:
    """Return the server that is meant.

    Args:
        run_dir: its run directory, or None.
        port: a port that it listens on, or None.

    Raises:
        StartError: there is none, or several match.
    """
    if run_dir is not None:
        path = Path(run_dir)  # stays relative: the current folder may be gone
        if not is_running(path):
            if run_dir.isascii() and run_dir.isdigit():
                raise StartError(
                    f"no server is running in a folder {run_dir}; if that is a port, write port={run_dir}, or --port"
                    f" {run_dir} for a command"
                )
            raise StartError(f"no server is running in {run_dir}")
        try:
            found = [read(path.absolute())]
        except FileNotFoundError:
            raise StartError(
                f"the current folder no longer exists, so {run_dir} has no meaning: give an absolute path"
            ) from None
    else:
        found = [read(path) for path in all_of_them()]
        if not found:
            raise StartError(
                f"no server is running (looked in {', '.join(map(str, homes()))}; another place needs --run-dir)"
            )
    meant = [server for server in found if port is None or server.listens_on(port)]
    if not meant:
        raise StartError(f"no server listens on port {port}; running:{listed(found)}")
    if len(meant) > 1:
        raise StartError(f"several servers are running; say which, with --run-dir or --port:{listed(meant)}")
    return meant[0]


def listed(servers: list[Running]) -> str:
    """Return a line for each server."""
    return "".join(
        f"\n  {server.target} on {', '.join(server.listening)}: --run-dir {server.run_dir}" for server in servers
    )


def all_of_them() -> list[Path]:
    """Return the run directories of this user's servers, including those that a link leads to."""
    found: dict[Path, None] = {}
    for path in running():
        try:
            found[path.readlink()] = None
        except OSError:  # it is not a link, or was removed a moment ago
            found[path] = None
    return list(found)


def read(run_dir: Path) -> Running:
    """Return what the server in a run directory serves, and where."""
    target, listening = plans.describe(run_dir)
    return Running(run_dir, target, listening)


@contextlib.contextmanager
def announced(run_dir: Path) -> Iterator[None]:
    """While the block runs, have commands find a server whose run directory is not in the usual folder."""
    link = None if run_dir.parent in homes() else make_link(run_dir)
    try:
        yield
    finally:
        if link is not None:
            with contextlib.suppress(OSError):
                link.unlink(missing_ok=True)


def make_link(run_dir: Path) -> Path | None:
    """Make a link to a run directory in the usual folder, and remove links there whose servers were killed.

    Returns:
        The link; None if it cannot be made, so that commands need --run-dir.
    """
    name = LINK + hashlib.sha256(os.fsencode(run_dir)).hexdigest()[:16]
    for usual in homes():
        try:
            make_private(usual)
            for left in usual.glob(f"{LINK}*"):
                if left.name == name or not is_running(left):
                    left.unlink(missing_ok=True)
            (usual / name).symlink_to(run_dir)
        except (OSError, StartError) as error:
            log.debug("a link to the run directory cannot be made: %s", error)
        else:
            return usual / name
    return None
