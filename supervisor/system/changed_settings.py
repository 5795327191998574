"""Settings that were changed in the app's file since the server was started: they need a restart, not a reload."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path

from zwoole.shared.process.log import get_logger

MOST = 100  # changes that are kept; there are fewer settings

log = get_logger("supervisor")


class FileSettings:
    """What the newest worker has found in the app's file.

    Attributes:
        changed: each setting that needs a restart: "worker_num 2 -> 4".
    """

    def __init__(self) -> None:
        """Begin without changes. All modules of the app have been imported by now."""
        self.changed: list[str] = []
        self._files = modification_times(imported_files())
        self._never_the_same: set[str] = set()

    def told(self, changed: list[str], starting: bool) -> None:
        """Take what a worker has found, and log each new change once.

        Args:
            changed: each setting that the file gives another value than the server runs with.
            starting: whether the server is still starting. A setting that differs then, while no file of the app has
                changed, has another value in each process, such as a port that the script chooses: it is ignored.
        """
        changed = changed[:MOST]
        if changed and starting and self._files == modification_times(self._files):
            self._never_the_same.update(map(name_of, changed))
        changed = [text for text in changed if name_of(text) not in self._never_the_same]
        if changed != self.changed:
            self.changed = changed
            if changed:
                log.warning("needs a restart: %s", ", ".join(changed))


def imported_files() -> set[str]:
    """Return the files of all modules that this process has imported."""
    found = (getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values()))
    return set(filter(None, found))  # by __dict__, since getattr would load a lazy module


def modification_times(files: Iterable[str]) -> dict[str, int]:
    """Return when each file was last written, in nanoseconds; 0 for a file that is gone, or in an archive."""
    times = dict.fromkeys(files, 0)
    for file in times:
        with contextlib.suppress(OSError):
            times[file] = Path(file).stat().st_mtime_ns
    return times


def name_of(text: str) -> str:
    """Return the name of the setting in the description of a change."""
    return text.partition(" ")[0]
