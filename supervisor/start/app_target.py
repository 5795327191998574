"""The app that a server runs: which script or module it is, where it is, and which server it has."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import FrameType, ModuleType
from typing import NamedTuple

from zwoole.shared.errors import StartError
from zwoole.shared.process import plan as plans
from zwoole.shared.process.tracebacks import is_users
from zwoole.shared.suggest import did_you_mean
from zwoole.workers.server import Server


class Target(NamedTuple):
    """What workers run.

    Attributes:
        kind: which of the kinds in `shared/process/plan.py` it is.
        name: a script's path, a module's name, or "module:attribute".
    """

    kind: str
    name: str


def find_target(text: str) -> Target:
    """Return what `zwoole run TEXT` runs."""
    if ":" in text and not Path(text).exists():
        return Target(plans.ATTRIBUTE, text)
    return Target(plans.SCRIPT, str(current_folder() / text))


def find_main(main: ModuleType) -> Target:
    """Return what runs as `__main__`: a script, a folder or archive that has a `__main__.py`, or a module that was run
    with -m.

    Raises:
        StartError: it is none of these, so that workers could not run it again.
    """
    spec = getattr(main, "__spec__", None)  # a debugger's `__main__` may have none
    if spec is not None and spec.name != "__main__":
        return Target(plans.RUN_MODULE, spec.name)
    file = Path(getattr(main, "__file__", None) or "<stdin>").absolute()
    path = file if spec is None else file.parent  # Python has run the `__main__.py` in that folder or archive
    if not path.is_file() and not path.is_dir():
        raise StartError("start() needs a script that workers can run too: save it to a file and run that")
    return Target(plans.SCRIPT, str(path))


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
