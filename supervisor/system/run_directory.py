"""The run directory: where it is, who owns it, and whether its server is running."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import stat
from pathlib import Path

from zwoole.shared.errors import StartError
from zwoole.shared.memory.mapping import reserve
from zwoole.shared.process import forks
from zwoole.shared.process.run_files import CONTROL, LOCK, MAX_IPC_PATH, PLAN, open_lock, remove, try_lock

LONGEST_NAME = "/w1234567890.m1234567890"  # of an endpoint, to know early whether paths will be short enough
LONGEST_OF_OURS = "/12345-12345678-1234567"  # of a run directory within one of `homes`
ROOM = "room"  # a file that exists for a moment only
NO_END = "-"  # in the lock file, until it has the exit code
MOVED = "+"  # in a lock file that was removed, after the server has made another
UNKNOWN = "?"  # never in a lock file
MAX_EXIT_CODE = 255
END_WIDTH = 4  # all have the same width, so that writing one needs no more room

RUN = Path("/run")  # where root's run directories are; it is emptied when the machine starts
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))
SESSIONS = Path("/run/user")  # systemd removes the folder of a user here when the user logs out
LINGERING = Path("/var/lib/systemd/linger")  # unless a file here has the user's name


def homes() -> list[Path]:
    """Return the folders that may hold this user's run directories, the best first.

    If the user has set `TMPDIR`, that is the only one, provided that it is writable and short enough for Unix sockets.
    Else they are `/run` for root, `$XDG_RUNTIME_DIR` if it is private and stays when the user logs out, `/tmp` and
    `/var/tmp`.
    """
    uid = os.getuid()
    name = f"zwoole-{uid}"
    told = told_folder()
    if told is not None and os.access(told, os.W_OK | os.X_OK) and fits(told / name):
        return [told / name]
    places = [RUN] if uid == 0 else []
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and is_private(runtime) and not goes_with_session(runtime):
        places.append(runtime)
    return [place / name for place in (*places, *TEMPORARY) if fits(place / name)]


def told_folder() -> Path | None:
    """Return the temporary folder that `TMPDIR` names; None if it names none, or a relative one while the current
    folder no longer exists.
    """
    told = os.environ.get("TMPDIR", "")
    try:
        return Path(told).absolute() if told else None
    except FileNotFoundError:
        return None


def fits(home: Path) -> bool:
    """Tell whether the paths of a server's endpoints in this folder would be short enough for Unix sockets."""
    return run_directory_fits(Path(f"{home}{LONGEST_OF_OURS}"))


def run_directory_fits(path: Path) -> bool:
    """Tell whether the paths of the endpoints in this run directory would be short enough for Unix sockets."""
    return len(os.fsencode(f"{path}{LONGEST_NAME}")) <= MAX_IPC_PATH


