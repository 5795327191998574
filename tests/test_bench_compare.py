"""The comparison: starting and stopping servers, and the arithmetic of its table."""

import json
import socket
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from zwoole.bench import compare, peerprocess
from zwoole.bench.compare import Run, Scenario, describe, measure, ratios
from zwoole.bench.load import LoadResult
from zwoole.bench.peerprocess import HOST, PEERS, Peer, PeerError, PeerProcess

ECHO = next(peer for peer in PEERS if peer.name == "websockets")
SMALL = Scenario(connections=2, size=64, depth=2)

needs_echo = pytest.mark.skipif(bool(ECHO.skip_reason()), reason=ECHO.skip_reason())


def run_at(rate: float, peer: str, round_number: int) -> Run:
    latency = {"p50": 10.0, "p99": 20.0}
    result = LoadResult(2, int(rate), 1.0, rate, 1.0, latency, {}, 0.5, metered=2.0)
    return Run(round_number, SMALL, peer, result)


RUNS = [
    *(run_at(rate, "zwoole", number) for number, rate in enumerate([1000, 2000, 3000], 1)),
    *(run_at(rate, "websockets", number) for number, rate in enumerate([500, 500, 3000], 1)),
]


def test_ratios_are_taken_within_a_round() -> None:
    assert ratios(RUNS, SMALL, "websockets") == [2, 4, 1]


def test_a_round_without_both_has_no_ratio() -> None:
    failed = Run(2, SMALL, "zwoole", None, "it did not start")
    assert ratios([RUNS[0], failed, *RUNS[2:]], SMALL, "websockets") == [2, 1]


def test_table_has_medians_and_spreads() -> None:
    table = describe(RUNS, SMALL, [PEERS[0], ECHO])
    assert "2,000 (1,000-3,000)" in table
    assert "2.00 (1.00-4.00)" in table
    assert f"{2.0 / 2000 * 1e6:.2f}" in table  # server CPU seconds for a million messages


def test_table_without_results() -> None:
    assert "no result" in describe([Run(1, SMALL, "zwoole", None, "it did not start")], SMALL, [PEERS[0]])


def test_a_peer_that_is_not_installed_names_the_command() -> None:
    peer = Peer("missing", "missing.py", ("no_such_module",), "no-such-package")
    assert peer.skip_reason() == f"not installed: {sys.executable} -m pip install no-such-package"
    assert Peer("missing", "missing.py", program="no-such-program").skip_reason() == "there is no no-such-program"


@needs_echo
def test_measure_loads_a_peer_and_its_processes_are_gone_afterwards() -> None:
    before = set(psutil.Process().children(recursive=True))
    run = measure(ECHO, SMALL, 0.2)
    assert run.problem == ""
    assert run.result is not None
    assert run.result.messages > 0
    assert run.result.errors == {}
    assert run.cpu_s_per_million > 0
    assert {
        child for child in psutil.Process().children(recursive=True) if "echo" in " ".join(child.cmdline())
    } <= before


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of peers/."""
    monkeypatch.setattr(peerprocess, "FOLDER", tmp_path)
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
    monkeypatch.setattr(peerprocess, "STOP_TIMEOUT_S", 0.2)
    (scripts / "deaf.py").write_text(DEAF)
    with PeerProcess(Peer("deaf", "deaf.py")) as server:
        socket.create_connection((HOST, server.port), timeout=5).close()
        tree = server.processes()
        assert len(tree) == 2
    assert server.killed
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in tree)


WRONG = """
import asyncio, sys
from websockets.asyncio.server import serve

async def shorten(connection):
    async for message in connection:
        await connection.send(message[:-1])

async def main():
    async with serve(shorten, "127.0.0.1", int(sys.argv[1]), compression=None):
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


@needs_echo
def test_the_command_fails_when_a_reply_is_wrong(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scripts / ECHO.script).write_text(WRONG)
    monkeypatch.setattr(compare, "SCENARIOS", (SMALL,))
    file = scripts / "runs.json"
    outcome = CliRunner().invoke(
        compare.main, ["--rounds", "1", "--duration", "0.2", "--peer", "websockets", "--json", str(file)]
    )
    assert outcome.exit_code == 1
    assert "length: a reply had another length than its message" in outcome.output
    assert json.loads(file.read_text())["runs"][0]["peer"] == "websockets"
