"""Settings that the app's file has changed since the server was started: a reload does not put them in force."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from zwoole.shared.log import get_logger

LOADED = time.time()  # about when this process has read the app's files
MOST = 100  # changes that are kept: more than there are settings

log = get_logger("supervisor")


class FileSettings:
    """What the newest worker says of the settings in its file.

    Attributes:
        changed: each setting that needs a restart: "worker_num 2 -> 4".
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.changed: list[str] = []
        self._never_the_same: set[str] = set()

    def told(self, changed: list[str], starting: bool) -> None:
        """Take what a worker found, and say once what is new in it.

        Args:
            changed: each setting that its file gives another value than the server runs with.
            starting: whether the server still starts, with files that nobody has written since: what differs then is
                another value in each process, such as a port that the script chooses, and nobody has changed it.
        """
        changed = changed[:MOST]
        if starting:
            self._never_the_same.update(map(name_of, changed))
        changed = [text for text in changed if name_of(text) not in self._never_the_same]
        if changed != self.changed:
            self.changed = changed
            if changed:
                log.warning("needs a restart: %s", ", ".join(changed))


def was_written_since(when: float) -> bool:
    """Tell whether the file of a module that this process has imported was written after that time.

    The first process has read the app's files too: if one is newer, its workers have read another text than it has.
    """
    for module in list(sys.modules.values()):
        file = getattr(module, "__dict__", {}).get("__file__")  # a module that loads itself late stays as it is
        try:
            if file and Path(file).stat().st_mtime > when:
                return True
        except OSError:  # it is gone, or lies in an archive
            continue
    return False


def name_of(text: str) -> str:
    """Return the name of the setting that a change is of."""
    return text.partition(" ")[0]