def is_private(path: Path) -> bool:
    """Tell whether a folder belongs to this user and is closed to all others."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def goes_with_session(runtime: Path) -> bool:
    """Tell whether a runtime folder is removed when its user logs out, while servers in the background go on."""
    if runtime.parent != SESSIONS:
        return False
    try:
        return not (LINGERING / pwd.getpwuid(os.getuid()).pw_name).exists()
    except (KeyError, OSError):
        return True


def choose(given: str | None, port: int, target: str) -> Path:
    """Return the run directory for a server; if it is to be in one of `homes`, make that folder.

    Args:
        given: what the user has asked for, or None.
        port: the port that the server listens on.
        target: the app's script or module.

    Raises:
        StartError: no folder can be made for it.
    """
    if told := given or os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        try:
            return Path(told).absolute()
        except FileNotFoundError:
            raise StartError(
                f"the current folder no longer exists, so {told} has no meaning: give an absolute --run-dir"
            ) from None
    digest = hashlib.sha256(os.fsencode(Path(target).absolute())).hexdigest()[:8]
    name = f"{port}-{digest}" if port else f"{port}-{digest}-{os.getpid()}"
    reasons = []
    for home in homes():
        try:
            make_private(home)
        except StartError as error:
            reasons.append(str(error))
        else:
            return home / name
    raise StartError(f"{'; '.join(reasons)}; name another place with --run-dir or the variable RUNTIME_DIRECTORY")


class RunDirectory:
    """The run directory that this process holds.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        """Make the directory if it is missing, check that it is ours only, and take its lock.

        Raises:
            StartError: it belongs to another user, is open to others, in use, or has other files in it; its path is too
                long or not UTF-8; or the disk is full.
        """
        self.path = path
        self._lock = -1
        self._folder = -1
        if not run_directory_fits(path):
            raise StartError(
                f"the run directory's path is too long for Unix sockets: {path}; give a shorter one, with --run-dir or"
                " the variable RUNTIME_DIRECTORY"
            )
        try:
            str(path).encode()
        except UnicodeEncodeError:  # ZeroMQ takes addresses as text
            raise StartError(f"the run directory's path must be UTF-8, not {str(path)!a}") from None
        if is_own_folder(path):
            check_ours(path)  # first, so that nobody is advised to close a folder of something else
        make_private(path)
        self._take()
        for left in self._entries():
            if left.name != LOCK:
                remove(left)
        forks.in_child(self._let_go)

    def _take(self) -> None:
        """Hold the directory and its lock, which is made if it is missing."""
        path = self.path / LOCK
        try:
            if not is_same_file(self._lock, path):
                lock = open_lock(path, os.O_CREAT)
                self._check_lock(lock)
                self._write_end(MOVED)
                self._lock = replaced(self._lock, lock)
                self._write_end(NO_END)
            if not is_same_file(self._folder, self.path):
                folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._folder = replaced(self._folder, folder)
        except OSError as error:
            raise StartError(f"cannot write in the run directory {self.path}: {error.strerror}") from None
        with contextlib.suppress(OSError):  # some file systems cannot lock folders
            fcntl.flock(self._folder, fcntl.LOCK_SH | fcntl.LOCK_NB)  # systemd-tmpfiles leaves locked folders alone

    def _check_lock(self, lock: int) -> None:
        """Take the lock that was opened; close it if that fails."""
        try:
            if not try_lock(lock):
                stop = f"`zwoole stop --run-dir {self.path}` stops it"
                raise StartError(f"a server is running in {self.path} already: {stop}")
            if not is_same_file(lock, self.path / LOCK):  # a server that was just ending has removed it
                raise StartError(f"a server was just ending in {self.path}: start again")
        except BaseException:
            os.close(lock)
            raise

    def lost(self) -> list[str]:
        """Return what was removed: "the directory", or those of its files that commands and new processes need."""
        if not is_same_file(self._folder, self.path):
            return ["the directory"]
        lost = [] if is_same_file(self._lock, self.path / LOCK) else [LOCK]
        return lost + [name for name in (PLAN, CONTROL) if not (self.path / name).exists()]

    def take_again(self) -> None:
        """Make the directory and its lock again, if they were removed.

        Raises:
            StartError: that is not possible, or another server has taken the path.
        """
        if self.path.parent in homes():
            make_private(self.path.parent)
        make_private(self.path)
        if not is_same_file(self._folder, self.path):
            check_ours(self.path)
        self._take()

    def check_room(self, size: int) -> None:
        """Check that `size` bytes can be written in the directory.

        Raises:
            OSError: they cannot.
        """
        path = self.path / ROOM
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            reserve(descriptor, 0, size)
        finally:
            os.close(descriptor)
            remove(path)

    def refresh(self) -> None:
        """Make all files look new, since cleaners of temporary folders remove what looks old."""
        for path in (self.path, *self._entries()):
            with contextlib.suppress(OSError):
                os.utime(path, follow_symlinks=False)

    def note_end(self, code: int) -> None:
        """Write the exit code where `zwoole stop` reads it; see `End`."""
        self._write_end(str(code))

    def _write_end(self, text: str) -> None:
        """Write to the lock file, if there is one."""
        with contextlib.suppress(OSError):  # the disk is full: the exit code remains unknown
            os.pwrite(self._lock, f"{text:<{END_WIDTH}}\n".encode(), 0)

    def remove(self) -> None:
        """Remove the directory, unless its path leads to another by now, and release the lock."""
        if is_same_file(self._folder, self.path):
            shutil.rmtree(self.path, ignore_errors=True)
        forks.forget(self._let_go)
        self._let_go()

    def _let_go(self) -> None:
        """Release the locks; in a forked child too, which must not hold them after the server's end."""
        self._lock = replaced(self._lock, -1)
        self._folder = replaced(self._folder, -1)

    def _entries(self) -> list[Path]:
        try:
            return list(self.path.iterdir())
        except OSError:
            return []


