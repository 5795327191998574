"""Settings that the app's file has changed since the server was started: a reload does not put them in force."""

from __future__ import annotations

from zwoole.shared.log import get_logger

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
            starting: whether the server still starts: what differs then is another value in each process, such as a
                port that the script chooses, and nobody has changed it.
        """
        changed = changed[:MOST]
        if starting:
            self._never_the_same.update(map(name_of, changed))
        changed = [text for text in changed if name_of(text) not in self._never_the_same]
        if changed != self.changed:
            self.changed = changed
            if changed:
                log.warning("needs a restart: %s", ", ".join(changed))


def name_of(text: str) -> str:
    """Return the name of the setting that a change is of."""
    return text.partition(" ")[0]
