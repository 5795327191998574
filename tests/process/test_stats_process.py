"""stats() in every place from which it can be called, and its numbers after a known load."""

from __future__ import annotations

import json
import signal
from typing import Any

import psutil

from tests.process.conftest import Serve
from tests.process.waiting import wait_for
from zwoole.shared.memory.stats import EMPTY
from zwoole.supervisor.admin.metrics import MASTER_COUNTERS, MASTER_GAUGES, WORKER_COUNTERS, WORKER_GAUGES

APP = """
import json, threading, time
from pathlib import Path
from zwoole import Server

server = Server()

@server.on("message")
def on_message(server, frame):
    if frame.data == "stats":
        server.push(frame.fd, json.dumps(server.stats()))
    elif frame.data == "thread":
        fd = frame.fd
        threading.Thread(target=lambda: server.push(fd, json.dumps(server.stats()))).start()
    elif frame.data == "sleep":
        Path("busy").touch()
        while not Path("wake").exists():
            time.sleep(0.01)
    elif frame.data == "fail":
        raise ValueError("on purpose")
    elif frame.data == "die":
        import os; os.kill(os.getpid(), 9)
    else:
        server.push(frame.fd, frame.data)

@server.on("start")
def on_start(server):
    print("start", json.dumps(server.stats()))

@server.on("shutdown")
def on_shutdown(server):
    print("shutdown", json.dumps(server.stats()))

server.start()
"""

ASYNC_APP = """
import asyncio, json
from zwoole import Server

server = Server()

@server.on("message")
async def on_message(server, frame):
    if frame.data == "stats":
        server.push(frame.fd, json.dumps(server.stats()))
    else:
        await asyncio.sleep(0.03)
        server.push(frame.fd, frame.data)

@server.handler("/handler")
async def handler(ws):
    async for message in ws:
        await ws.send(json.dumps(ws_stats()) if message == "stats" else message)

def ws_stats():
    return server.stats()

server.start()
"""


def total_of(server: Any) -> dict[str, Any]:
    result: dict[str, Any] = server.status()["stats"]["total"]
    return result


def printed(server: Any, event: str) -> dict[str, Any]:
    line = next(line for line in server.lines() if line.startswith(event + " "))
    found: dict[str, Any] = json.loads(line.removeprefix(event + " "))
    return found


def test_a_known_load_is_counted_exactly(serve: Serve) -> None:
    server = serve(APP, workers=2)
    for _ in range(5):
        with server.connect() as client:
            for _ in range(40):
                client.send("hello")
                assert client.recv() == "hello"
    with server.connect() as client:
        client.send("fail")
        wait_for(lambda: total_of(server)["closed"] == {"1000": 5, "1011": 1}, "all closes to be counted")
    wait_for(lambda: total_of(server)["events"]["close"] == 6, "the workers' counters to be written")
    total = total_of(server)
    events = total["events"]
    assert (total["accepted"], total["opened"], total["connections"]) == (6, 6, 0)
    assert (total["messages_in"], total["messages_out"], total["bytes_in"], total["bytes_out"]) == (
        201,
        200,
        1004,
        1000,
    )
    assert (events["open"], events["message"], events["close"]) == (6, 201, 6)
    assert (sum(total["callback_times"]), total["failures"]) == (201, {"message": 1})
    assert (total["unfinished"], total["restarts"]) == (0, {})
    assert total["in_flight_bytes"] < 200  # the last acknowledgements: their credit returns with the next batch down
    assert total["callback_seconds"] > 0
    assert total["longest_lag_s"] >= total["lag_s"] >= 0
    workers = server.status()["stats"]["workers"]
    assert sum(worker["events"]["message"] for worker in workers) == 201
    assert [worker["pid"] for worker in sorted(workers, key=lambda worker: worker["id"])] == server.pids("worker")
    assert server.stop() == 0
    assert printed(server, "start")["total"]["opened"] == 0
    last = printed(server, "shutdown")["total"]
    gauges = {name for name, *_ in (*MASTER_GAUGES, *WORKER_GAUGES)}
    assert {name: last[name] for name in gauges} == dict.fromkeys(gauges, 0), "nobody runs any more"
    assert {name: last[name] for name in last if name not in gauges} == {
        name: total[name] for name in total if name not in gauges
    }
    assert last["messages_in"] == 201