def replaced(descriptor: int, new: int) -> int:
    """Close a descriptor (-1: none), and return the new one."""
    if descriptor >= 0:
        os.close(descriptor)
    return new


def running() -> list[Path]:
    """Return the run directories in `homes` whose servers are running."""
    found: list[Path] = []
    for home in homes():
        try:
            found += sorted(home.iterdir())
        except OSError:
            continue
    return [path for path in found if is_running(path)]


def is_running(path: Path) -> bool:
    """Tell whether a server holds this run directory, by its lock, which ends with the server."""
    lock = opened(path)
    try:
        return is_held(lock)
    finally:
        replaced(lock, -1)


def opened(path: Path) -> int:
    """Open the lock file of a run directory; return -1 if there is none that can be opened."""
    try:
        return open_lock(path / LOCK)
    except (OSError, ValueError):  # a NUL in the path, for example
        return -1


def is_held(lock: int) -> bool:
    """Tell whether another process holds the lock on an open file; False for -1."""
    if lock < 0:
        return False
    try:
        if not try_lock(lock):
            return True
        fcntl.flock(lock, fcntl.LOCK_UN)
    except OSError:  # this file system has no locks
        pass
    return False


class End:
    """The end of a server, which another process reads from the server's lock file.

    The file is opened before the end, since the server then removes its directory. If the directory is removed earlier
    and the server makes it again, the new lock file has the end.
    """

    def __init__(self, path: Path) -> None:
        """Open the lock file in a run directory. If there is none, the server has ended, in an unknown way."""
        self._path = path
        self._lock = opened(path)

    def has_come(self) -> bool:
        """Tell whether the server has ended. Call it repeatedly: one call looks at one lock file."""
        if is_held(self._lock):
            return False
        if self.code() == MOVED:
            self._lock = replaced(self._lock, opened(self._path))
            return self._lock < 0
        return True

    def code(self) -> str:
        """Return how the server has ended.

        It is the exit code as text; NO_END if the server was killed and could not write one; "" if it is of a version
        that writes none; UNKNOWN or any other text if the lock file was removed or changed.
        """
        try:
            return os.pread(self._lock, END_WIDTH, 0).decode("ascii", "replace").strip()
        except OSError:
            return UNKNOWN

    def close(self) -> None:
        """Close the lock file."""
        self._lock = replaced(self._lock, -1)


def exit_code(code: str) -> int | None:
    """Return the exit code in what `End.code` returns; None if it has none."""
    return int(code) if re.fullmatch("0|[1-9][0-9]{0,2}", code) and int(code) <= MAX_EXIT_CODE else None


def is_same_file(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is still the file at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def is_own_folder(path: Path) -> bool:
    """Tell whether there is a folder of this user at `path`, not a link to one."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def check_ours(path: Path) -> None:
    """Check that the files in the directory, which will be removed, are a server's.

    Raises:
        StartError: it is not empty, and has no lock file, or has a folder in it.
    """
    try:
        found = list(path.iterdir())
    except OSError as error:
        raise StartError(f"cannot look into the run directory {path}: {error.strerror}") from None
    if found and (path / LOCK not in found or any(entry.is_dir() for entry in found)):
        raise StartError(f"{path} is not a run directory and not empty: give an empty or a new folder")


def make_private(path: Path) -> None:
    """Make a folder that only this user may enter; if it exists, check that it is such a folder.

    Raises:
        StartError: it is not, or cannot be made.
    """
    try:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            path.chmod(0o700)  # a umask may have removed permissions that we need
        status = path.lstat()
    except OSError as error:
        raise StartError(f"cannot make the run directory {path}: {error.strerror}") from None
    if stat.S_ISLNK(status.st_mode):
        raise StartError(f"the run directory {path} is a symbolic link, which is not followed")
    if not stat.S_ISDIR(status.st_mode):
        raise StartError(f"the run directory {path} is not a directory")
    if status.st_uid != os.getuid():
        raise StartError(f"the run directory {path} belongs to another user (uid {status.st_uid})")
    if status.st_mode & 0o077:
        raise StartError(f"the run directory {path} is open to others: chmod 700 {path}")
