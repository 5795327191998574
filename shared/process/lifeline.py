"""The lifeline: a pipe whose only write end is the supervisor's. Its end means that the supervisor is gone.

A thread of its own watches it, because the loop of the process may be stuck in a callback, and a process that nobody
supervises must end all the same.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

ORPHANED_EXIT = 70


def watch(
    descriptor: int, orphaned: Callable[[], None], grace_s: float, last: Callable[[], None] = lambda: None
) -> None:
    """Start the thread.

    Args:
        descriptor: the read end of the pipe.
        orphaned: called in that thread when the supervisor is gone.
        grace_s: seconds after which the process is ended whatever it does then.
        last: called in that thread just before.
    """

    def wait() -> None:
        try:
            while os.read(descriptor, 1):
                pass
        except OSError:  # the app has closed it; a worker that has not begun to serve says so, and ends
            return
        orphaned()
        time.sleep(grace_s)
        last()
        os._exit(ORPHANED_EXIT)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