def test_a_callback_and_a_thread_see_the_whole_server(serve: Serve) -> None:
    server = serve(APP, workers=2)
    with server.connect() as client:
        client.send("stats")
        found = json.loads(client.recv())
        assert found["total"]["events"]["message"] == 1  # its own process is up to date
        assert (len(found["masters"]), len(found["workers"])) == (1, 2)
        client.send("thread")
        assert json.loads(client.recv())["total"]["events"]["open"] == 1


def test_a_worker_that_is_busy_is_seen_by_the_others(serve: Serve) -> None:
    server = serve(APP, workers=2)
    with server.connect() as busy, server.connect() as free:
        busy.send("sleep")
        wait_for((server.folder / "busy").exists, "the callback to begin")
        free.send("stats")
        found = json.loads(free.recv())
        assert len(found["workers"]) == 2
        assert found["total"]["events"]["message"] >= 1
        (server.folder / "wake").touch()


def test_a_coroutine_is_counted_to_its_end_and_a_handlers_messages_too(serve: Serve) -> None:
    server = serve(ASYNC_APP)
    with server.connect() as client, server.connect("/handler") as handled:
        for _ in range(3):
            client.send("x")
            assert client.recv() == "x"
            handled.send("y")
            assert handled.recv() == "y"
        client.send("stats")
        total = json.loads(client.recv())["total"]
        assert total["events"]["message"] == 7
        assert sum(total["callback_times"][:7]) == 0  # each slept for 30 ms, and the seventh bucket ends at 25 ms
        assert sum(total["callback_times"]) == 3
        handled.send("stats")
        assert json.loads(handled.recv())["total"]["events"]["message"] == 8
    wait_for(lambda: total_of(server)["unfinished"] == 0, "everything to be finished")
    wait_for(lambda: total_of(server)["events"]["close"] == 2, "the last of it to be written")


def test_what_a_worker_had_counted_outlives_it_and_its_restart_has_a_reason(serve: Serve) -> None:
    server = serve(APP)
    with server.connect() as client:
        client.send("x")
        assert client.recv() == "x"
        wait_for(lambda: total_of(server)["events"]["message"] == 1, "the counter to be written")
    psutil.Process(server.pids("worker")[0]).kill()
    wait_for(lambda: total_of(server)["restarts"] == {"SIGKILL": 1}, "the restart to be counted")
    server.wait_ready()
    assert total_of(server)["events"]["message"] == 1
    server.reload()
    wait_for(lambda: len(server.pids("worker")) == 1, "the replaced worker to end: it would heed no TERM")
    psutil.Process(server.pids("worker")[0]).send_signal(signal.SIGTERM)
    expected = {"SIGKILL": 1, "reload": 1, "SIGTERM": 1}
    wait_for(lambda: total_of(server)["restarts"] == expected, "all restarts to be counted")
    assert total_of(server)["events"]["message"] == 1
    left = sorted(path.name for path in server.run_dir.glob("worker.*.stats"))
    wait_for(lambda: len(list(server.run_dir.glob("worker.*.stats"))) == 1, f"old files to be removed: {left}")


def test_a_master_that_was_replaced_keeps_its_counters(serve: Serve) -> None:
    server = serve(APP)
    with server.connect() as client:
        client.send("x")
        assert client.recv() == "x"
        wait_for(lambda: total_of(server)["messages_in"] == 1, "the counter to be written")
    psutil.Process(server.pids("master")[0]).kill()
    wait_for(lambda: total_of(server)["restarts"] == {"SIGKILL": 1}, "the restart to be counted")
    server.wait_ready()
    assert total_of(server)["messages_in"] == 1


def test_every_number_is_a_metric_too_and_in_every_total(serve: Serve) -> None:
    stats = serve(APP).status()["stats"]
    for role in ("master", "worker"):
        for names in EMPTY[role]:
            assert set(names) <= set(stats[f"{role}s"][0])
    supervisors = {"restarts", "workers_wanted", "workers_ready", "failed_boots"}
    counted = {name for parts in EMPTY.values() for names in parts for name in names}
    assert set(stats["total"]) == counted | supervisors
    common = {"id", "pid", "incarnation", "uptime_s", "written_s_ago"}
    assert set(stats["masters"][0]) == common | {spec[0] for spec in (*MASTER_COUNTERS, *MASTER_GAUGES)}
    times = {"callback_times", "callback_seconds"}
    assert set(stats["workers"][0]) == common | times | {spec[0] for spec in (*WORKER_COUNTERS, *WORKER_GAUGES)}
