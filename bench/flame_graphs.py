"""Flame graphs of a master and a worker under load, sampled by py-spy: `make profile`.

The server is the one of the comparison, the load is `zwoole bench`. py-spy reads the stacks of a process from outside,
those of C code too, so that compiled modules, ZeroMQ and system calls are in the picture. It needs the right to trace
the processes: root, or `sysctl kernel.yama.ptrace_scope=0`.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import click

from zwoole.bench.compare.peer import Peer
from zwoole.bench.compare.peer_process import HOST, PeerError, PeerProcess

SAMPLES_PER_S = 200
WARMUP_S = 2.0
LEAD_S = 4.0  # the load is at work for longer than py-spy, which takes a moment to attach to a process
PROGRAMS = {"master": "zwoole.reactor", "worker": "zwoole.workers"}  # how to know a process by its command line


@click.command(context_settings={"show_default": True})
@click.option("--style", type=click.Choice(["def", "async", "handler"]), default="def", help="What echoes.")
@click.option("-c", "--connections", default=100, help="How many connections send.")
@click.option("--depth", default=16, help="Messages outstanding on each connection.")
@click.option("--size", default="64", help="Bytes per message, as for `zwoole bench`.")
@click.option("--seconds", default=10, help="For how long the processes are sampled.")
@click.option("--folder", type=click.Path(path_type=Path), default="build/profile", help="Where the images go.")
def main(style: str, connections: int, depth: int, size: str, seconds: int, folder: Path) -> None:
    """Load an echo server, sample its master and its worker, and write a flame graph of each."""
    if py_spy() is None:
        raise click.ClickException(f"py-spy is not installed: {sys.executable} -m pip install py-spy")
    folder.mkdir(parents=True, exist_ok=True)
    options = [f"--connections={connections}", f"--depth={depth}", f"--size={size}"]
    try:
        with PeerProcess(Peer("zwoole", "zwoole_server.py", arguments=(style,))) as server:
            problem = sample(server, options, seconds, folder)
    except PeerError as error:
        problem = str(error)
    if problem:
        raise click.ClickException(problem)
    for role in PROGRAMS:
        click.echo(f"{role}: {image_of(role, folder)}")


def sample(server: PeerProcess, load_options: list[str], seconds: int, folder: Path) -> str:
    """Load a server and sample its processes meanwhile.

    Returns:
        What went wrong, "" if nothing did.
    """
    load_options = [*load_options, f"--warmup={WARMUP_S}", f"--duration={seconds + LEAD_S}"]
    url = f"ws://{HOST}:{server.port}/"
    with subprocess.Popen([sys.executable, "-m", "zwoole", "bench", url, *load_options]) as load:
        time.sleep(WARMUP_S)
        samplers = {role: start_sampler(role, server, seconds, folder) for role in PROGRAMS}
        said = {role: sampler.communicate()[0] for role, sampler in samplers.items()}
    if load.returncode != 0:
        return f"zwoole bench ended with code {load.returncode}"
    problems = [f"py-spy cannot sample the {role}: {said[role]}" for role in PROGRAMS if samplers[role].returncode != 0]
    return "\n".join(problems)


def start_sampler(role: str, server: PeerProcess, seconds: int, folder: Path) -> "subprocess.Popen[str]":
    """Start py-spy for the first process of a role."""
    pid = next(process.pid for process in server.processes() if PROGRAMS[role] in process.cmdline())
    options = ["--native", "--rate", str(SAMPLES_PER_S), "--duration", str(seconds), "--output", image_of(role, folder)]
    return subprocess.Popen(
        [str(py_spy()), "record", "--pid", str(pid), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def py_spy() -> str | None:
    """Return the program: the one on the PATH, or else the one beside this Python; None if there is neither."""
    return shutil.which("py-spy") or shutil.which("py-spy", path=Path(sys.executable).parent)


def image_of(role: str, folder: Path) -> str:
    """Return where the flame graph of a role is."""
    return str(folder / f"{role}.svg")


if __name__ == "__main__":
    main()
