"""The names of the files in the run directory, and the operations on them that several processes need."""

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
MOST_FAILURES = 16  # tracebacks that are recognised; some apps fail with another text each time

MAX_IPC_PATH = 107  # the size of sun_path in a Unix socket's address, without the zero at its end


def control_address(run_dir: Path) -> str:
    """Return the address of the supervisor's control socket."""
    return f"ipc://{run_dir}/{CONTROL}"


def endpoint(run_dir: Path, incarnation: int, master: int) -> str:
    """Return the ZeroMQ address of the link between a worker incarnation and a master incarnation."""
    return f"ipc://{endpoint_path(run_dir, incarnation, master)}"


def endpoint_path(run_dir: Path, incarnation: int, master: int) -> Path:
    """Return the path of the Unix socket of that link."""
    return run_dir / f"w{incarnation}.m{master}"


def progress_path(run_dir: Path, incarnation: int, master: int) -> Path:
    """Return the path of the progress map between a worker incarnation and a master incarnation."""
    return run_dir / f"w{incarnation}.m{master}.progress"


def snapshot_path(run_dir: Path, role: str, incarnation: int) -> Path:
    """Return the path of a process's snapshot; the supervisor is incarnation 0."""
    return run_dir / f"{role}.{incarnation}.stats"


def open_lock(path: Path, flags: int = 0, mode: int = 0o600) -> int:
    """Open a lock file for reading and writing. Never blocks, not even if the path is a named pipe.

    Args:
        path: the lock file.
        flags: additional flags of open(2), such as O_CREAT.
        mode: the permissions of a file that is created.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | flags, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def is_first_failure(run_dir: Path, traceback: str) -> bool:
    """Record that a worker failed to boot. Return whether its traceback is new since `forget_failures`; also True if it
    cannot be recorded.
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
    except OSError:  # the directory is gone or the disk is full
        pass
    return True


def forget_failures(run_dir: Path) -> None:
    """Forget the recorded tracebacks, so that the next one counts as new."""
    remove_all(run_dir, f"{FAILURE}*")


def try_lock(descriptor: int) -> bool:
    """Take the lock on an open file; return False if another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove(path: Path) -> None:
    """Remove a file of the run directory. Ignores all errors: the file or directory may be gone, or the file system
    read-only.
    """
    with contextlib.suppress(OSError):
        path.unlink()


def remove_all(run_dir: Path, pattern: str) -> None:
    """Remove the files of the run directory whose names match the pattern, ignoring errors as `remove` does."""
    with contextlib.suppress(OSError):
        for path in list(run_dir.glob(pattern)):
            remove(path)


def remove_abandoned(run_dir: Path) -> None:
    """Remove the run directory of a supervisor that is gone, unless another server has taken it over.

    Live workers recreate their files if these disappear, so the directory is renamed before it is removed.
    """
    try:
        lock = open_lock(run_dir / LOCK)
    except OSError:  # it is already gone
        return
    try:
        # Without the lock, or with another lock file in the directory: a new server is using it.
        if try_lock(lock) and os.path.samestat(os.fstat(lock), (run_dir / LOCK).stat()):
            shutil.rmtree(_out_of_the_way(run_dir), ignore_errors=True)
    except OSError:  # this file system has no locks, or another master was faster
        pass
    finally:
        os.close(lock)


def _out_of_the_way(run_dir: Path) -> Path:
    """Rename the run directory and return its new path; the old one if it cannot be renamed, such as a mount point."""
    try:
        return run_dir.rename(run_dir.with_name(f"{run_dir.name}.{os.getpid()}"))
    except OSError:
        return run_dir
