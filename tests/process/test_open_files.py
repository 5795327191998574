"""A server that may open few files: it reports that, or works with what it has."""

from __future__ import annotations

from contextlib import ExitStack

from tests.process.raw_client import TEXT, RawClient
from tests.process.server_process import ServerProcess
from zwoole.control_client import request
from zwoole.shared.process import open_files

APP = """
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        server.push(frame.fd, frame.data)

    server.start()
"""


def limited(server: ServerProcess, files: int) -> ServerProcess:
    """Start a server with that limit of open files."""
    server.command[:0] = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
    return server


def test_a_limit_that_is_too_low_is_one_line() -> None:
    with ServerProcess(APP) as server:
        limited(server, 40).start()
        assert server.wait() == 1
        needed = open_files.needed(1, 1)
        assert f"this process may open 40 files, and a server with 1 worker(s) needs {needed}: " in server.log()
        assert "Traceback" not in server.log()


def test_with_the_least_that_is_needed_all_places_taken_it_reloads() -> None:
    """ZeroMQ aborts a process that runs out of descriptors: connections must never take the last ones."""
    with ServerProcess(APP) as server, ExitStack() as stack:
        limited(server, open_files.needed(1, 1)).serve()
        masters = server.pids("master")
        clients = [stack.enter_context(RawClient(server.port)) for _ in range(3 * open_files.LEAST_CONNECTIONS)]
        heads = []
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        for client in clients[-open_files.LEAST_CONNECTIONS :]:
            heads.append(client.read_head())
        assert {head[:13] for head in heads} == {"HTTP/1.1 503 "}
        for _ in range(3):
            assert request(server.run_dir, "reload", timeout_s=60)["workers"] == 1
        assert server.pids("master") == masters
        stack.close()
        with RawClient(server.port) as client:
            client.upgrade()
            client.send_frame(TEXT, b"still there?")
            assert client.read_frame().payload == b"still there?"
        assert "Traceback" not in server.log()
