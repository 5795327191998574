"""Becoming the supervisor: what is checked, opened and taken before it runs, and given back after it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zwoole.shared.errors import StartError, ZwooleError
from zwoole.shared.process import log, open_files
from zwoole.shared.process import plan as plans
from zwoole.shared.settings import Settings
from zwoole.supervisor.core.exit_codes import EXIT_OK
from zwoole.supervisor.start.app_target import Target, current_folder, find_main
from zwoole.supervisor.start.daemon import detach
from zwoole.supervisor.start.pid_file import PidFile
from zwoole.supervisor.start.privileges import check_python, drop
from zwoole.supervisor.supervisor import Supervisor
from zwoole.supervisor.system import running_servers
from zwoole.supervisor.system.listening import listen
from zwoole.supervisor.system.run_directory import RunDirectory, choose
from zwoole.workers.server import Server


def supervise(
    server: Server,
    overrides: dict[str, Any] | None = None,
    run_dir: str | None = None,
    watched: Sequence[Path] = (),
    app: Target | None = None,
) -> None:
    """Run a server whose `start()` was reached in the first process; return after it has stopped gracefully.

    Args:
        server: the app's server.
        overrides: settings from the command line; they override those in the app's file.
        run_dir: the run directory, or None for the usual one.
        watched: folders in which a change of a Python file has the workers replaced.
        app: what workers run; None for what runs as `__main__` here.

    Raises:
        StartError: it cannot start.
        SettingsError: an override is not a setting, or two settings exclude each other.
        SystemExit: it stopped in another way; the code says how.
    """
    check_kernel()
    check_folder()
    settings = server.settings.update(overrides or {})
    if settings.log_file:
        settings = settings.update({"log_file": str(Path(settings.log_file).absolute())})
    check_loop(settings.loop)
    settings.check_watermarks()
    server.settings = settings
    plan = make_plan(settings, overrides or {}, app or find_main(sys.modules["__main__"]))
    if settings.daemonize and not settings.log_file:
        raise StartError("a daemon has no terminal to write to: give it a log_file")
    if settings.daemonize:
        detach(settings.log_file)
    if settings.log_file:
        open_log(settings.log_file)
    console = log.start("supervisor", settings.log_level, settings.log_format == "json", at_once=False)
    try:
        code = run_here(server, plan, run_dir, watched)
    except ZwooleError as error:
        if settings.daemonize or settings.log_file:  # the terminal is gone, or not read
            log.get_logger("supervisor").error("%s", error)
        raise
    finally:
        console.stop()
    if code != EXIT_OK:
        raise SystemExit(code)


def check_loop(name: str) -> None:
    """Check that the event loop that the setting `loop` names is installed.

    Raises:
        StartError: it is not.
    """
    if name == "uvloop" and find_spec("uvloop") is None:
        raise StartError("the setting loop='uvloop' needs the uvloop package: pip install 'zwoole[uvloop]'")


def run_here(server: Server, plan: plans.Plan, run_dir: str | None, watched: Sequence[Path]) -> int:
    """Run a server; return its exit code. What it needs is taken in the order in which privileges are dropped."""
    settings = plan.settings
    open_files.make_room(settings.worker_num, settings.reactor_num)
    pid_file = PidFile(settings.pid_file) if settings.pid_file else None
    listeners: list[list[socket.socket]] = []
    try:
        if settings.user or settings.group:
            listeners = listen(settings)
            drop(settings.user, settings.group)
            check_python(settings.user or str(os.getuid()))
        directory = RunDirectory(choose(run_dir, settings.port, plan.target))
        try:
            with running_servers.announced(directory.path):
                code = Supervisor(server, plan, directory, listeners or listen(settings), watched).run()
                directory.note_end(code)
                return code
        finally:
            directory.remove()
    finally:
        if pid_file is not None:
            pid_file.remove()


def check_kernel() -> None:
    """Check that this process may watch other processes, as supervisor and masters do.

    Raises:
        StartError: the kernel is too old, or a sandbox forbids it.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        raise StartError(
            f"pidfd_open fails ({error.strerror}): zwoole needs Linux 5.3 or newer, and in a container a runtime whose"
            " seccomp profile allows that call, as those since 2021 do"
        ) from None


def check_folder() -> None:
    """Check that the current folder exists: workers start in it too, and relative paths need it.

    Raises:
        StartError: it was removed.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise StartError(f"the current folder no longer exists ({error.strerror}): start in one that exists") from None


def open_log(path: str) -> None:
    """Redirect the output of this process, and of those that it starts, to a file.

    Raises:
        StartError: it cannot be opened.
    """
    try:
        log.redirect(path)
    except OSError as error:
        raise StartError(f"cannot open the log file {path}: {error.strerror}") from None


def make_plan(settings: Settings, overrides: Mapping[str, Any], app: Target) -> plans.Plan:
    """Return the plan by which workers run the app."""
    return plans.Plan(
        target=app.name,
        kind=app.kind,
        argv=list(sys.argv),
        path=list(sys.path),
        cwd=str(current_folder()),
        settings=settings,
        given=list(overrides),
    )
