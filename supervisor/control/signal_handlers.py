"""What the supervisor does at each signal."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

from zwoole.shared.process.log import get_logger
from zwoole.supervisor.lifecycle.rollout import Rollouts
from zwoole.supervisor.lifecycle.shutdown import Shutdown

log = get_logger("supervisor")


def handlers(shutdown: Shutdown, rollouts: Rollouts, reopen_log: Callable[[], None]) -> dict[int, Callable[[], None]]:
    """Return the handler of each signal.

    Args:
        shutdown: stops the server.
        rollouts: replaces workers and changes their number.
        reopen_log: reopens the log file, after it was moved.
    """
    return {
        signal.SIGINT: partial(shutdown.signalled, "SIGINT"),
        signal.SIGTERM: partial(shutdown.signalled, "SIGTERM"),
        signal.SIGQUIT: shutdown.at_once,
        signal.SIGHUP: rollouts.reload,
        signal.SIGUSR1: rollouts.reload,
        signal.SIGUSR2: warn_of_task_workers,
        signal.SIGTTIN: partial(scale, rollouts, 1),
        signal.SIGTTOU: partial(scale, rollouts, -1),
        signal.SIGRTMIN: reopen_log,
    }


def warn_of_task_workers() -> None:
    """Say that there is nothing to reload."""
    log.warning("SIGUSR2 reloads task workers, of which there are none; SIGUSR1 reloads workers")


def scale(rollouts: Rollouts, by: int) -> None:
    """Have more or fewer workers, as far as that is possible."""
    try:
        rollouts.scale(by=by)
    except ValueError as error:
        log.warning("the number of workers is unchanged: %s", error)
