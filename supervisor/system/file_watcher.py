"""Watching the app's source files, for `zwoole run --reload`."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from zwoole.shared.errors import StartError
from zwoole.shared.process.stderr import print_line

try:
    import watchfiles
except ImportError:
    watchfiles = None  # type: ignore[assignment]

STEP_MS = 50  # changes within this time count as one
JOIN_S = 1.0


def require() -> None:
    """Check that files can be watched.

    Raises:
        StartError: the package for it is not installed.
    """
    if watchfiles is None:
        raise StartError("--reload needs the watchfiles package: pip install 'zwoole[reload]'")


def folders_of(target: str) -> list[Path]:
    """Return the folders to watch for an app: the current one, and the script's if that lies outside of it."""
    here = Path.cwd()
    script = Path(target).resolve().parent
    return [here] if ":" in target or script.is_relative_to(here) else [here, script]


class Watcher:
    """Watches folders in a thread, and reports Python files that were changed."""

    def __init__(self, folders: Sequence[Path], changed: Callable[[list[str]], None]) -> None:
        """Begin to watch. `changed` is called in the thread, with the names of the files."""
        self._stop = threading.Event()
        self._folders = folders
        self._changed = changed
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join(JOIN_S)

    def _watch(self) -> None:
        for changes in watch(self._folders, self._stop):
            self._changed(changes)


def watch(folders: Sequence[Path], stop: threading.Event | None = None) -> Iterator[list[str]]:
    """Yield the names of Python files each time some were changed, until `stop` is set."""
    only_python = watchfiles.PythonFilter()
    for changes in watchfiles.watch(*folders, watch_filter=only_python, step=STEP_MS, stop_event=stop):
        yield sorted({os.path.relpath(path) for _, path in changes})


def restart_at_change(folders: Sequence[Path]) -> None:
    """Wait for a change, then run this command again from the beginning."""
    changes = next(iter(watch(folders)))
    print_line(f"changed: {', '.join(changes)}")
    os.execv(sys.executable, sys.orig_argv)
