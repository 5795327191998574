"""Controlling a running server from outside with `zwoole.Control`: listing its clients, pushing to them, closing
them.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess

import pytest
import zmq
from websockets.exceptions import ConnectionClosed

from tests.process.conftest import Serve
from tests.process.server_process import ZWOOLE
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole import Control, ControlFailed
from zwoole.shared.process import control_messages
from zwoole.shared.process.run_files import control_address

APP = """
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        server.push(frame.fd, frame.data)

    server.start()
"""


@pytest.mark.parametrize("reactors", [1, 2])
def test_clients(serve: Serve, reactors: int) -> None:
    server = serve(APP, workers=2, reactor_num=reactors)
    control = Control(server.run_dir)
    assert control.connections() == {"total": 0, "connections": []}
    with server.connect("/one") as one, server.connect("/two") as two:
        listed = control.connections()
        assert listed["total"] == 2
        by_path = {connection["path"]: connection for connection in listed["connections"]}
        for path, client in (("/one", one), ("/two", two)):
            assert by_path[path]["address"] == f"127.0.0.1:{client.socket.getsockname()[1]}"
            assert (by_path[path]["state"], by_path[path]["queued_bytes"]) == ("open", 0)
            assert 0 <= by_path[path]["age_s"] < 10
        assert control.push(by_path["/two"]["fd"], "to two")
        assert two.recv(PATIENCE_S) == "to two"
        assert control.push(by_path["/one"]["fd"], b"to one")
        assert one.recv(PATIENCE_S) == b"to one"
        assert control.broadcast("to all") == 2
        assert (one.recv(PATIENCE_S), two.recv(PATIENCE_S)) == ("to all", "to all")
        assert control.kick(by_path["/one"]["fd"], 4001, "enough") == 1
        with pytest.raises(ConnectionClosed) as closed:
            one.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "enough")
        wait_for(lambda: control.connections()["total"] == 1, "it to be gone")
        assert control.kick(by_path["/one"]["fd"]) == 0
        assert not control.push(by_path["/one"]["fd"], "nobody")
        assert control.kick(None) == 1
        with pytest.raises(ConnectionClosed) as closed:
            two.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_limit_of_the_list(serve: Serve) -> None:
    server = serve(APP)
    with server.connect(), server.connect(), server.connect():
        listed = Control(server.run_dir).connections(2)
    assert (listed["total"], [connection["fd"] for connection in listed["connections"]]) == (3, [1, 2])


def test_what_cannot_be_is_said(serve: Serve) -> None:
    control = Control(serve(APP).run_dir)
    with pytest.raises(ControlFailed, match="1005 is no close code that may be sent"):
        control.kick(None, 1005)
    with pytest.raises(ControlFailed, match="a reason has at most 123 bytes"):
        control.kick(None, 1008, "x" * 124)
    with pytest.raises(ControlFailed, match="bytes are more than the control socket takes"):
        control.broadcast("x" * (1 << 20))


def test_processes(serve: Serve) -> None:
    server = serve(APP)
    control = Control(server.run_dir)
    assert control.workers(by=1) == 2
    assert control.workers(4) == 4
    server.workers = 4
    server.wait_ready()
    assert control.workers(2) == 2
    server.workers = 2
    server.wait_ready()
    assert control.reload() == 2
    (process,) = [one for one in control.status()["processes"] if one["role"] == "master"]
    assert process["memory_bytes"] > 1 << 20
    assert process["cpu_s"] > 0
    (master,) = control.status()["masters"]
    assert 0 <= master["loop_lag_s"] < 10
    server.family()
    assert control.stop() == server.process.pid
    assert server.wait() == 0


MALFORMED = [
    b"",
    b"\xc1 not msgpack",
    control_messages.pack("hello", role="worker"),
    control_messages.pack("ready", incarnation="x"),
    control_messages.pack("request", what="workers", by="two"),
    control_messages.pack("request", id=1, what="workers", by="two"),
    control_messages.pack("request", id=1, what="workers", to=-5),
    control_messages.pack("request", id=1, what="stop", drain="soon"),
    control_messages.pack("request", id=1, what="stop", drain=float("nan")),
    control_messages.pack("request", id=1, what="push", fd=1 << 63, data="x"),
    control_messages.pack("request", id=1, what="connections", limit=None),
    control_messages.pack("request", id=1, what="status", identity=b"x"),
    control_messages.pack("request", id=1, what="who are you"),
    b"x" * (2 << 20),
]


def test_malformed_messages_are_answered_and_end_nothing(serve: Serve) -> None:
    server = serve(APP)
    before = server.pids("worker") + server.pids("master")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(control_address(server.run_dir))
        for message in MALFORMED:
            dealer.send(message)
            assert dealer.poll(PATIENCE_S * 1000), f"no answer to {message[:50]!r}"
            assert "error" in control_messages.unpack(dealer.recv())
    assert server.pids("worker") + server.pids("master") == before
    with pytest.raises(ControlFailed, match="there are 1 worker"):
        Control(server.run_dir).workers(by=-1)


SLOW = """
    import os
    import time
    from zwoole import Server

    server = Server()

    while os.path.exists("wait"):
        print("importing", flush=True)
        time.sleep(0.01)

    @server.on("message")
    def on_message(server, frame):
        pass

    server.start()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_reload_ends_with_the_server(serve: Serve, number: signal.Signals) -> None:
    """Otherwise it would wait for two minutes for the answer of a server that is gone."""
    server = serve(SLOW)
    server.write("wait", "")
    command = [str(ZWOOLE), "reload", "--run-dir", str(server.run_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reload:
        server.wait_line("importing")
        server.send_signal(number)
        server.wait()
        out, err = reload.communicate(timeout=PATIENCE_S)
    assert (reload.returncode, out) == (1, "")
    assert err.endswith(f"zwoole: the server in {server.run_dir} has ended before it answered\n")
    server.assert_nothing_left()


def test_restarts_are_counted(serve: Serve) -> None:
    server = serve(APP)
    for role in ("worker", "master"):
        os.kill(server.pids(role)[0], signal.SIGKILL)
        server.wait_log(f"{role} 0 (pid")
        wait_for(lambda role=role: restarts(Control(server.run_dir), role) == 1, "its restart")


def restarts(control: Control, role: str) -> int:
    return sum(int(one["restarts"]) for one in control.status()["processes"] if one["role"] == role)


def test_status_on_a_terminal_is_a_table_in_colours_and_plain_lines_in_a_pipe(serve: Serve) -> None:
    server = serve(APP, workers=2)
    command = [str(ZWOOLE), "status", "--run-dir", str(server.run_dir)]
    names = ["master 0", "worker 0", "worker 1"]
    reader, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run(command, stdout=terminal, env=environment, check=True, timeout=PATIENCE_S)
    os.close(terminal)
    shown = os.read(reader, 65536).decode()
    os.close(reader)
    assert f"\x1b[1;32m● serving\x1b[0m {server.app} on 127.0.0.1:" in shown
    assert re.findall(r"(?:master|worker) \d", shown) == names
    to_pipes = subprocess.run(command, env=environment, check=True, timeout=PATIENCE_S, capture_output=True, text=True)
    piped = to_pipes.stdout
    assert "\x1b" not in piped
    assert re.findall(r"^(?:master|worker) \d", piped, re.MULTILINE) == names
