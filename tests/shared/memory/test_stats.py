"""Combining the snapshots of a server: sums, gauges, processes that ended."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from zwoole.shared.errors import WrongProcess
from zwoole.shared.memory import stats
from zwoole.shared.memory.snapshot import Snapshot
from zwoole.shared.memory.turn_counter import TURNS_BYTES, TurnCounter
from zwoole.shared.process.run_files import snapshot_path
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.process_stats import ProcessStats
from zwoole.supervisor.core.roles import MASTER, WORKER, Role
from zwoole.workers.server import Server

NOTHING: dict[str, Any] = {"restarts": {}, "workers_wanted": 0, "workers_ready": 0, "failed_boots": 0}
for counters_and_gauges in stats.EMPTY.values():
    for names in counters_and_gauges:
        NOTHING.update(names)


def process_of(role: Role, id: int, incarnation: int) -> Process:
    popen = subprocess.Popen([sys.executable, "-c", ""])
    popen.wait()
    with tempfile.TemporaryFile() as turns:
        turns.truncate(TURNS_BYTES)
        return Process(role, id, incarnation, popen, -1, TurnCounter(turns.fileno()))


def record(run_dir: Path, process: Process, counters: dict[str, Any], gauges: dict[str, Any]) -> None:
    named = {"role": process.role.name, "id": process.id, "pid": 1, "incarnation": process.incarnation}
    times = {"started": 0.0, "written": 0.0}
    path = snapshot_path(run_dir, process.role.name, process.incarnation)
    Snapshot(path).write({**named, **times, "counters": counters, "gauges": gauges})


def test_counters_are_added_whatever_their_shape() -> None:
    sums = stats.add({}, {"n": 1, "closed": {"1000": 2}, "times": [1, 0]})
    stats.add(sums, {"n": 2, "closed": {"1000": 1, "1001": 5}, "times": [1, 4]})
    assert sums == {"n": 3, "closed": {"1000": 3, "1001": 5}, "times": [2, 4]}


def test_the_total_is_the_sum_over_processes_and_the_largest_of_their_lags(tmp_path: Path) -> None:
    process_stats = ProcessStats(tmp_path)
    for index, (messages, connections, lag) in enumerate([(10, 3, 0.5), (5, 4, 0.25)]):
        master = process_of(MASTER, index, 1 + index)
        process_stats.began(master)
        record(tmp_path, master, {"messages_in": messages}, {"connections": connections, "lag_s": lag})
    gathered = stats.gather(tmp_path)
    assert gathered["total"] == {**NOTHING, "messages_in": 15, "connections": 7, "lag_s": 0.5}
    assert [master["messages_in"] for master in gathered["masters"]] == [10, 5]
    assert gathered["workers"] == []
    assert gathered["uptime_s"] >= 0


def test_what_a_process_counted_stays_when_it_has_ended_and_its_file_goes(tmp_path: Path) -> None:
    process_stats = ProcessStats(tmp_path)
    first, second = process_of(WORKER, 0, 1), process_of(WORKER, 0, 2)
    process_stats.began(first)
    record(tmp_path, first, {"events": {"message": 10}}, {"unfinished": 1})
    process_stats.began(second)
    record(tmp_path, second, {"events": {"message": 1}}, {"unfinished": 0})
    assert stats.gather(tmp_path)["total"]["events"] == {"message": 11}
    process_stats.ended(first)
    process_stats.restarted("SIGKILL")
    assert not snapshot_path(tmp_path, "worker", 1).exists()
    gathered = stats.gather(tmp_path)
    assert gathered["total"] == {**NOTHING, "events": {"message": 11}, "restarts": {"SIGKILL": 1}}
    assert [worker["incarnation"] for worker in gathered["workers"]] == [2]
    assert stats.counters_by_index(stats.read_all(tmp_path), stats.WORKER) == {0: {"events": {"message": 11}}}


def test_a_process_that_has_written_nothing_yet_is_left_out(tmp_path: Path) -> None:
    process_stats = ProcessStats(tmp_path)
    worker = process_of(WORKER, 0, 1)
    process_stats.began(worker)
    assert stats.gather(tmp_path)["workers"] == []
    process_stats.ended(worker)
    assert stats.gather(tmp_path)["total"] == NOTHING


def test_workers_that_are_missing_and_boots_that_failed_are_counted(tmp_path: Path) -> None:
    process_stats = ProcessStats(tmp_path)
    process_stats.workers(4, 3)
    for index in (2, 2, 0):
        process_stats.boot_failed(process_of(WORKER, index, 1))
    expected = {**NOTHING, "workers_wanted": 4, "workers_ready": 3, "failed_boots": 3}
    assert stats.gather(tmp_path)["total"] == expected


def test_the_file_of_a_process_that_has_been_counted_as_ended_is_not_counted_again(tmp_path: Path) -> None:
    process_stats = ProcessStats(tmp_path)
    worker = process_of(WORKER, 0, 1)
    process_stats.began(worker)
    record(tmp_path, worker, {"events": {"message": 10}}, {})
    copy = tmp_path / "copy"
    os.link(snapshot_path(tmp_path, "worker", 1), copy)
    process_stats.ended(worker)
    copy.rename(snapshot_path(tmp_path, "worker", 1))  # as if it had not been removed yet
    assert stats.gather(tmp_path)["total"]["events"] == {"message": 10}


def test_a_server_of_which_no_process_has_written_anything_has_all_totals(tmp_path: Path) -> None:
    total = stats.gather(tmp_path)["total"]
    assert total == NOTHING
    total["closed"]["1000"] = 1  # the result belongs to the caller, who may change it
    assert stats.gather(tmp_path)["total"] == NOTHING


def test_stats_needs_a_running_server() -> None:
    with pytest.raises(WrongProcess, match="running server"):
        Server().stats()
