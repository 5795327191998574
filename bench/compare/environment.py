"""What the numbers of a comparison depend on: the machine, and the versions of all programs that take part."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from zwoole.bench.compare.peer import NPM_FOLDER, Peer, path_of
from zwoole.bench.loadtest import connection
from zwoole.version import VERSION

_VERSION = re.compile(r"\d+(\.\d+)+[\w.+-]*")
_VERSION_OPTIONS = {"go": "version"}


def environment(peers: Sequence[Peer]) -> dict[str, str]:
    """Return what the numbers depend on, by name."""
    programs = {name for peer in peers for name in (*peer.programs, *peer.runner[:1])}
    commands = {peer.version_command: peer.name for peer in reversed(peers) if peer.version_command}
    return {
        "machine": f"{os.cpu_count()} CPUs ({_processor()}), {platform.machine()}, Linux {platform.release()}",
        "load average before": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        "zwoole": VERSION,
        "load client": "compiled" if connection.COMPILED else "uncompiled, which may be the limit",
        **{
            package: metadata.version(package) for package in sorted({name for peer in peers for name in peer.packages})
        },
        **{package: _npm_version(package) for package in sorted({name for peer in peers for name in peer.npm})},
        **{
            program: _version_of(path_of(program), _VERSION_OPTIONS.get(program, "--version"))
            for program in sorted(programs)
        },
        **{name: _version_of(*command) for command, name in commands.items()},
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "unknown model"


def _npm_version(package: str) -> str:
    return str(json.loads((NPM_FOLDER / package / "package.json").read_text())["version"])


def _version_of(*command: str) -> str:
    """Return the first version that a command prints."""
    found = _VERSION.search(subprocess.run(command, capture_output=True, text=True).stdout)
    return found[0] if found else "unknown"
