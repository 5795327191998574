"""How a server ends: gracefully when asked once, immediately when asked again, and without leaving anything behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.process.conftest import Serve
from tests.process.raw_client import CLOSE, PING, TEXT, RawClient, ServerFrame
from tests.process.server_process import ZWOOLE, ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole import Control, ControlFailed
from zwoole.supervisor.core.exit_codes import EXIT_FORCED
from zwoole.supervisor.lifecycle.shutdown import SECOND_SIGNAL_S

APP = """
    import os
    import subprocess
    import time
    from zwoole import Server

    server = Server()

    @server.on("message")
    {} on_message(server, frame):
        if frame.data.startswith("sleep "):
            print("sleeping", flush=True)
            time.sleep(float(frame.data.split()[1]))
        elif frame.data == "wait":
            print("waiting", flush=True)
            while not os.path.exists("go"):
                time.sleep(0.01)
        server.push(frame.fd, frame.data)

    @server.on("close")
    {} on_close(server, fd, code, reason, initiator):
        print("close", fd, code, initiator)

    server.start()
    print("start returned")
"""
SYNC = APP.format("def", "def")
HOUR_S = 3600
KINDS = {"def": SYNC, "async def": APP.format("async def", "async def")}


def close_code(client: ClientConnection) -> int:
    """Return the code with which the server closes a connection, skipping earlier replies."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            client.recv(PATIENCE_S)
    assert closed.value.rcvd is not None, "a bare end of the stream"
    return closed.value.rcvd.code


@contextmanager
def stuck(server: ServerProcess) -> Iterator[ClientConnection]:
    """Yield a client whose callback does not return."""
    with server.connect() as client:
        client.send("sleep 3600")
        server.wait_line("sleeping")
        yield client


def echo(client: ClientConnection, text: str) -> None:
    client.send(text)
    assert client.recv(PATIENCE_S) == text


# Asked to stop.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("app", KINDS.values(), ids=KINDS)
def test_stops_gracefully(serve: Serve, app: str, number: signal.Signals) -> None:
    server = serve(app, workers=2)
    with server.connect() as one, server.connect() as two, server.connect() as three:
        for client in (one, two, three):
            echo(client, "hello")
        server.send_signal(number)
        assert [close_code(client) for client in (one, two, three)] == [1001, 1001, 1001]
        assert server.wait() == 0
    server.assert_nothing_left()
    ends = sorted(line for line in server.lines() if line.startswith("close "))
    assert ends == [f"close {fd} 1001 server" for fd in (1, 2, 3)]
    assert server.lines()[-1] == "start returned"
    assert f"{number.name}: stopping" in server.log()
    assert "WARNING" not in server.log()


def test_is_quick_with_nobody_there(serve: Serve) -> None:
    server = serve(SYNC, workers=2, max_wait_time=HOUR_S)  # it is not waited for
    assert server.stop() == 0


def test_control_c_reaches_the_whole_group(serve: Serve) -> None:
    """A terminal sends SIGINT to all processes in the foreground; only the supervisor acts on it."""
    server = serve(SYNC, workers=2)
    with server.connect() as client:
        echo(client, "hello")
        server.family()
        os.killpg(server.process.pid, signal.SIGINT)
        assert close_code(client) == 1001
    assert server.wait() == 0
    server.assert_nothing_left()
    assert "KeyboardInterrupt" not in server.log()
    assert "close 1 1001 server" in server.lines()


def test_control_c_while_starting() -> None:
    """Even before the children have started to ignore it."""
    for _ in range(3):
        with ServerProcess(SYNC, workers=2) as server:
            server.start()
            wait_for(lambda server=server: len(server.family()) >= 3, "the children")
            os.killpg(server.process.pid, signal.SIGINT)
            assert server.wait() == 0
            server.assert_nothing_left()
            assert "Traceback" not in server.log()


def test_finishes_what_was_accepted(serve: Serve) -> None:
    server = serve(SYNC)
    with RawClient(server.port) as client:
        client.upgrade()
        texts = [b"sleep 0.5", *(b"%d" % number for number in range(20))]
        for text in texts:
            client.send_frame(TEXT, text)
        server.wait_line("sleeping")
        client.send_frame(PING, b"all taken in?")
        frames = [client.read_frame()]
        assert frames[0].payload == b"all taken in?"
        server.send_signal(signal.SIGTERM)
        frames = client.read_frames()
    assert frames[:-1] == [ServerFrame(TEXT, text) for text in texts]
    assert frames[-1].close_code == 1001
    assert server.wait() == 0


CUT_SHORT = """
    import asyncio
    from zwoole import Server
    server = Server(port=0, worker_num=1)

    @server.on("message")
    async def on_message(server, frame):
        print("waits", frame.fd, flush=True)
        await asyncio.sleep(3600)

    server.start()
"""


def test_callbacks_that_are_cancelled_are_named(serve: Serve) -> None:
    server = serve(CUT_SHORT, max_wait_time=0.1)
    with RawClient(server.port) as client, RawClient(server.port) as other:
        for fd, each in enumerate((client, other), 1):
            each.upgrade()
            each.send_frame(TEXT, b"hello")
            server.wait_line(f"waits {fd}")
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    words = "WARNING 2 callback(s) still ran when this worker ended, and were cancelled, such as"
    assert f"{words} 'message' of fd 1, 'message' of fd 2\n" in server.log()


