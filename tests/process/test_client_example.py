"""The example client, which README recommends if no other is installed: it prints what it receives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.process.conftest import Serve
from tests.process.server_process import EXAMPLES
from tests.process.waiting import PATIENCE_S

HANDLER = (EXAMPLES / "handler.py").read_text()
FAILING = """
from zwoole import Server

server = Server()


@server.on("message")
def on_message(server, frame):
    1 / 0


server.start()
"""


def talk(address: str) -> tuple[int, str, str]:
    """Run the client; return its exit code and what it wrote to stdout and stderr."""
    command = [sys.executable, str(EXAMPLES / "client.py"), address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("scheme", ["", "ws://"])
def test_a_path_is_asked_for(serve: Serve, scheme: str) -> None:
    code, out, err = talk(f"{scheme}127.0.0.1:{serve(HANDLER).port}/websocket")
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == ["> Hello, server!", "< Hello from zwoole server!"]


def test_a_refusal_is_said(serve: Serve) -> None:
    code, out, err = talk(f"127.0.0.1:{serve(HANDLER).port}")
    assert (code, out) == (1, "< HTTP/1.1 404 Not Found\n")
    assert err == "nothing is served at this path\n"


def test_a_close_frame_is_said(serve: Serve) -> None:
    code, _, err = talk(f"127.0.0.1:{serve(FAILING).port}")
    assert (code, err) == (1, "closed with 1011: callback failed\n")
