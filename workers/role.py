"""What `start()` does in this process: by default it becomes the supervisor, in a worker it serves events.

A role is given by the program that runs, never by the environment, which programs started from a callback inherit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from zwoole.shared import forks
from zwoole.shared.errors import StartError, WrongProcess

if TYPE_CHECKING:
    from zwoole.workers.server import Server

NEEDED = ("os", "select", "signal", "subprocess", "thread", "time")  # modules that our loops cannot do without

_starter: Callable[[Server], None] | None = None


def set_starter(starter: Callable[[Server], None]) -> None:
    """Have `start()` call `starter` in this process."""
    global _starter
    _starter = starter


def start(server: Server) -> None:
    """Do what `start()` does here.

    Raises:
        StartError: gevent or eventlet has replaced modules that zwoole needs.
        WrongProcess: a multiprocessing pool runs the script again to import it, or this is a forked child.
    """
    if forks.forked:
        raise WrongProcess("start() was reached in a process that a worker or the supervisor has forked: end it before")
    check_modules()
    # Importing multiprocessing makes this another name of `__main__`; in a process that it spawned it is the script.
    if getattr(sys.modules.get("__mp_main__"), "__name__", "__main__") != "__main__":
        raise WrongProcess(
            "start() was reached in a process that multiprocessing spawned, which runs the script again: "
            'put it under `if __name__ == "__main__":`'
        )
    if _starter is None:
        raise WrongProcess("zwoole was not imported as a whole: `import zwoole` first")
    _starter(server)


def check_modules() -> None:
    """Check that Python's own modules are in place.

    Raises:
        StartError: gevent or eventlet has replaced some.
    """
    gevent = getattr(sys.modules.get("gevent.monkey"), "is_module_patched", None)
    eventlet = getattr(sys.modules.get("eventlet.patcher"), "is_monkey_patched", None)
    for name, is_patched in (("gevent", gevent), ("eventlet", eventlet)):
        replaced = [module for module in NEEDED if is_patched is not None and is_patched(module)]
        if replaced:
            raise StartError(
                f"{name} has replaced Python's modules {', '.join(replaced)}, and zwoole does not run on {name}: do not"
                " monkey-patch, and write callbacks that wait as `async def`"
            )