def test_refuses_new_connections_while_stopping(serve: Serve) -> None:
    server = serve(SYNC)
    port = server.port
    with RawClient(port) as waiting, server.connect() as client:
        client.send("sleep 1")
        server.wait_line("sleeping")
        server.send_signal(signal.SIGTERM)
        assert waiting.read_rest().startswith(b"HTTP/1.1 503 ")
        with pytest.raises(ConnectionRefusedError):
            RawClient(port)
        assert close_code(client) == 1001
    assert server.wait() == 0


def test_a_client_that_never_answers_does_not_hold_it(serve: Serve) -> None:
    server = serve(SYNC, max_wait_time=HOUR_S, close_timeout=0.5)
    with RawClient(server.port) as client:
        client.upgrade()
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert [frame.opcode for frame in client.read_frames()] == [CLOSE]
    server.assert_nothing_left()


# Ends that are less graceful.


def test_a_client_that_keeps_the_connection_open_leaves_workers_time_for_their_end(serve: Serve) -> None:
    """It has answered the close frame; its silence must not use up the time of `worker_stop`."""
    app = SYNC.replace(
        "    server.start()",
        """
    @server.on("worker_stop")
    def on_worker_stop(server, worker_id):
        time.sleep(3)
        print("worker_stop ended", flush=True)

    server.start()""",
    )
    server = serve(app, max_wait_time=20.0)
    with RawClient(server.port) as client:
        client.upgrade()
        server.send_signal(signal.SIGTERM)
        assert client.read_frame().close_code == 1001
        client.send_frame(CLOSE, b"\x03\xe9")
        server.wait_line("worker_stop ended")
        assert server.wait() == 0
    server.assert_nothing_left()


def test_second_signal_forces(serve: Serve) -> None:
    server = serve(SYNC, max_wait_time=HOUR_S)
    with stuck(server):
        server.send_signal(signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGINT)  # a wrapper that forwards a signal sends it twice at once
        server.process.send_signal(signal.SIGCONT)
        server.wait_log(": stopping, for ")
        begun = time.monotonic()
        wait_for(lambda: time.monotonic() - begun > SECOND_SIGNAL_S + 0.1, "a person's patience to end")
        assert server.process.poll() is None, "the twin of the first signal is no second one"
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == EXIT_FORCED
        server.assert_nothing_left()
    assert "SIGTERM again: stopping at once" in server.log()


def test_a_callback_that_never_ends_is_killed_at_max_wait_time(serve: Serve) -> None:
    server = serve(SYNC, max_wait_time=1.0)
    with stuck(server) as client:
        server.send_signal(signal.SIGTERM)
        assert close_code(client) == 1001
        assert server.wait() == EXIT_FORCED
    server.assert_nothing_left()
    assert "worker 0" in server.log()
    assert "did not stop in time: killed" in server.log()


def test_the_command_says_that_it_was_by_force(serve: Serve) -> None:
    server = serve(SYNC, max_wait_time=0.1)
    with stuck(server):
        server.family()
        stopped = zwoole(server, "stop", "--run-dir", str(server.run_dir))
        assert server.wait() == EXIT_FORCED
    assert (stopped.returncode, stopped.stdout) == (EXIT_FORCED, "")
    assert stopped.stderr.endswith("in time was killed; its log says what (exit code 4)\n")
    assert server.folder.exists() and not server.run_dir.exists()


def test_the_command_says_that_the_server_was_killed_meanwhile(serve: Serve) -> None:
    server = serve(SYNC, max_wait_time=HOUR_S)
    with stuck(server), ThreadPoolExecutor(1) as executor:
        stopping = executor.submit(zwoole, server, "stop", "--run-dir", str(server.run_dir))
        server.wait_log("zwoole stop: stopping")
        server.send_signal(signal.SIGKILL)
        stopped = stopping.result()
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert stopped.stderr.endswith(
        "zwoole: the server was killed, or failed, before it had stopped; its log may say why\n"
    )
    server.wait()
    server.assert_nothing_left()


def test_the_command_waits_though_the_run_directory_is_removed(serve: Serve) -> None:
    server = serve(SYNC, max_wait_time=HOUR_S)
    with server.connect() as client, ThreadPoolExecutor(1) as executor:
        client.send("wait")
        server.wait_line("waiting")
        stopping = executor.submit(zwoole, server, "stop", "--run-dir", str(server.run_dir))
        server.wait_log("zwoole stop: stopping")
        shutil.rmtree(server.run_dir)
        server.wait_log("was removed, and was made again")
        server.write("go", "")
        stopped = stopping.result()
    assert (stopped.returncode, stopped.stdout) == (0, f"stopped (pid {server.process.pid})\n")
    assert server.wait() == 0
    server.assert_nothing_left()


