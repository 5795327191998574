"""A run directory on a full disk: new processes are refused in one line, running ones continue, and none gets
SIGBUS.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.shared.errors import ZwooleError
from zwoole.supervisor.system.run_directory_upkeep import LINK_BYTES, PROCESS_BYTES

APP = """
    import os
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        server.push(frame.fd, str(os.getpid()))

    server.start()
"""
# Before it starts: the supervisor sees a full file system as long as the file "full" exists.
FAULTY = """
    import errno
    import os
    from zwoole import Server

    reserve = os.posix_fallocate
    full = os.path.abspath("full")

    def posix_fallocate(descriptor, start, size):
        if os.path.exists(full):
            number = getattr(errno, open(full).read())
            raise OSError(number, os.strerror(number))
        reserve(descriptor, start, size)

    os.posix_fallocate = posix_fallocate
    server = Server()

    @server.on("message")
    def on_message(server, frame):
        server.push(frame.fd, str(os.getpid()))

    server.start()
"""


@contextmanager
def small_disk(server: ServerProcess, size: str) -> Iterator[Path]:
    """Yield a file system of this size with the server's run directory in it; skip the test if none is allowed."""
    disk = server.folder / "d"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(disk)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    server.run_dir = disk / "run"
    server.command[server.command.index("--run-dir") + 1] = str(server.run_dir)
    try:
        yield disk
    finally:
        server.finish()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Leave no room on a disk."""
    with (disk / "filler").open("ab", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


def process(server: ServerProcess, role: str, id: int = 0) -> dict[str, Any]:
    """Return the row of `status` for the newest process of a worker id, as soon as it serves."""

    def found() -> dict[str, Any]:
        there = [one for one in server.report()["processes"] if (one["role"], one["id"]) == (role, id)]
        return there[-1] if there and there[-1]["ready"] else {}

    return wait_for(found, f"{role} {id} to serve")


def wait_for_lack(server: ServerProcess) -> None:
    """Wait until there was no room for one process, not for the many of a reload."""
    size = f"{PROCESS_BYTES + LINK_BYTES} bytes"
    server.wait_log(
        f"nothing can be started, trying again: no space left in the run directory {server.run_dir} for {size}"
    )


def assert_in_order(server: ServerProcess) -> None:
    """Check that no process was ended by a fault of its own."""
    for trace in ("Traceback", "SIGBUS", "Bus error"):
        assert trace not in server.log()


@pytest.mark.parametrize("size", ["4k", "16k"])
def test_a_server_does_not_start_without_room(size: str) -> None:
    with ServerProcess(APP) as server, small_disk(server, size):
        server.start()
        assert server.wait() == 1
        (line,) = server.log().splitlines()
        where = f"the run directory {server.run_dir}"
        assert line.startswith((f"zwoole: no space left in {where} for ", f"zwoole: cannot write in {where}: "))
        assert line.endswith(": No space left on device")
        server.assert_nothing_left()


def test_what_runs_goes_on_when_the_disk_is_full_and_the_rest_follows_when_it_has_room() -> None:
    with ServerProcess(APP, workers=2) as server, small_disk(server, "2m") as disk, ExitStack() as connections:
        server.serve()
        fill(disk)
        clients = [connections.enter_context(server.connect()) for _ in range(250)]
        for client in clients:
            client.send("who are you?")
        answers = {client.recv(PATIENCE_S) for client in clients}
        assert len(answers) == 2
        with pytest.raises(ZwooleError, match=r"reload failed, the old workers stay in service: no space left in "):
            server.reload()
        killed = process(server, "worker", 1)["pid"]
        os.kill(killed, signal.SIGKILL)
        fill(disk)
        wait_for_lack(server)
        assert process(server, "worker", 0)
        (disk / "filler").unlink()
        wait_for(lambda: process(server, "worker", 1)["pid"] != killed, "another worker")
        server.reload()
        for client in clients:
            client.send("who are you?")
            client.recv(PATIENCE_S)
        connections.close()
        assert server.stop() == 0
        assert_in_order(server)


def test_a_master_that_dies_on_a_full_disk_is_replaced_when_there_is_room() -> None:
    with ServerProcess(APP) as server, small_disk(server, "1m") as disk:
        server.serve()
        fill(disk)
        killed = process(server, "master")["pid"]
        os.kill(server.process.pid, signal.SIGSTOP)  # until something else takes the room that the master had
        os.kill(killed, signal.SIGKILL)
        for left in server.run_dir.glob("*.m*"):
            left.unlink()
        fill(disk)
        os.kill(server.process.pid, signal.SIGCONT)
        wait_for_lack(server)
        (disk / "filler").unlink()
        wait_for(lambda: process(server, "master")["pid"] != killed, "another master")
        server.wait_ready()
        with server.connect() as client:
            client.send("who are you?")
            assert client.recv(PATIENCE_S)
        assert server.stop() == 0
        assert_in_order(server)


@pytest.mark.parametrize(("number", "words"), [("ENOSPC", "No space left on device"), ("EDQUOT", "Disk quota")])
def test_a_server_does_not_start_on_a_disk_that_is_full(number: str, words: str) -> None:
    with ServerProcess(FAULTY) as server:
        server.write("full", number)
        server.start()
        assert server.wait() == 1
        (line,) = server.log().splitlines()
        assert line.startswith(f"zwoole: no space left in the run directory {server.run_dir} for ")
        assert words in line
        server.assert_nothing_left()


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EFBIG"])
def test_a_disk_that_becomes_full_keeps_what_runs(number: str) -> None:
    with ServerProcess(FAULTY, workers=2) as server:
        server.serve()
        server.write("full", number)
        with server.connect() as client:
            with pytest.raises(ZwooleError, match="reload failed, the old workers stay in service: no space left"):
                server.reload()
            client.send("who are you?")
            assert client.recv(PATIENCE_S)
        os.kill(process(server, "worker", 1)["pid"], signal.SIGKILL)
        wait_for_lack(server)
        (server.folder / "full").unlink()
        server.wait_ready()
        server.reload()
        assert server.stop() == 0
        assert_in_order(server)


def test_a_limit_of_file_sizes_is_one_line_at_the_start() -> None:
    with ServerProcess(APP) as server:
        server.command = ["sh", "-c", 'ulimit -f 16 && exec "$@"', "sh", *server.command]
        server.start()
        assert server.wait() == 1
        (line,) = server.log().splitlines()
        assert line.startswith(f"zwoole: no space left in the run directory {server.run_dir} for ")
        assert line.endswith(": File too large")
        server.assert_nothing_left()
