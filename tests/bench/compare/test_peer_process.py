"""A peer as a process: started, its last line of output reported, measured, stopped with all its children."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil
import pytest

from tests.process.waiting import wait_for
from zwoole.bench.compare import peer, peer_process
from zwoole.bench.compare.peer import Peer
from zwoole.bench.compare.peer_process import HOST, PeerError, PeerProcess


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that replaces peers/."""
    monkeypatch.setattr(peer, "FOLDER", tmp_path)
    return tmp_path


def test_a_peer_that_ends_at_once_is_told_by_its_last_words(scripts: Path) -> None:
    (scripts / "dead.py").write_text("raise SystemExit('no worker today')\n")
    with pytest.raises(PeerError, match="dead did not start: no worker today"):
        PeerProcess(Peer("dead", "dead.py")).__enter__()


DEAF = """
import signal, socket, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    time.sleep(60)
"""


def test_a_peer_deaf_to_term_is_killed_with_its_children(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_process, "STOP_TIMEOUT_S", 0.2)
    (scripts / "deaf.py").write_text(DEAF)
    with PeerProcess(Peer("deaf", "deaf.py")) as server:
        socket.create_connection((HOST, server.port), timeout=60).close()
        tree = server.processes()
        assert len(tree) == 2
    assert server.killed
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in tree)


FAT = """
import socket, subprocess, sys, time
if len(sys.argv) == 3:
    child = subprocess.Popen([sys.executable, __file__])
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
memory = b"x" * (50 << 20)
time.sleep(60)
"""


def test_memory_is_that_of_all_processes(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_process, "STOP_TIMEOUT_S", 0.2)
    (scripts / "fat.py").write_text(FAT)
    with PeerProcess(Peer("fat", "fat.py")) as server:
        wait_for(lambda: server.pss_bytes() >= 100 << 20, "both to have their memory")
        assert server.pss_bytes() < 200 << 20


def test_a_script_is_given_its_mode_and_the_npm_folder(scripts: Path) -> None:
    (scripts / "asks.py").write_text(
        "import os, sys\nraise SystemExit(f\"{sys.argv[2]} {os.environ['PEER_MODULES']}\")\n"
    )
    with pytest.raises(PeerError, match=f"cpu {peer.NPM_FOLDER}"):
        PeerProcess(Peer("asks", "asks.py"), "cpu").__enter__()
