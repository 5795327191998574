"""Workers that fail to boot or are slow: visible from outside, in the exit code, and not waited for by a stop."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.process.conftest import Serve
from tests.process.server_process import ZWOOLE, ServerProcess, free_ports
from tests.process.test_admin_process import get
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.supervisor.core.exit_codes import EXIT_BOOT_FAILED
from zwoole.testing import ServerFailed, Serving

# Worker 0 fails in worker_start while a file exists.
FAILS = """
    from pathlib import Path
    from zwoole import Server

    server = Server()

    @server.on("worker_start")
    def on_worker_start(server, worker_id):
        if worker_id == 0 and Path("broken").exists():
            raise ConnectionError("no database")

    @server.on("message")
    def on_message(server, frame):
        server.push(frame.fd, frame.data)

    server.start()
"""

HANGS = """
    import asyncio
    import time
    from zwoole import Server

    server = Server()

    @server.on("worker_start")
    {0}

    @server.on("message")
    def on_message(server, frame):
        pass

    server.start()
"""
ENDLESS = {
    "async def": HANGS.format(
        """async def on_worker_start(server):
        print("begun", flush=True)
        while True:
            await asyncio.sleep(0.1)"""
    ),
    "def": HANGS.format(
        """def on_worker_start(server):
        print("begun", flush=True)
        while True:
            time.sleep(0.1)"""
    ),
}


def test_one_worker_that_does_not_boot_ends_the_start() -> None:
    with ServerProcess(FAILS, workers=2) as server:
        server.write("broken", "")
        server.start()
        assert server.wait() == EXIT_BOOT_FAILED
        log = server.log()
        assert log.count("ConnectionError: no database") == 3
        assert "listening on" not in log


def test_the_tests_of_an_app_fail_with_its_log() -> None:
    source = FAILS.replace('Path("broken").exists()', "True")
    with ServerProcess(source) as folder, pytest.raises(ServerFailed, match="no database"):  # noqa: SIM117
        with Serving(folder.app, worker_num=2):
            raise AssertionError("it must not serve")


def test_a_worker_that_is_missing_later_is_seen_and_comes_back(serve: Serve) -> None:
    port = free_ports(1)[0]
    server = serve(FAILS, workers=2, admin_port=port)
    assert get(port, "/readyz") == (200, "ready\n")
    server.write("broken", "")
    os.kill(server.pids("worker")[0], signal.SIGKILL)
    wait_for(lambda: "failed boots" in get(port, "/readyz")[1], "the absence")
    status, body = get(port, "/readyz")
    assert status == 200
    assert body.startswith("ready, but not complete: worker 0: ")
    assert body.endswith("last: exit 3\n")
    page = get(port, "/metrics")[1]
    assert "zwoole_workers_wanted 2.0" in page
    assert "zwoole_workers_ready 1.0" in page
    assert 'zwoole_failed_boots_total{worker="0"}' in page
    (missing,) = server.status()["missing"]
    assert (missing["role"], missing["id"], missing["last"]) == ("worker", 0, "exit 3")
    command = [str(ZWOOLE), "status", "--run-dir", str(server.run_dir)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout
    assert shown.splitlines()[-1].startswith("worker 0: ")
    with server.connect() as client:
        client.send("x")
        assert client.recv(PATIENCE_S) == "x"
    (server.folder / "broken").unlink()
    wait_for(lambda: get(port, "/readyz") == (200, "ready\n"), "its successor to serve")
    assert server.status()["missing"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_stop_does_not_wait_for_an_endless_worker_start(kind: str, number: signal.Signals) -> None:
    """A worker that has never served has nothing to finish: the stop neither waits nor logs a kill."""
    with ServerProcess(ENDLESS[kind]) as server:
        server.start()
        wait_for(lambda: "begun" in server.lines(), "worker_start")
        assert server.stop(number) == 0
        assert "did not stop in time" not in server.log()
