"""`zwoole run`: runs the app up to its `start()`, which becomes the supervisor."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zwoole.shared.errors import StartError, ZwooleError
from zwoole.shared.process import log, signals
from zwoole.shared.process import plan as plans
from zwoole.shared.process.stderr import print_line
from zwoole.shared.process.tracebacks import place, text_of, users_part
from zwoole.supervisor.core.exit_codes import EXIT_BOOT_FAILED
from zwoole.supervisor.start.app_target import check_name, current_folder, find_server, find_target, folder_of
from zwoole.supervisor.start.launch import check_folder, supervise
from zwoole.supervisor.system.file_watcher import folders_of, restart_at_change
from zwoole.workers import role
from zwoole.workers.server import Server


def run_app(
    target: str, arguments: list[str], overrides: dict[str, Any], run_dir: str | None, reload: bool = False
) -> None:
    """Run an app, as `zwoole run TARGET` does.

    Args:
        target: a script's path, or "module:attribute".
        arguments: the app's own command line.
        overrides: settings that override those in the app's file.
        run_dir: the run directory, or None for the usual one.
        reload: whether workers are replaced when a file of the app changes; if the app fails to start, a change of its
            files starts it again.

    Raises:
        ZwooleError: the app cannot be started; the message is for the user.
        SystemExit: the server stopped with an exit code.
    """
    check_folder()
    started = False  # the app has called start()
    reached = False  # and it was the right server's
    log.set_format(overrides.get("log_format") == "json")  # for errors before the settings in the file are known
    watched = folders_of(target) if reload else []
    app = find_target(target)
    is_attribute = app.kind == plans.ATTRIBUTE

    def starter(server: Server) -> None:
        nonlocal started, reached
        started = True
        if is_attribute:
            check_name(target, sys._getframe())
        reached = True
        try:
            supervise(server, overrides, run_dir, watched, app)
        except (ZwooleError, SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # the app did not raise it, so all frames are shown
            raise boot_failure(
                "the supervisor failed, not the app: its traceback is above",
                (type(error), error, error.__traceback__),
            ) from None

    signals.obey_while_starting()
    role.set_starter(starter)
    sys.argv = [target, *arguments]
    try:
        run_target(target, is_attribute, lambda: reached)
    except ZwooleError as error:
        if not started:
            error.args = (f"{place(error.__traceback__)}{error}",)
        if reached or not reload:
            raise
        print_line(f"{error}; waiting for a change")
        restart_at_change(watched)
    if not reached:
        print_line(f"{target} ended without reaching server.start()")
        raise SystemExit(EXIT_BOOT_FAILED)


def run_target(target: str, is_attribute: bool, reached: Callable[[], bool]) -> None:
    """Run a script, or start the server of "module:attribute".

    Args:
        target: the script's path, or "module:attribute".
        is_attribute: whether it is the latter.
        reached: returns whether `start()` was called.

    Raises:
        ZwooleError: it cannot be run; the message is for the user.
    """
    try:
        if is_attribute:
            sys.path[0:0] = [str(current_folder())]
            server = find_server(target)
            if not reached():  # if the module calls start() itself, it has served by now
                server.start()
        else:
            if Path(target).is_dir():
                raise StartError(f"{target!r} is a folder; give a script, or module:attribute")
            if not Path(target).is_file():
                raise StartError(f"there is no file {target!r}; give a script, or module:attribute")
            sys.path[0] = str(folder_of(Path(target)))
            runpy.run_path(target, run_name="__main__")
    except (ZwooleError, SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        when = "after start() had returned" if reached() else "before it reached start()"
        raise boot_failure(f"{target} failed {when}", users_part(error)) from None


def boot_failure(why: str, trace: log.ExcInfo) -> StartError:
    """Show a traceback: if the log is JSON, as a record that says why too. Return the exception to raise."""
    if log.as_json:
        console = log.start("supervisor", "error", as_json=True)
        log.get_logger("supervisor").error("%s", why, exc_info=trace)
        console.stop()
    else:
        print(text_of(*trace), file=sys.stderr)
    return StartError(why)
