"""The comparison: which servers take part in which scenario, measurements of real servers, and the written files."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from click.testing import CliRunner, Result
from websockets.sync.client import connect

from tests.process.waiting import wait_for
from zwoole.bench.compare import comparison, peer
from zwoole.bench.compare.comparison import pairs_of, quick_pairs, with_idle
from zwoole.bench.compare.measuring import Run, measure
from zwoole.bench.compare.peer import PEERS, Peer
from zwoole.bench.compare.peer_process import PeerProcess
from zwoole.bench.compare.scenarios import SCENARIOS, Scenario
from zwoole.bench.loadtest.plan import CONNECT, FANOUT, IDLE, Target

OURS = next(one for one in PEERS if one.name == "zwoole")
ECHO = next(one for one in PEERS if one.name == "websockets")
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
SMALL = replace(BY_NAME["echo-16"], connections=2, depth=2)

LIMITS = [one for one in PEERS if one.script == "limit_server.py"]

needs_echo = pytest.mark.skipif(bool(ECHO.skip_reason()), reason=ECHO.skip_reason())


# Which servers take part in which scenario.


def test_scenarios_name_peers_that_there_are() -> None:
    names = {one.name for one in PEERS}
    for scenario in SCENARIOS:
        assert set(scenario.peers) <= names
        assert scenario.ours in scenario.peers
    assert names == {name for scenario in SCENARIOS for name in scenario.peers}
    assert len(BY_NAME) == len(SCENARIOS)


def test_a_scenario_has_the_peers_that_take_part_and_are_there() -> None:
    scenarios = [Scenario("a", "", ("zwoole", "websockets")), Scenario("b", "", ("zwoole", "bun"))]
    assert [(one.name, server.name) for one, server in pairs_of(scenarios, [ECHO, OURS])] == [
        ("a", "websockets"),
        ("a", "zwoole"),
        ("b", "zwoole"),
    ]


def test_a_quick_comparison_has_every_scenario_and_every_peer() -> None:
    every = pairs_of(SCENARIOS, PEERS)
    quick = quick_pairs(every)
    assert len(quick) <= len(SCENARIOS) + len(PEERS)
    assert {one.name for one, _ in quick} == set(BY_NAME)
    assert {server for _, server in quick} == set(PEERS)
    assert max(one.connections for one, _ in quick) <= 200


def test_rounds_are_interleaved_and_idle_connections_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(server: Peer, scenario: Scenario, duration_s: float, round_number: int) -> Run:
        return Run(round_number, scenario.name, server.name, None)

    monkeypatch.setattr(comparison, "measure", run)
    pairs = [(SMALL, OURS), (SMALL, ECHO), (BY_NAME["idle"], OURS)]
    assert [(one.round, one.scenario, one.peer) for one in comparison.compare(pairs, 2, 1.0)] == [
        (1, "echo-16", "zwoole"),
        (1, "echo-16", "websockets"),
        (1, "idle", "zwoole"),
        (2, "echo-16", "zwoole"),
        (2, "echo-16", "websockets"),
    ]


def test_the_number_of_idle_connections_is_in_the_title() -> None:
    idle = next(one for one in with_idle(SCENARIOS, 12345) if one.mode == IDLE)
    assert idle.connections == 12345
    assert idle.title.startswith("12,345 idle connections")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_makes_a_plan(scenario: Scenario) -> None:
    plan = scenario.plan(Target("127.0.0.1", 8080, "/"), 2.0, 0.5)
    assert (plan.mode, plan.connections, plan.depth) == (scenario.mode, scenario.connections, scenario.depth)
    assert plan.binary == scenario.binary
    assert plan.compress == (scenario.serve == peer.DEFLATE)
    assert (scenario.serve == peer.BROADCAST) == (plan.mode == FANOUT)
    assert bool(plan.sources) == (plan.mode == CONNECT)


def test_a_browsers_head_has_the_origin_of_its_server() -> None:
    plan = BY_NAME["idle-browser"].plan(Target("127.0.0.1", 8080, "/"), 2.0, 0.5)
    assert dict(plan.headers)["Origin"] == "http://127.0.0.1:8080"
    assert BY_NAME["idle"].plan(Target("127.0.0.1", 8080, "/"), 2.0, 0.5).headers == ()


# Measurements.


@needs_echo
def test_measure_loads_a_peer_and_its_processes_are_gone_afterwards() -> None:
    before = set(psutil.Process().children(recursive=True))
    run = measure(ECHO, SMALL, 3.0)
    assert run.problem == ""
    assert run.result is not None
    assert run.result.messages > 0
    assert run.cpu_s_per_million > 0
    assert run.figure == run.result.rate
    assert {
        one for one in psutil.Process().children(recursive=True) if ECHO.script in " ".join(one.cmdline())
    } <= before


@needs_echo
@pytest.mark.parametrize("name", ["fanout-4", "slow-readers", "deflate", "cpu", "connect"])
def test_a_peer_does_what_the_scenario_asks(name: str) -> None:
    run = measure(ECHO, replace(BY_NAME[name].small(), connections=5), 3.0)
    assert run.problem == ""
    assert run.result is not None
    assert run.result.messages > 0


@needs_echo
def test_idle_connections_are_measured_in_bytes() -> None:
    run = measure(ECHO, replace(BY_NAME["idle"], connections=300), 0.2)
    assert run.problem == ""
    assert run.figure == run.bytes_per_connection
    assert 1000 < run.figure < 1_000_000


needs_compiler = pytest.mark.skipif(bool(LIMITS[0].skip_reason()), reason=LIMITS[0].skip_reason())


@needs_compiler
@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
@pytest.mark.parametrize(
    ("size", "binary"), [(64, False), (16 << 10, True), (1 << 20, False)], ids=["64 B", "16 KiB", "1 MiB"]
)
def test_a_limit_sends_every_message_back(limit: Peer, size: int, binary: bool) -> None:
    run = measure(limit, replace(SMALL, connections=3, depth=3, size=size, binary=binary), 3.0)
    assert run.problem == ""
    assert run.result is not None
    assert run.result.messages > 0


@needs_compiler
@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_limit_answers_pings_and_closes(limit: Peer) -> None:
    with PeerProcess(limit) as server, connect(f"ws://127.0.0.1:{server.port}/", open_timeout=60) as client:
        assert client.ping().wait(60)
        client.close(1000)
        assert client.close_code == 1000


@needs_compiler
@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_limit_leaves_no_process_behind(limit: Peer) -> None:
    with PeerProcess(limit) as server:
        processes = server.processes()
        assert len(processes) == (2 if limit.name == "C-two-processes" else 1)
        processes[0].kill()
        wait_for(
            lambda: all(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in processes),
            "both processes to end",
        )


@pytest.mark.parametrize("name", ["swoole", "swoole-base"])
@pytest.mark.parametrize("scenario", ["echo-16k-binary", "deflate", "fanout-4"])
def test_swoole_does_what_the_scenario_asks(name: str, scenario: str) -> None:
    server = next(one for one in PEERS if one.name == name)
    if reason := server.skip_reason():
        pytest.skip(reason)
    run = measure(server, replace(BY_NAME[scenario].small(), connections=5), 3.0)
    assert run.problem == ""
    assert run.result is not None
    assert run.result.messages > 0


# The command.


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


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace all scenarios by a small one."""
    monkeypatch.setattr(comparison, "SCENARIOS", (SMALL,))


