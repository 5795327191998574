"""The run directory: where it is, whose it is, and which of them belong to servers that live."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from zwoole.shared import forks
from zwoole.shared.errors import StartError
from zwoole.shared.rundir import LOCK, MAX_IPC_PATH

LONGEST_NAME = "/w1234567890.m1234567890"  # of an endpoint, to see early whether paths will fit


def home() -> Path:
    """Return the folder that holds this user's run directories, unless told otherwise."""
    return Path(tempfile.gettempdir(), f"zwoole-{os.getuid()}")


def choose(given: str | None, port: int, target: str) -> Path:
    """Return the run directory for a server.

    Args:
        given: the user's wish, or None.
        port: the port it listens on.
        target: the app's script or module.
    """
    if given:
        return Path(given).absolute()
    if runtime := os.environ.get("RUNTIME_DIRECTORY"):
        return Path(runtime.split(":")[0])
    digest = hashlib.sha256(str(Path(target).absolute()).encode()).hexdigest()[:8]
    name = f"{port}-{digest}" if port else f"{port}-{digest}-{os.getpid()}"
    return home() / name


class RunDirectory:
    """A run directory that this process holds.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        """Make the directory where it is missing, check that it is ours alone, and take its lock.

        Raises:
            StartError: it is somebody else's, open to others, in use, holds other things, or its path is too long.
        """
        self.path = path
        if len(f"{path}{LONGEST_NAME}".encode()) > MAX_IPC_PATH:
            raise StartError(f"the run directory's path is too long for Unix sockets: {path}; give a shorter --run-dir")
        if path.parent == home():
            make_private(path.parent)
        make_private(path)
        check_ours(path)
        self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not try_lock(self._lock):
            os.close(self._lock)
            raise StartError(f"a server is running in {path} already: `zwoole stop --run-dir {path}` stops it")
        if not is_same_file(self._lock, path / LOCK):  # a server that was ending removed it under our hands
            os.close(self._lock)
            raise StartError(f"a server was just ending in {path}: start again")
        for left in path.iterdir():
            if left.name != LOCK:
                left.unlink()
        forks.in_child(self._let_go)

    def remove(self) -> None:
        """Remove the directory and let go of the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        forks.forget(self._let_go)
        self._let_go()

    def _let_go(self) -> None:
        """Close the lock's file; in a forked child too, which must not hold the lock when the server has ended."""
        os.close(self._lock)


def running() -> list[Path]:
    """Return the run directories, among those in `home`, whose servers live."""
    try:
        found = sorted(home().iterdir())
    except OSError:
        return []
    return [path for path in found if is_running(path)]


def is_running(path: Path) -> bool:
    """Tell whether a server holds this run directory: by its lock, which cannot outlive it."""
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not try_lock(lock)
    finally:
        os.close(lock)


def try_lock(descriptor: int) -> bool:
    """Take the lock on an open file; false where another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_same_file(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def check_ours(path: Path) -> None:
    """Check that what lies in the directory, and would be removed, is a server's.

    Raises:
        StartError: it holds something, but no lock file or a folder.
    """
    found = list(path.iterdir())
    if found and (path / LOCK not in found or any(entry.is_dir() for entry in found)):
        raise StartError(f"{path} is no run directory but holds something else: give an empty folder or a new one")


def make_private(path: Path) -> None:
    """Make a folder that only we may enter, or check that the one that is there is so.

    Raises:
        StartError: it is not, or cannot be made.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise StartError(f"cannot make the run directory {path}: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise StartError(f"the run directory {path} is not a directory")
    if status.st_uid != os.getuid():
        raise StartError(f"the run directory {path} belongs to another user (uid {status.st_uid})")
    if status.st_mode & 0o077:
        raise StartError(f"the run directory {path} is open to others: chmod 700 {path}")
