"""Hung processes are ended, with their stacks in the log; processes that only wait, or are stopped, are left alone."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from websockets.exceptions import ConnectionClosed

from tests.process.conftest import Serve
from tests.process.server_process import ServerProcess
from tests.process.test_deaths import close_code, who_serves
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.supervisor.core.exit_codes import EXIT_BOOT_FAILED

APP = """
    import asyncio
    import os
    import time
    from zwoole import Server

    server = Server()

    def stuck_in_a_callback():
        while True:
            time.sleep(60)

    @server.on("message")
    {0} on_message(server, frame):
        if frame.data == "hang":
            stuck_in_a_callback()
        server.push(frame.fd, str(os.getpid()))

    server.start()
"""
KINDS = {"def": APP.format("def"), "async def": APP.format("async def")}
TIMEOUT_S = 8.0  # in which processes that do not hang turn, even on a busy machine
BOOT_S = (3.0, 15.0, 60.0)  # tried in turn: a machine may be too slow to boot the others within the first


@pytest.mark.parametrize("app", KINDS.values(), ids=KINDS)
def test_worker_that_hangs(serve: Serve, app: str) -> None:
    """Its stacks are logged, and its connections move to the next worker, except the one that it hung in."""
    server = serve(app, worker_timeout=TIMEOUT_S)
    (pid,) = server.pids("worker")
    with server.connect() as other, server.connect() as client:
        assert who_serves(other) == who_serves(client) == pid
        client.send("hang")
        assert close_code(client) == 1011
        assert who_serves(other) != pid
    log = server.wait_log("was ended by zwoole with SIGABRT")
    why = f"it hangs: its loop has not turned for {TIMEOUT_S:g} s (worker_timeout)"
    assert f"killing worker 0 (pid {pid}): {why}; stack dump follows" in log
    assert "in stuck_in_a_callback" in log
    assert f"worker 0 (pid {pid}) was ended by zwoole with SIGABRT: {why}" in log


def test_worker_that_ignores_sigabrt(serve: Serve) -> None:
    """A process that survives SIGABRT is killed."""
    app = KINDS["def"].replace("server = Server()", "server = Server()\n    import signal")
    app = app.replace("while True:", "signal.signal(signal.SIGABRT, signal.SIG_IGN)\n        while True:")
    server = serve(app, worker_timeout=TIMEOUT_S)
    with server.connect() as client:
        client.send("hang")
        assert close_code(client) == 1011
    log = server.wait_log("was ended by zwoole with SIGKILL: it hangs")
    assert "out of memory?" not in log


def test_waiting_is_not_hanging(serve: Serve) -> None:
    """An idle worker turns, and so does a coroutine that awaits for long, and a series of slow callbacks."""
    app = """
        import asyncio
        import time
        from zwoole import Server

        server = Server()

        @server.handler("/await")
        async def handler(ws):
            await ws.recv()
            await asyncio.sleep(5)
            await ws.send("awaited")

        @server.on("message")
        def on_message(server, frame):
            time.sleep(0.1)
            server.push(frame.fd, frame.data)

        server.start()
    """
    server = serve(app, worker_timeout=TIMEOUT_S)
    before = server.pids("worker")
    with server.connect("/await") as client, server.connect() as busy:
        client.send("go")
        for number in range(50):
            busy.send(str(number))
        assert [busy.recv(PATIENCE_S) for _ in range(50)] == [str(number) for number in range(50)]
        assert client.recv(PATIENCE_S) == "awaited"
    assert server.pids("worker") == before
    assert "hangs" not in server.log()


@pytest.mark.parametrize("role", ["worker", "master"])
def test_stopped_process(serve: Serve, role: str) -> None:
    server = serve(KINDS["def"], worker_timeout=TIMEOUT_S)
    (pid,) = server.pids(role)
    with server.connect() as client:
        serving = who_serves(client)
        os.kill(pid, signal.SIGSTOP)
        log = server.wait_log("does not respond but is left alone: it is stopped; SIGCONT lets it go on")
        assert f"{role} 0 (pid {pid})" in log
        begun = time.monotonic()
        wait_for(lambda: time.monotonic() - begun > TIMEOUT_S + 2, "the time to pass")
        os.kill(pid, signal.SIGCONT)
        assert who_serves(client) == serving
    assert server.pids(role) == [pid]
    assert "hangs" not in server.log()
    assert server.log().count("is left alone") == 1


HANGS_AT_SIGVTALRM = """
    import signal
    import sys
    import time

    def hang(number, frame):
        while True:
            time.sleep(60)

    if any("zwoole.reactor" in argument for argument in sys.orig_argv):
        signal.signal(signal.SIGVTALRM, hang)
"""


def test_master_that_hangs() -> None:
    """Another one takes over the same port."""
    with ServerProcess(KINDS["def"], worker_timeout=TIMEOUT_S) as server:
        server.write("sitecustomize.py", HANGS_AT_SIGVTALRM)
        server.start({"PYTHONPATH": str(server.folder)}).wait_ready()
        (pid,) = server.pids("master")
        with server.connect() as client:
            who_serves(client)
            os.kill(pid, signal.SIGVTALRM)
            with pytest.raises(ConnectionClosed):
                client.recv(PATIENCE_S)
        log = server.wait_log(f"master 0 (pid {pid}) was ended by zwoole with SIGABRT: it hangs")
        assert f"killing master 0 (pid {pid}): it hangs: its loop has not turned for {TIMEOUT_S:g} s" in log
        assert "in hang" in log
        server.wait_ready()
        with server.connect() as client:
            assert who_serves(client) == server.pids("worker")[0]


def test_app_that_never_comes_to_serve() -> None:
    source = """
        import sys
        import time
        from zwoole import Server

        server = Server()

        @server.on("worker_start")
        def waits_for_a_database(server, worker_id):
            time.sleep(3600)

        server.on("message", lambda server, frame: None)
        server.start()
    """
    for seconds in BOOT_S:
        with ServerProcess(source, boot_timeout=seconds) as server:
            server.start()
            assert server.wait(PATIENCE_S + 3 * seconds) == EXIT_BOOT_FAILED
            log = server.log()
        if "master 0 was ended" not in log and log.count("in waits_for_a_database") == 3:
            break
    words = f"does not become ready: no hello after {seconds:g} s (boot_timeout); stack dump follows"
    assert len(re.findall(rf"killing worker 0 \(pid \d+\): it {re.escape(words)}", log)) == 3
    assert log.count(words) == 3
    assert log.count("in waits_for_a_database") == 3
    assert "the app does not boot: giving up after 3 tries" in log