def invoke(*options: str) -> Result:
    return CliRunner().invoke(comparison.main, ["--duration", "0.2", "--peer", "websockets", *options])


@needs_echo
@pytest.mark.usefixtures("small")
def test_results_are_written_with_what_made_them(tmp_path: Path) -> None:
    outcome = invoke("--rounds", "2", "--results", str(tmp_path / "results"))
    assert outcome.exit_code == 0, outcome.output
    record = json.loads((tmp_path / "results" / "latest.json").read_text())
    assert [(run["round"], run["peer"], run["problem"]) for run in record["runs"]] == [
        (1, "websockets", ""),
        (2, "websockets", ""),
    ]
    assert {"date", "command", "machine", "Python", "zwoole", "websockets"} <= {
        note.split(":")[0] for note in record["notes"]
    }
    page = (tmp_path / "results" / "latest.md").read_text()
    assert "### Echo of 64 B" in page
    assert "| zwoole / gorilla" in page.partition("### Goals")[2]
    assert {goal["scenario"] for goal in record["goals"]} == {"echo-16"}
    assert "| websockets |" in page
    assert all(f"- {note}" in page for note in record["notes"])
    image = ElementTree.parse(tmp_path / "results" / "latest.svg")
    assert "websockets" in {text.text for text in image.iter("{http://www.w3.org/2000/svg}text")}


@needs_echo
@pytest.mark.usefixtures("small")
def test_a_wrong_reply_is_told_and_fails_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "FOLDER", tmp_path)
    (tmp_path / ECHO.script).write_text(WRONG)
    outcome = invoke("--rounds", "1", "--results", str(tmp_path))
    assert outcome.exit_code == 1
    assert "length: a reply's length differed from its message's" in outcome.output
    assert "length: a reply's length differed from its message's" in (tmp_path / "latest.md").read_text()


@pytest.mark.usefixtures("small")
def test_a_peer_that_is_not_there_is_named_and_nothing_measured_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "PEERS", (replace(ECHO, packages=("no_such_package",)),))
    outcome = invoke()
    assert f"websockets: skipped, not installed: {sys.executable} -m pip install no_such_package" in outcome.output
    assert outcome.exit_code == 1


def test_a_quick_comparison_leaves_no_results(tmp_path: Path) -> None:
    outcome = invoke("--quick", "--results", str(tmp_path / "results"))
    assert outcome.exit_code == 2
    assert "without --results" in outcome.output
    assert not (tmp_path / "results").exists()
