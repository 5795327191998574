"""The transcript of the article that this server is made for, with both of its scripts and both ways to run them."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.conftest import Serve
from tests.process.server_process import EXAMPLES, ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for

REPLY = "Hello from zwoole server!"
TRANSCRIPT = [
    "New WebSocket connection opened: 1",
    "Received message from 1: Hello, server!",
    "WebSocket connection closed: 1",
]
WSCAT = "wscat@6"
NPM_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "zwoole-tests", "wscat")


def talk(server: ServerProcess) -> None:
    """Say hello as the article does, and check that the server prints what the article shows."""
    with server.connect() as client:
        client.send("Hello, server!")
        assert client.recv(PATIENCE_S) == REPLY
    server.wait_line(TRANSCRIPT[-1])
    assert server.lines() == TRANSCRIPT


def test_zwoole_run(serve: Serve) -> None:
    server = serve(EXAMPLES / "echo.py", workers=2)
    talk(server)
    assert len(server.pids("worker")) == 2
    assert server.stop() == 0
    assert server.lines() == TRANSCRIPT


def test_a_second_connection_has_another_number(serve: Serve) -> None:
    server = serve(EXAMPLES / "echo.py", workers=2)
    talk(server)
    with server.connect() as client:
        client.send("again")
        assert client.recv(PATIENCE_S) == REPLY
    server.wait_line("WebSocket connection closed: 2")
    assert "Received message from 2: again" in server.lines()


def test_handler(serve: Serve) -> None:
    server = serve(EXAMPLES / "handler.py", workers=2)
    with server.connect("/websocket") as client:
        for text in ("Hello, server!", "and once more"):
            client.send(text)
            assert client.recv(PATIENCE_S) == REPLY
    server.wait_line("Received message: and once more")
    assert server.lines() == ["Received message: Hello, server!", "Received message: and once more"]


@pytest.mark.parametrize("guard", [False, True], ids=["bare", "guarded"])
def test_python_app_py(guard: bool) -> None:
    """Run `python echo.py`, with and without an `if __name__ == "__main__":`."""
    source = (EXAMPLES / "echo.py").read_text().replace("8080", "0")
    if guard:
        source = source.replace("server.start()", 'if __name__ == "__main__":\n    server.start()')
    with ServerProcess(source, workers=2, command=[sys.executable, "app.py"]) as server:
        server.start()
        server.run_dir = announced_run_dir(server)
        server.wait_ready()
        talk(server)


def announced_run_dir(server: ServerProcess) -> Path:
    """Return the run directory that a server chose itself, from its log."""
    found = re.search(r"run directory (\S+)", server.wait_log("run directory "))
    assert found is not None
    return Path(found[1])


# wscat, the client that the article uses.


def test_wscat_runs_a_command(serve: Serve, wscat: Path) -> None:
    server = serve(EXAMPLES / "echo.py", workers=2)
    command = [str(wscat), "-c", server.url(), "-x", "Hello, server!", "-w", "1"]
    # Its standard input must stay open: wscat exits at its end.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert REPLY in client.stdout.read()
    server.wait_line(TRANSCRIPT[-1])
    assert server.lines() == TRANSCRIPT


def test_wscat_in_a_terminal(serve: Serve, wscat: Path) -> None:
    server = serve(EXAMPLES / "echo.py", workers=2)
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    client = subprocess.Popen([str(wscat), "-c", server.url()], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen = bytearray()

    def shows(text: str) -> bool:
        try:
            screen.extend(os.read(ours, 4096))
        except (BlockingIOError, OSError):  # nothing new, or the terminal is gone
            pass
        return text.encode() in screen

    try:
        wait_for(lambda: shows("Connected (press CTRL+C to quit)"), "wscat to connect")
        os.write(ours, b"Hello, server!\n")
        wait_for(lambda: shows(f"< {REPLY}"), "the reply in wscat")
        os.write(ours, b"\x03")  # Ctrl+C
        client.wait(PATIENCE_S)
    finally:
        client.kill()
        client.wait()
        os.close(ours)
    server.wait_line(TRANSCRIPT[-1])
    assert server.lines() == TRANSCRIPT


@pytest.fixture(scope="module")
def wscat() -> Path:
    """Return the wscat program; it is installed with npm if it is missing."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    program = NPM_CACHE / "node_modules" / ".bin" / "wscat"
    if not program.exists():
        NPM_CACHE.mkdir(parents=True, exist_ok=True)
        install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(NPM_CACHE), WSCAT]
        done = subprocess.run(install, capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            pytest.skip(f"npm cannot install wscat: {done.stderr.strip()[-200:]}")
    return program
