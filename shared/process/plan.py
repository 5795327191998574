"""The plan: a file in the run directory that tells each process of the server how to run the app."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from zwoole.shared.process.run_files import PLAN, remove
from zwoole.shared.process.stderr import print_line
from zwoole.shared.settings import Settings

# Kinds of apps.
SCRIPT = "script"  # a file, run as __main__
RUN_MODULE = "run_module"  # a module, run as __main__ with -m
ATTRIBUTE = "attribute"  # "module:attribute", imported

NOT_UTF_8 = "surrogateescape"  # the error handler by which Python decodes paths and arguments that are not UTF-8


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run the app.

    Attributes:
        target: the app: the path of a script, the name of a module, or "module:attribute".
        kind: SCRIPT, RUN_MODULE or ATTRIBUTE.
        argv: `sys.argv` of the first process.
        path: `sys.path` of the first process.
        cwd: current folder of the first process.
        settings: the effective settings.
        given: names of the settings given on the command line, which override the app's.
        listening: "host:port" of each address that the server listens on.
    """

    target: str
    kind: str
    argv: list[str]
    path: list[str]
    cwd: str
    settings: Settings
    given: list[str] = field(default_factory=list)
    listening: list[str] = field(default_factory=list)


def write(run_dir: Path, plan: Plan) -> None:
    """Write the plan. Readers see the old plan or the new one, never a part of it.

    Raises:
        OSError: the plan cannot be written.
    """
    fields: dict[str, Any] = {
        "target": plan.target,
        "kind": plan.kind,
        "argv": plan.argv,
        "path": plan.path,
        "cwd": plan.cwd,
        "settings": plan.settings.as_dict(),
        "given": plan.given,
        "listening": plan.listening,
    }
    temporary = run_dir / (PLAN + ".new")
    try:
        temporary.write_bytes(msgpack.packb(fields, unicode_errors=NOT_UTF_8))
        temporary.rename(run_dir / PLAN)
    except OSError:
        remove(temporary)
        raise


def read(run_dir: Path) -> Plan:
    """Read the plan.

    Raises:
        OSError: there is no plan.
    """
    fields = msgpack.unpackb((run_dir / PLAN).read_bytes(), unicode_errors=NOT_UTF_8)
    return Plan(**{**fields, "settings": Settings().update(fields["settings"])})


def read_or_end(run_dir: Path) -> Plan:
    """Read the plan in a process that the supervisor has started. Without a plan it has nothing to do.

    Raises:
        SystemExit: there is no plan; one line on stderr says so.
    """
    try:
        return read(run_dir)
    except OSError as error:
        print_line(f"there is no plan in the run directory {run_dir}: {error.strerror}")
        raise SystemExit(1) from None


def describe(run_dir: Path) -> tuple[str, list[str]]:
    """Return the target and the addresses of a server of any version; "" and [] if its plan cannot be read."""
    try:
        fields = msgpack.unpackb((run_dir / PLAN).read_bytes(), unicode_errors=NOT_UTF_8)
        return str(fields["target"]), [str(address) for address in fields["listening"]]
    except (OSError, ValueError, KeyError, TypeError):
        return "", []