def test_control_raises_where_it_was_by_force(serve: Serve) -> None:
    server = serve(SYNC, max_wait_time=0.1)
    with stuck(server):
        server.family()
        with pytest.raises(ControlFailed, match="stopped by force") as caught:
            Control(server.run_dir).stop()
        assert caught.value.exit_code == server.wait() == EXIT_FORCED


def test_sigquit_stops_at_once(serve: Serve) -> None:
    server = serve(SYNC, max_wait_time=HOUR_S)
    with stuck(server):
        server.send_signal(signal.SIGQUIT)
        assert server.wait() == EXIT_FORCED
    server.assert_nothing_left()


# The zwoole command.


def zwoole(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `zwoole` in the server's environment."""
    environment = {**os.environ, "TMPDIR": str(server.folder)}
    command = [str(ZWOOLE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)


def test_status_and_stop(serve: Serve) -> None:
    server = serve(SYNC, workers=2)
    run_dir = ("--run-dir", str(server.run_dir))
    with server.connect() as client:
        echo(client, "hello")
        text = zwoole(server, "status", *run_dir)
        assert text.returncode == 0, text.stderr
        assert text.stdout.startswith(f"serving {server.app} on 127.0.0.1:{server.port}, up ")
        assert "\nconnections 1, waiting to be sent 0 B\n" in text.stdout
        assert "\nmessages in 1 (0/s, 0 B/s), out 1 (0/s, 0 B/s)\n" in text.stdout
        for role, pids in (("master", server.pids("master")), ("worker", server.pids("worker"))):
            for index, pid in enumerate(pids):
                assert re.search(rf"^{role} {index} +{pid}  ready ", text.stdout, re.MULTILINE)
        status = json.loads(zwoole(server, "status", "--json", *run_dir).stdout)
        assert status["pid"] == server.process.pid
        assert status["listening"] == [f"127.0.0.1:{server.port}"]
        assert status["masters"][0]["connections"] == 1
        server.family()
        server_port = server.port
        stopped = zwoole(server, "stop", "--port", str(server_port))
        assert (stopped.returncode, stopped.stdout) == (0, f"stopped (pid {server.process.pid})\n")
        named = f"zwoole: {server.app} on 127.0.0.1:{server_port}, run directory {server.run_dir}\n"
        assert stopped.stderr == named
        assert server.alive() == [], "stop waits for the end"
        assert close_code(client) == 1001
    assert server.wait() == 0
    assert "zwoole stop: stopping, for 10 s at most" in server.log()
    server.assert_nothing_left()


def test_stop_as_json(serve: Serve) -> None:
    server = serve(SYNC)
    server.family()
    stopped = zwoole(server, "stop", "--json", "--run-dir", str(server.run_dir))
    result = json.loads(stopped.stdout)
    assert (result["stopped"], result["pid"]) == (True, server.process.pid)
    assert (result["server"]["target"], result["server"]["run_dir"]) == (str(server.app), str(server.run_dir))
    assert server.wait() == 0


@pytest.mark.parametrize("command", ["status", "stop"])
def test_no_server(serve: Serve, command: str) -> None:
    server = ServerProcess(SYNC)
    with server:
        nowhere = zwoole(server, command)
        assert (nowhere.returncode, nowhere.stdout) == (1, "")
        assert nowhere.stderr.startswith("zwoole: no server is running (looked in ")
        there = zwoole(server, command, "--run-dir", str(server.folder / "none"))
        assert (there.returncode, there.stderr) == (1, f"zwoole: no server is running in {server.folder}/none\n")


def test_several_servers(serve: Serve) -> None:
    """If several run, the command asks which; a single one needs no name."""
    command = [str(ZWOOLE), "run", "app.py", "--port", "0", "--workers", "1"]
    with ServerProcess(SYNC, command=command) as one, ServerProcess(SYNC, command=command) as two:
        for server in (one, two):
            server.start({"TMPDIR": str(one.folder)})
            server.wait_log("run directory ")
        asked = zwoole(one, "status")
        assert asked.returncode == 1
        assert asked.stderr.startswith("zwoole: several servers are running; say which, with --run-dir or --port:\n")
        run_dirs = [line.partition(": --run-dir ")[2] for line in asked.stderr.splitlines()[1:]]
        assert len(run_dirs) == 2
        named = json.loads(zwoole(one, "status", "--json", "--run-dir", run_dirs[0]).stdout)
        stopped, left = (one, two) if named["pid"] == one.process.pid else (two, one)
        assert zwoole(one, "stop", "--run-dir", run_dirs[0]).returncode == 0
        assert stopped.wait(1) == 0
        assert json.loads(zwoole(one, "status", "--json").stdout)["pid"] == left.process.pid
        assert zwoole(one, "stop").returncode == 0
        assert left.wait(1) == 0


def test_an_inspecting_python_ends_its_workers_in_order_too() -> None:
    """PYTHONINSPECT makes Python prompt after the end of its program: that concerns the user who started the server."""
    with ServerProcess(SYNC) as server:
        server.start({"PYTHONINSPECT": "1"})
        server.wait_ready()
        server.stop()
        assert "listening on" in server.log()
        assert "exited with code" not in server.log()
