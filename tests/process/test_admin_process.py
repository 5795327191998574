"""The admin listener of a real server: metrics, health, readiness in each state of the server, and access."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.process.conftest import Serve
from tests.process.server_process import EXAMPLES, ServerProcess, free_ports
from tests.process.waiting import PATIENCE_S, wait_for

SLOW_START = """
import time
from pathlib import Path
from zwoole import Server

server = Server()

@server.on("worker_start")
def on_worker_start(server, worker_id):
    while not Path("go").exists():
        time.sleep(0.01)

@server.on("message")
def on_message(server, frame):
    Path("running").touch()
    while not Path("finish").exists():
        time.sleep(0.01)

server.start()
"""


def get(port: int, path: str, token: str = "") -> tuple[int, str]:
    """Return status and body; status 0 if nothing answers."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_metrics_can_be_parsed_and_have_what_happened(serve: Serve) -> None:
    port = free_ports(1)[0]
    server = serve(EXAMPLES / "echo.py", admin_port=port)
    with server.connect() as client:
        client.send("x")
        client.recv()

    def received() -> float:
        status, page = get(port, "/metrics")
        assert status == 200
        families = {family.name: family for family in text_string_to_metric_families(page)}
        return sum(sample.value for sample in families["zwoole_received_messages"].samples)

    wait_for(lambda: received() == 1, "the message to be counted")
    assert get(port, "/")[0] == 404


def test_nobody_listens_unless_asked_to(serve: Serve) -> None:
    assert "admin listener" not in serve(EXAMPLES / "echo.py").log()


def test_ready_follows_the_servers_state() -> None:
    port = free_ports(1)[0]
    with ServerProcess(SLOW_START, admin_port=port) as server:
        server.start()
        wait_for(lambda: get(port, "/healthz")[0] == 200, "the supervisor to live")
        assert get(port, "/readyz")[0] == 503  # starting
        wait_for(lambda: get(port, "/readyz")[1] == "not ready: worker 0: starting\n", "the master to be ready")
        (server.folder / "go").touch()
        wait_for(lambda: get(port, "/readyz") == (200, "ready\n"), "the worker to serve")
        with server.connect() as client:
            client.send("x")
            wait_for((server.folder / "running").exists, "the callback to begin")
            server.send_signal(15)
            wait_for(lambda: get(port, "/readyz") == (503, "not ready: the server is stopping\n"), "the stop to begin")
            assert get(port, "/healthz") == (200, "ok\n")  # stopping
            (server.folder / "finish").touch()
        assert server.wait() == 0
        assert get(port, "/healthz")[0] == 0


def test_without_its_worker_a_server_is_not_ready(serve: Serve) -> None:
    port = free_ports(1)[0]
    server = serve(SLOW_START.replace('while not Path("go")', 'while Path("wait")'), admin_port=port)
    assert get(port, "/readyz")[0] == 200
    (server.folder / "wait").touch()
    psutil.Process(server.pids("worker")[0]).kill()
    wait_for(lambda: "last: SIGKILL" in get(port, "/readyz")[1], "the worker to be missed")
    status, body = get(port, "/readyz")
    assert status == 503
    assert body.startswith("not ready: worker 0: ")
    (server.folder / "wait").unlink()
    wait_for(lambda: get(port, "/readyz")[0] == 200, "its successor to serve")


def test_a_token_is_asked_for(serve: Serve) -> None:
    port = free_ports(1)[0]
    serve(EXAMPLES / "echo.py", admin_port=port, admin_token="sesame")
    for path in ("/metrics", "/healthz", "/readyz"):
        assert get(port, path)[0] == 401
        assert get(port, path, "sesam")[0] == 401
        assert get(port, path, "sesame")[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_an_address_that_others_can_reach_needs_a_token(host: str) -> None:
    with ServerProcess(EXAMPLES / "echo.py", admin_port=free_ports(1)[0], admin_host=host) as server:
        server.start()
        assert server.wait() == 1
        assert server.log() == f"zwoole: admin_host {host} can be reached from other machines: set admin_token too\n"


def test_a_port_in_use_is_said_at_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with ServerProcess(EXAMPLES / "echo.py", admin_port=port) as server:
            server.start()
            assert server.wait() == 1
            expected = f"zwoole: cannot listen on 127.0.0.1:{port} (admin_port): the port is in use: "
            assert server.log().startswith(expected)
            assert server.log().count("\n") == 1
