"""The names of what lies in the run directory, for whoever makes or opens it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from pathlib import Path

LOCK = "lock"
PLAN = "plan"
CONTROL = "control"
FAILURE = "failure."
MOST_FAILURES = 16  # tracebacks that are known again; one may have another text each time

MAX_IPC_PATH = 107  # sun_path of a Unix socket, less its end


def control_address(run_dir: Path) -> str:
    """Return the address of the supervisor's control socket."""
    return f"ipc://{run_dir}/{CONTROL}"


def endpoint(run_dir: Path, incarnation: int, master: int) -> str:
    """Return the address of the wire between a worker incarnation and a master incarnation."""
    return f"ipc://{endpoint_path(run_dir, incarnation, master)}"


def endpoint_path(run_dir: Path, incarnation: int, master: int) -> Path:
    """Return the Unix socket of that wire."""
    return run_dir / f"w{incarnation}.m{master}"


def progress_path(run_dir: Path, incarnation: int, master: int) -> Path:
    """Return the file of the progress map between a worker incarnation and a master incarnation."""
    return run_dir / f"w{incarnation}.m{master}.progress"


def snapshot_path(run_dir: Path, role: str, incarnation: int) -> Path:
    """Return the file of a process's snapshot; the supervisor is incarnation 0."""
    return run_dir / f"{role}.{incarnation}.stats"


def open_lock(path: Path, flags: int = 0, mode: int = 0o600) -> int:
    """Open the file of a lock to read and write, without ever waiting, as for the writer of a named pipe.

    Args:
        path: where it is.
        flags: more flags of open(2), such as O_CREAT.
        mode: the permissions of a file that is made.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | flags, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def is_first_failure(run_dir: Path, traceback: str) -> bool:
    """Note that a worker does not boot; tell whether none had that traceback since `forget_failures`, as far as that
    can be noted.
    """
    digest = hashlib.sha256(traceback.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    path = run_dir / f"{FAILURE}{digest}"
    try:
        if path.exists():
            return False
        if len(list(run_dir.glob(f"{FAILURE}*"))) < MOST_FAILURES:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    except OSError:  # the directory is gone, or full
        pass
    return True


def forget_failures(run_dir: Path) -> None:
    """Have the next traceback of a worker that does not boot be the first again."""
    remove_all(run_dir, f"{FAILURE}*")


def try_lock(descriptor: int) -> bool:
    """Take the lock on an open file; false where another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove(path: Path) -> None:
    """Remove a file of the run directory. It may be gone, or the directory, or this file system may be read-only."""
    with contextlib.suppress(OSError):
        path.unlink()


def remove_all(run_dir: Path, pattern: str) -> None:
    """Remove the files of the run directory whose names match; see `remove`."""
    with contextlib.suppress(OSError):
        for path in list(run_dir.glob(pattern)):
            remove(path)


def remove_abandoned(run_dir: Path) -> None:
    """Remove the run directory in the place of a supervisor that is gone, unless another has taken it over.

    Workers that live still make their files anew if those are gone, so the directory is taken out of their way first.
    """
    try:
        lock = open_lock(run_dir / LOCK)
    except OSError:  # it is gone already
        return
    try:
        # Else a server that was started meanwhile holds it, or has made another.
        if try_lock(lock) and os.path.samestat(os.fstat(lock), (run_dir / LOCK).stat()):
            shutil.rmtree(_out_of_the_way(run_dir), ignore_errors=True)
    except OSError:  # this file system has no locks, or another master was faster
        pass
    finally:
        os.close(lock)


def _out_of_the_way(run_dir: Path) -> Path:
    """Give the run directory another name, and return it; the same if that is not possible, as for a mount point."""
    try:
        return run_dir.rename(run_dir.with_name(f"{run_dir.name}.{os.getpid()}"))
    except OSError:
        return run_dir
