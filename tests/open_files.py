"""What this process has open: a test that asserts that nothing was left open compares before and after."""

from __future__ import annotations

from collections import Counter
from pathlib import Path


def open_files(*kinds: str) -> Counter[tuple[str, int]]:
    """Return the open files by name and inode, each with its number of descriptors.

    `open_files() - before` is what has been opened since. A count alone would not do: what earlier tests have left to
    the garbage collector may be closed meanwhile.

    Args:
        kinds: how the names begin that count; none: all count.
    """
    found: Counter[tuple[str, int]] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            name = str(entry.readlink())
            if not kinds or name.startswith(kinds):
                found[name, entry.stat().st_ino] += 1
        except OSError:  # closed meanwhile, or the descriptor of this very listing
            continue
    return found
