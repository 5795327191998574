"""What `start()` does in this process: by default it becomes the supervisor, in a worker it serves events.

The program that runs decides, never the environment, because programs that a callback starts would inherit that.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from zwoole.shared.errors import StartError, WrongProcess, ZwooleError
from zwoole.shared.process import forks

NEEDED = ("os", "select", "signal", "subprocess", "thread", "time")  # modules that zwoole needs unpatched

Server = Any  # the object whose `start()` was called: it is only passed on, so that server.py can import this module
Starter = Callable[[Server], None]

_starter: Starter | None = None  # `_serves` while it runs, `_has_served` behind it


def set_starter(starter: Starter) -> None:
    """Have `start()` call `starter` in this process."""
    global _starter
    _starter = starter


def check_first(server: Server) -> None:
    """Check that no server was started in this process yet. Workers run the script up to its first `start()`, so no
    later call could ever be served.

    Raises:
        WrongProcess: a server was started, or this is a forked child.
    """
    if forks.forked:
        raise WrongProcess("start() was reached in a process that a worker or the supervisor has forked: end it before")
    if _starter in (_serves, _has_served):
        _starter(server)


def start(server: Server) -> None:
    """Do what `start()` does in this process, once. It may be called again after it has raised a ZwooleError, for
    example because the port is in use.

    Raises:
        StartError: gevent or eventlet has replaced modules that zwoole needs.
        WrongProcess: a multiprocessing pool runs the script again to import it, or this is a second call, a forked
            child or a thread.
    """
    global _starter
    check_first(server)
    check_modules()
    if threading.current_thread() is not threading.main_thread():
        raise WrongProcess(
            "start() was called in a thread: call it from the script itself, since only the main thread is told of"
            " signals; `worker_start` can start threads in each worker"
        )
    # Importing multiprocessing makes this another name of `__main__`; in a process that it spawned it is the script.
    if getattr(sys.modules.get("__mp_main__"), "__name__", "__main__") != "__main__":
        raise WrongProcess(
            "start() was reached in a process that multiprocessing spawned, which runs the script again: "
            'put it under `if __name__ == "__main__":`'
        )
    if _starter is None:
        raise WrongProcess("zwoole was not imported as a whole: `import zwoole` first")
    starter, _starter = _starter, _serves
    after: Starter = _has_served
    try:
        starter(server)
    except ZwooleError:
        after = starter
        raise
    finally:
        _starter = after


def _serves(_: Server) -> NoReturn:
    """Stand in for the starter while the server runs."""
    raise WrongProcess(
        "start() was called while this process serves already, as in a callback: call it once, at the end of the"
        " script, and give another server a script of its own"
    )


def _has_served(_: Server) -> NoReturn:
    """Stand in for the starter after the server has stopped."""
    raise WrongProcess(
        "start() was called a second time: a script starts one server once, and workers run it up to the first start();"
        " give another server a script of its own"
    )


def check_modules() -> None:
    """Check that nothing has replaced the modules that zwoole needs.

    Raises:
        StartError: gevent or eventlet has.
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
