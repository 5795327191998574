"""The lifeline: a pipe whose only write end belongs to the supervisor. EOF means that the supervisor is gone.

A separate thread reads it, because the process's loop may be stuck in a callback, and a process must not outlive its
supervisor.
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
    """Start the thread that waits for the supervisor's end.

    The process exits with ORPHANED_EXIT at the latest `grace_s` seconds after that.

    Args:
        descriptor: the read end of the pipe.
        orphaned: called in the thread when the supervisor is gone.
        grace_s: seconds between `orphaned` and the exit.
        last: called in the thread just before the exit.
    """

    def wait() -> None:
        try:
            while os.read(descriptor, 1):
                pass
        except OSError:  # the app has closed it: a worker that is not serving yet reports that and exits
            return
        orphaned()
        time.sleep(grace_s)
        last()
        os._exit(ORPHANED_EXIT)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
