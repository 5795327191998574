"""The servers of the comparison: their scripts in peers/, what these need, and how to install that."""

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "peers"
NPM_FOLDER = Path(os.environ.get("PEER_MODULES") or Path.home() / ".cache" / "zwoole-bench" / "node_modules")

ECHO = "echo"  # what a server does with a message: send it back,
BROADCAST = "broadcast"  # send it to all connections,
CPU = "cpu"  # compute for a millisecond and send it back,
DEFLATE = "deflate"  # send it back, with permessage-deflate


@dataclass(frozen=True)
class Peer:
    """A server of the comparison. Its script receives the port, what to do with messages, and ``arguments``."""

    name: str
    script: str
    runner: tuple[str, ...] = ()
    """The program that runs the script, from the npm folder or the PATH, and its options; () is this Python."""
    arguments: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    """Python distributions, which must have the names of their modules."""
    npm: tuple[str, ...] = ()
    """npm packages in NPM_FOLDER."""
    programs: tuple[str, ...] = ()
    folder: str = ""
    """A folder that must exist."""
    version_command: tuple[str, ...] = ()
    """Prints the version of a part that neither pip nor npm knows, and fails if it is not installed."""
    install: str = ""
    """How to install the programs and the folder."""

    def command(self, port: int, mode: str) -> list[str]:
        """Return the command that starts the server."""
        program, *options = self.runner or (sys.executable,)
        return [path_of(program), *options, str(FOLDER / self.script), str(port), mode, *self.arguments]

    def skip_reason(self) -> str:
        """Return why this server cannot run here, with the commands that would install it; "" if it can."""
        commands = []
        if any(importlib.util.find_spec(package) is None for package in self.packages):
            commands.append(f"{sys.executable} -m pip install {' '.join(self.packages)}")
        if any(not (NPM_FOLDER / package).is_dir() for package in self.npm):
            commands.append(f"npm install --prefix {NPM_FOLDER.parent} {' '.join(self.npm)}")
        if not self._has_programs():
            commands.append(self.install)
        return f"not installed: {' && '.join(commands)}" if commands else ""

    def _has_programs(self) -> bool:
        if any(not shutil.which(program) for program in self.programs):
            return False
        if self.folder and not Path(self.folder).is_dir():
            return False
        return not self.version_command or subprocess.run(self.version_command, capture_output=True).returncode == 0


def path_of(program: str) -> str:
    """Return the path of a program in the npm folder or the PATH; its name if it is in neither."""
    return shutil.which(program, path=NPM_FOLDER / ".bin") or shutil.which(program) or program


_SWOOLE = Peer(
    "swoole",
    "swoole_server.php",
    ("php",),
    programs=("php",),
    version_command=("php", "-r", "extension_loaded('swoole') || exit(1); echo phpversion('swoole');"),
    install="apt-get install php-cli php-dev && pecl install swoole",
)
_LIMIT = Peer(
    "C-limit",
    "limit_server.py",
    arguments=("limit_echo.c",),
    programs=("cc",),
    install="apt-get install gcc libc6-dev",
)

PEERS = (
    Peer("zwoole", "zwoole_server.py"),
    Peer("zwoole-async", "zwoole_server.py", arguments=("async",)),
    Peer("zwoole-handler", "zwoole_server.py", arguments=("handler",)),
    Peer("zwoole-2-workers", "zwoole_server.py", arguments=("def", "2")),
    Peer("zwoole-4-workers", "zwoole_server.py", arguments=("def", "4")),
    Peer("websockets", "websockets_server.py", packages=("websockets", "uvloop")),
    Peer("picows", "picows_server.py", packages=("picows", "uvloop")),
    Peer("aiohttp", "aiohttp_server.py", packages=("aiohttp", "uvloop")),
    Peer("uvicorn", "uvicorn_server.py", packages=("uvicorn", "websockets", "uvloop")),
    Peer("granian", "granian_server.py", packages=("granian", "uvloop")),
    Peer("tornado", "tornado_server.py", packages=("tornado",)),
    Peer("socketify", "socketify_server.py", packages=("socketify",)),
    Peer(
        "gorilla",
        "gorilla_server.py",
        programs=("go",),
        folder="/usr/share/gocode/src/github.com/gorilla/websocket",
        install="apt-get install golang-go golang-github-gorilla-websocket-dev",
    ),
    Peer("ws", "ws_server.js", ("node",), npm=("ws",), programs=("node",), install="apt-get install nodejs npm"),
    Peer("bun", "bun_server.js", ("bun",), npm=("bun",)),
    Peer("deno", "deno_server.js", ("deno", "run", "--allow-net"), npm=("deno",)),
    _SWOOLE,
    replace(_SWOOLE, name="swoole-base", arguments=("base",)),
    _LIMIT,
    replace(_LIMIT, name="C-two-processes", arguments=("limit_two_processes.c",)),
)
