"""Launching a server, from a script or by `zwoole run`, up to the running supervisor."""

from __future__ import annotations

import importlib
import os
import runpy
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from zwoole.shared.errors import StartError, ZwooleError
from zwoole.shared.process import log, open_files, signals
from zwoole.shared.process import plan as plans
from zwoole.shared.process.stderr import print_line
from zwoole.shared.process.tracebacks import is_users, text_of, users_part
from zwoole.shared.settings import Settings
from zwoole.shared.suggest import did_you_mean
from zwoole.supervisor import servers
from zwoole.supervisor.daemon import detach
from zwoole.supervisor.exit_codes import EXIT_BOOT_FAILED, EXIT_OK
from zwoole.supervisor.listening import listen
from zwoole.supervisor.pid_file import PidFile
from zwoole.supervisor.privileges import check_python, drop
from zwoole.supervisor.run_directory import RunDirectory, choose
from zwoole.supervisor.supervisor import Supervisor
from zwoole.supervisor.watching import folders_of, restart_at_change
from zwoole.workers import role
from zwoole.workers.server import Server


def supervise(
    server: Server,
    overrides: dict[str, Any] | None = None,
    run_dir: str | None = None,
    watched: Sequence[Path] = (),
) -> None:
    """Run a server whose `start()` was reached in the first process; return after it has stopped gracefully.

    Args:
        server: the app's server.
        overrides: settings from the command line; they override those in the app's file.
        run_dir: the run directory, or None for the usual one.
        watched: folders in which a change of a Python file has the workers replaced.

    Raises:
        StartError: it cannot start.
        SettingsError: an override is not a setting.
        SystemExit: it stopped in another way; the code says how.
    """
    check_kernel()
    check_folder()
    settings = server.settings.update(overrides or {})
    if settings.log_file:
        settings = settings.update({"log_file": str(Path(settings.log_file).absolute())})
    server.settings = settings
    plan = make_plan(settings, overrides or {})
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


def run_here(server: Server, plan: plans.Plan, run_dir: str | None, watched: Sequence[Path]) -> int:
    """Run a server; return its exit code. What it needs is taken in the order in which privileges are dropped."""
    settings = plan.settings
    open_files.make_room(settings.worker_num, settings.reactor_num)
    pid_file = PidFile(settings.pid_file) if settings.pid_file else None
    listeners: list[list[socket.socket]] = []
    if settings.user or settings.group:
        listeners = listen(settings)
        drop(settings.user, settings.group)
        check_python(settings.user or str(os.getuid()))
    try:
        directory = RunDirectory(choose(run_dir, settings.port, plan.target))
        try:
            with servers.announced(directory.path):
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


def make_plan(settings: Settings, overrides: Mapping[str, Any]) -> plans.Plan:
    """Return the plan by which workers run the app that this process runs."""
    target = _app or find_main(sys.modules["__main__"])
    return plans.Plan(
        target=target[1],
        kind=target[0],
        argv=list(sys.argv),
        path=list(sys.path),
        cwd=str(current_folder()),
        settings=settings,
        given=list(overrides),
    )


def current_folder() -> Path:
    """Return the current folder by the name that the shell has for it. If that name contains a link such as `current`,
    workers that are started later follow it to the next release; the old folder may be gone by then.
    """
    here = Path.cwd()
    named = Path(os.environ.get("PWD", ""))
    try:
        return named if named.is_absolute() and named.samefile(here) else here
    except OSError:  # it does not exist, or we may not look at it
        return here


def find_main(main: ModuleType) -> tuple[str, str]:
    """Return the kind and name of what runs as `__main__`: the path of a script, of a folder or archive that has a
    `__main__.py`, or a module that was run with -m.

    Raises:
        StartError: it is none of these, so that workers could not run it again.
    """
    spec = getattr(main, "__spec__", None)  # a debugger's `__main__` may have none
    if spec is not None and spec.name != "__main__":
        return plans.RUN_MODULE, spec.name
    file = Path(getattr(main, "__file__", None) or "<stdin>").absolute()
    path = file if spec is None else file.parent  # Python has run the `__main__.py` in that folder or archive
    if not path.is_file() and not path.is_dir():
        raise StartError("start() needs a script that workers can run too: save it to a file and run that")
    return plans.SCRIPT, str(path)


_app: tuple[str, str] | None = None  # what `zwoole run` was given


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
    global _app
    check_folder()
    reached = False
    log.set_format(overrides.get("log_format") == "json")  # for errors before the settings in the file are known
    watched = folders_of(target) if reload else []

    is_attribute = ":" in target and not Path(target).exists()

    def starter(server: Server) -> None:
        nonlocal reached
        if is_attribute:
            check_name(target, sys._getframe())
        reached = True
        try:
            supervise(server, overrides, run_dir, watched)
        except (ZwooleError, SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # the app did not raise it, so all frames are shown
            raise boot_failure(
                "the supervisor failed, not the app: its traceback is above",
                (type(error), error, error.__traceback__),
            ) from None

    signals.obey_while_starting()
    role.set_starter(starter)
    _app = (plans.ATTRIBUTE, target) if is_attribute else (plans.SCRIPT, str(current_folder() / target))
    sys.argv = [target, *arguments]
    try:
        run_target(target, is_attribute, lambda: reached)
    except ZwooleError as error:
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


def folder_of(script: Path) -> Path:
    """Return the folder that a script's modules are in. Links to folders are kept: if `current` leads to another
    release later, a reload finds the modules of that one.
    """
    return script.resolve().parent if script.is_symlink() else (current_folder() / script).parent


def check_name(target: str, frame: FrameType | None) -> None:
    """Check that the server of "module:attribute" exists, if its module itself calls `start()`, which returns only
    after the server has stopped. If another module calls `start()`, the name may be defined later.

    Args:
        target: "module:attribute".
        frame: where the search for the caller of `start()` begins.

    Raises:
        StartError: it does not exist.
    """
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    module_name, _, attribute = target.partition(":")
    if frame is not None and frame.f_globals.get("__name__") == module_name:
        server_in(sys.modules[module_name], attribute)


def find_server(target: str) -> Server:
    """Import "module:attribute" and return the server it names.

    Raises:
        StartError: there is none.
    """
    module_name, _, attribute = target.partition(":")
    is_path = module_name.endswith(".py") or not all(map(str.isidentifier, module_name.split(".")))
    if is_path or not attribute.isidentifier():
        raise StartError(f"{target!r} is neither a script nor module:attribute, such as main:server")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):  # a module that the app imports
            raise
        raise StartError(f"there is no module {error.name!r}, neither in {current_folder()} nor installed") from None
    return server_in(module, attribute)


def server_in(module: ModuleType, attribute: str) -> Server:
    """Return the server that an attribute of a module is.

    Raises:
        StartError: there is none.
    """
    server = getattr(module, attribute, None)
    if isinstance(server, Server):
        return server
    known = [name for name, value in vars(module).items() if isinstance(value, Server)]
    raise StartError(f"{attribute!r} in module {module.__name__!r} is no Server" + did_you_mean(attribute, known))
