"""The pid file: the supervisor's process id, for tools that need it. Its lock, not the number, shows that it lives."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from zwoole.shared.errors import StartError
from zwoole.shared.process import forks
from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import open_lock, try_lock

log = get_logger("supervisor")


class PidFile:
    """A pid file that this process holds."""

    def __init__(self, path: str) -> None:
        """Write it. A file that a dead server has left behind is taken over.

        Raises:
            StartError: a running server holds it, or it cannot be written.
        """
        self._path = Path(path).absolute()
        try:
            self._file = open_lock(self._path, os.O_CREAT, 0o644)
        except OSError as error:
            raise StartError(f"cannot write the pid file {path}: {error.strerror}") from None
        written = os.read(self._file, 32).decode("ascii", "replace").strip()
        if not try_lock(self._file):
            os.close(self._file)
            raise StartError(f"a server is running already (pid {written}, pid file {path})")
        if written:
            log.warning("the pid file %s is stale: process %s left it behind", path, written)
        forks.in_child(self._let_go)
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.remove()
            raise StartError(f"cannot write the pid file {path}: {error.strerror}") from None

    def remove(self) -> None:
        """Remove the file. If that is not allowed, as after a change of the user, empty it."""
        try:
            self._path.unlink()
        except OSError:
            with contextlib.suppress(OSError):  # the file system has become read-only
                os.ftruncate(self._file, 0)
        forks.forget(self._let_go)
        self._let_go()

    def _let_go(self) -> None:
        """Close the file; in a forked child too, which must not keep the lock after the server's end."""
        os.close(self._file)
