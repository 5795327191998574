"""Reload, recycling, and more or fewer workers: connections stay, nothing is lost, new code serves."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection

from tests.process.conftest import Serve
from tests.process.raw_client import TEXT, RawClient
from tests.process.server_process import ZWOOLE, ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole import control_client

APP = """
import os
from zwoole import Server

server = Server()
VERSION = 1

@server.on("open")
def on_open(server, request):
    server.set_state(request.fd, {"opened by": os.getpid()})

@server.on("adopt")
def on_adopt(server, request):
    server.push(request.fd, f"adopted from {request.state['opened by']}")

@server.on("message")
def on_message(server, frame):
    server.push(frame.fd, f"{VERSION} {os.getpid()} {frame.data}")

server.start()
"""

HANDLER = """
from zwoole import Server

server = Server()

@server.handler("/")
async def echo(ws):
    async for message in ws:
        await ws.send(message)

server.start()
"""


def reload(server: ServerProcess) -> subprocess.CompletedProcess[str]:
    """Run `zwoole reload`."""
    command = [str(ZWOOLE), "reload", "--run-dir", str(server.run_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_new_code_serves_the_old_connections(serve: Serve) -> None:
    server = serve(APP)
    (before,) = server.pids("worker")
    with server.connect() as client:
        client.send("a")
        assert client.recv(PATIENCE_S) == f"1 {before} a"
        app = Path(server.app)
        app.write_text(app.read_text().replace("VERSION = 1", "VERSION = 2"))
        assert reload(server).returncode == 0
        assert client.recv(PATIENCE_S) == f"adopted from {before}", "before any message, with the state that was kept"
        (after,) = wait_for(lambda: [pid for pid in server.pids("worker") if pid != before], "the new worker")
        client.send("b")
        assert client.recv(PATIENCE_S) == f"2 {after} b"


def test_a_link_to_another_release_is_followed() -> None:
    """For the script, and for the modules beside it."""
    with ServerProcess(APP) as server:
        for release in ("1", "2"):
            (server.folder / release).mkdir()
            source = APP.replace("VERSION = 1", "from release import VERSION")
            (server.folder / release / "app.py").write_text(source)
            (server.folder / release / "release.py").write_text(f"VERSION = {release}\n")
        current = server.folder / "current"
        current.symlink_to("1")
        server.command[2] = str(current / "app.py")
        server.serve()
        with server.connect() as client:
            client.send("first")
            assert str(client.recv(PATIENCE_S)).startswith("1 ")
            current.unlink()
            current.symlink_to("2")
            assert reload(server).returncode == 0
            client.send("second")
            assert str(client.recv(PATIENCE_S)).startswith("adopted from ")
            assert str(client.recv(PATIENCE_S)).startswith("2 ")


def test_code_that_does_not_boot_leaves_the_old_in_service(serve: Serve) -> None:
    server = serve(APP)
    (before,) = server.pids("worker")
    with server.connect() as client:
        app = Path(server.app)
        app.write_text("import no_such_module\n" + app.read_text())
        failed = reload(server)
        assert failed.returncode == 1
        assert "reload failed, the old workers stay in service" in failed.stderr
        assert "; the log has the reason" in failed.stderr
        assert "no_such_module" in server.log()
        client.send("a")
        assert client.recv(PATIENCE_S) == f"1 {before} a"


def test_many_reloads_under_load_lose_nothing(serve: Serve) -> None:
    """50 reloads, each completed before the next is requested: every connection stays, every answer is correct."""
    server = serve(APP.replace('@server.on("adopt")\n', ""), workers=2)
    over = threading.Event()

    def talk(name: int) -> int:
        """Keep 8 messages outstanding on one connection until the end; return how many were answered."""
        number = 0
        with server.connect() as client:
            while not over.wait(0.005):
                texts = [f"{name}.{number + part}" for part in range(8)]
                for text in texts:
                    client.send(text)
                assert [str(client.recv(PATIENCE_S)).split()[2] for _ in texts] == texts
                number += len(texts)
            client.send("the last")
            assert str(client.recv(PATIENCE_S)).endswith(" the last"), "nothing twice"
        return number

    with ThreadPoolExecutor(5) as pool:
        talks = [pool.submit(talk, name) for name in range(5)]
        try:
            for _ in range(50):  # requested as `zwoole reload` does, which waits for the end of each
                assert control_client.request(server.run_dir, "reload", timeout_s=PATIENCE_S)["workers"] == 2
        finally:
            over.set()
    assert all(talk.result() > 50 for talk in talks)


def test_a_reload_that_fills_a_place_whose_worker_is_to_be_started_again_fills_it_once(serve: Serve) -> None:
    slow_boot = "import os, time\nwhile os.path.exists('boot slowly'): time.sleep(0.01)\n"
    server = serve(APP.replace("import os\n", slow_boot))
    longest_s = 5.0

    def reload_meanwhile() -> float:
        """Reload while a worker waits for its restart; return when that was scheduled, 0 if the reload took longer."""
        server.write("boot slowly", "")
        waits = f"worker 0 is started again in {longest_s} s"
        told = server.log().count(waits)
        while server.log().count(waits) == told:  # each death while booting delays the restart further
            for pid in server.pids("worker"):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        due = time.monotonic() + longest_s
        (server.folder / "boot slowly").unlink()
        control_client.request(server.run_dir, "reload", timeout_s=PATIENCE_S)
        return due if time.monotonic() < due - 0.5 else 0.0

    due = wait_for(reload_meanwhile, "a reload that ends in time")
    (pid,) = server.pids("worker")
    wait_for(lambda: time.monotonic() > due + 0.5, "the time that it was to be started again")
    assert server.pids("worker") == [pid]
    with server.connect() as client:
        client.send("a")
        assert str(client.recv(PATIENCE_S)).endswith(" a")


def test_a_successor_that_is_ready_before_the_worker_of_its_place_stays(serve: Serve) -> None:
    held = "os.path.exists('hold') and not os.path.exists(f'go {os.getpid()}')"
    server = serve(APP.replace("import os\n", f"import os, time\nwhile {held}: time.sleep(0.01)\n"))
    (killed,) = server.pids("worker")
    server.write("hold", "")
    os.kill(killed, signal.SIGKILL)
    (booting,) = wait_for(lambda: [pid for pid in server.pids("worker") if pid != killed], "the next worker to boot")
    server.process.send_signal(signal.SIGHUP)
    (successor,) = wait_for(lambda: [pid for pid in server.pids("worker") if pid != booting], "its successor to boot")
    server.write(f"go {successor}", "")
    server.wait_log("reload: done in ")
    server.write(f"go {booting}", "")
    wait_for(lambda: server.pids("worker") == [successor], "the successor to be alone")
    with server.connect() as client:
        client.send("a")
        assert client.recv(PATIENCE_S) == f"1 {successor} a"
    assert server.pids("worker") == [successor]
    assert "failed" not in server.log()


def test_handlers_stay_with_their_worker_and_are_closed_with_1012_in_time(serve: Serve) -> None:
    server = serve(HANDLER, handover_timeout=1.0)
    with server.connect() as client:
        assert reload(server).returncode == 0
        client.send("still here")
        assert client.recv(PATIENCE_S) == "still here"
        wait_for(lambda: client.close_code == 1012, "the end of the old worker's connections")


@pytest.mark.parametrize("setting", [{"max_request": 20}, {"max_age": 1.0}, {"max_memory": 1}], ids=str)
def test_a_worker_is_recycled_and_its_connections_stay(serve: Serve, setting: dict[str, float]) -> None:
    server = serve(APP, **setting)
    with server.connect() as client:

        def answer() -> str:
            client.send("who?")
            return str(client.recv(PATIENCE_S))

        first = answer()

        def answered_by_another() -> bool:
            return answer() != first

        wait_for(answered_by_another, "a successor")
    assert "worker 0 is replaced: it " in server.log()


def test_term_recycles_a_worker(serve: Serve) -> None:
    server = serve(APP)
    (first,) = server.pids("worker")
    with server.connect() as client:
        client.send("a")
        assert client.recv(PATIENCE_S) == f"1 {first} a"
        os.kill(first, signal.SIGTERM)
        assert client.recv(PATIENCE_S) == f"adopted from {first}"
    assert "worker 0 is replaced: it was sent SIGTERM" in server.log()


def test_workers_are_added_and_given_up(serve: Serve) -> None:
    server = serve(APP)
    assert control_client.request(server.run_dir, "workers", by=1) == {"worker_num": 2}
    wait_for(lambda: len(server.pids("worker")) == 2, "a second worker")
    wait_for(lambda: all(process["ready"] for process in server.status()["processes"]), "it to be ready")
    first, second = server.pids("worker")
    with server.connect() as one, server.connect() as two:
        one.send("a")
        two.send("b")
        answers = {str(one.recv(PATIENCE_S)).split()[1], str(two.recv(PATIENCE_S)).split()[1]}
        assert answers == {str(first), str(second)}
        server.process.send_signal(signal.SIGTTOU)
        wait_for(lambda: server.pids("worker") == [first], "one worker again")
        for client in (one, two):
            client.send("c")
            wait_for(lambda client=client: client.recv(PATIENCE_S) == f"1 {first} c", "the one that is left to answer")


def test_a_setting_that_is_changed_while_the_server_starts_needs_a_restart(serve: Serve) -> None:
    source = """
        import os
        import time
        from pathlib import Path
        from zwoole import Server

        server = Server(worker_timeout=50)
        server.on("message", lambda server, frame: None)
        path = Path(__file__)
        path.write_text(path.read_text().replace("timeout=50", "timeout=40"))  # as somebody who saves it now
        os.utime(path, times=2 * (time.time() + 1,))
        server.start()
    """
    server = serve(source)
    (changed,) = server.status()["needs_restart"]
    assert changed == "worker_timeout 50.0 -> 40.0"
    assert f"needs a restart: {changed}" in server.log()


def test_each_reload_shows_the_traceback_of_code_that_does_not_boot(serve: Serve) -> None:
    server = serve(APP)
    server.app.write_text("raise ValueError('mine')\n")
    for failed in (1, 2):
        assert reload(server).returncode == 1
        assert server.log().count("Traceback (most recent call last)") == failed
    assert server.log().count("    ValueError: mine\n") == 2


def test_a_worker_that_boots_can_be_given_up(serve: Serve) -> None:
    """It never gets a connection, and ends as soon as it has booted, long before its time is over."""
    server = serve(APP)
    (first,) = server.pids("worker")
    assert control_client.request(server.run_dir, "workers", by=1) == {"worker_num": 2}
    assert control_client.request(server.run_dir, "workers", by=-1) == {"worker_num": 1}
    wait_for(lambda: server.pids("worker") == [first], "one worker again")
    assert "did not end in time" not in server.log()
    with server.connect() as client:
        client.send("a")
        assert client.recv(PATIENCE_S) == f"1 {first} a"


def test_a_setting_that_the_file_has_changed_needs_a_restart(serve: Serve) -> None:
    source = """
        from zwoole import Server

        server = Server(worker_timeout=50, admin_token="old", port=80)

        @server.on("message")
        def on_message(server, frame):
            pass

        server.start()
    """
    server = serve(source)
    assert server.status()["needs_restart"] == []  # the command line sets the port
    text = server.app.read_text().replace("50", "40").replace("old", "new").replace("80", "81")
    server.app.write_text(text)
    server.reload()
    changes = ["worker_timeout 50.0 -> 40.0", "admin_token has another value"]
    assert server.status()["needs_restart"] == changes
    server.reload()
    assert server.log().count(f"needs a restart: {', '.join(changes)}") == 1
    assert "new" not in server.log().replace("new worker(s)", "")


STAYING = """
import asyncio
import os
from pathlib import Path
from zwoole import Server

server = Server()

async def run_beside():
    try:
        await asyncio.Event().wait()
    finally:
        print("task ended", os.getpid())

@server.on("worker_start")
async def on_worker_start(server, worker_id):
    server.beside = asyncio.create_task(run_beside())

@server.handler("/stays")
async def stays(ws):
    await ws.send(str(os.getpid()))
    async for message in ws:
        print("handler runs", ws.fd)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            print("handler cancelled", ws.fd, ws.close_code)
            raise

@server.handler("/echo")
async def echo(ws):
    async for message in ws:
        await ws.send(f"{message} {os.getpid()}")

@server.on("message")
async def on_message(server, frame):
    if frame.data == "exit":
        raise SystemExit
    print("callback runs", frame.fd)
    try:
        while not Path(frame.data).exists():
            await asyncio.sleep(0.01)
        server.push(frame.fd, "finished")
    except asyncio.CancelledError:
        print("callback cancelled", frame.fd)
        raise

@server.on("close")
def on_close(server, fd, code):
    print("closed", fd, code, os.getpid())

@server.on("worker_stop")
def on_worker_stop(server, worker_id):
    print("worker ended", os.getpid())

server.start()
"""
NEVER_S = 3600.0  # an event that would take this long does not happen in a test


def replace(server: ServerProcess, how: str, pid: int) -> None:
    """Replace or remove the worker with this id."""
    if how == "reload":
        server.reload()
    elif how == "SIGTERM":
        os.kill(pid, signal.SIGTERM)
    elif how == "SystemExit":
        with server.connect() as client:
            client.send("exit")
    elif how == "fewer":
        assert control_client.request(server.run_dir, "workers", by=-1) == {"worker_num": 1}
    else:
        assert how == "max_request"
        wait_for(lambda: server_of_next(server) != pid, "a successor that serves new connections")


def server_of_next(server: ServerProcess) -> int:
    """Return the id of the worker that a new connection is given to."""
    with server.connect("/echo") as client:
        client.send("a message")
        return int(str(client.recv(PATIENCE_S)).split()[-1])


@pytest.mark.parametrize("client", ["stays", "leaves"])
@pytest.mark.parametrize("how", ["reload", "SIGTERM", "SystemExit", "max_request", "fewer"])
def test_a_handler_that_still_runs_is_cancelled_when_its_worker_ends(serve: Serve, how: str, client: str) -> None:
    """At once when its connections have been closed; it cleans up, and its worker ends gracefully."""
    times = {"handover_timeout": 1.0 if client == "stays" else NEVER_S, "max_wait_time": NEVER_S}
    settings = {"max_request": 20} if how == "max_request" else {}
    with ExitStack() as clients:
        server = serve(STAYING, workers=2 if how == "fewer" else 1, **times, **settings)
        last = server.pids("worker")[-1]
        peers = [clients.enter_context(server.connect("/stays")) for _ in range(server.workers)]
        (peer,) = (peer for peer in peers if peer.recv(PATIENCE_S) == str(last))
        peer.send("stay")
        wait_for(lambda: "handler runs" in server.output(), "the handler to run")
        if client == "leaves":
            peer.close(4000)
        replace(server, how, last)
        server.wait_line(f"worker ended {last}")
        server.wait_line(f"task ended {last}")
        wait_for(lambda: last not in server.pids("worker"), "the end of its process")
        code = 1012 if client == "stays" else 4000
        assert [line.split()[-1] for line in server.lines() if "handler cancelled" in line] == [str(code)]
        wait_for(lambda: peer.close_code == code, f"the connection to be closed with {code}")
    assert "] ERROR" not in server.log()


@pytest.mark.parametrize("reactors", [1, 2])
def test_what_still_runs_with_one_master_is_not_cut_short_since_another_has_nothing_left(
    serve: Serve, reactors: int
) -> None:
    server = serve(STAYING, reactor_num=reactors, handover_timeout=NEVER_S)
    (before,) = server.pids("worker")
    with server.connect() as called, server.connect("/echo") as handled:
        called.send("go")
        handled.send("a")
        assert handled.recv(PATIENCE_S) == f"a {before}"
        wait_for(lambda: "callback runs" in server.output(), "the callback to run")
        server.reload()
        for text in ("b", "c", "d"):
            handled.send(text)
            assert handled.recv(PATIENCE_S) == f"{text} {before}"
        server.write("go", "")
        assert called.recv(PATIENCE_S) == "finished"
        handled.send("e")
        assert handled.recv(PATIENCE_S) == f"e {before}"
    server.wait_line(f"worker ended {before}")


def test_a_replaced_worker_goes_on_with_the_other_masters_if_one_dies(serve: Serve) -> None:
    """The new master does not know that worker, and no command may wait for its welcome."""
    server = serve(STAYING, reactor_num=2, handover_timeout=NEVER_S)
    (before,) = server.pids("worker")
    with ExitStack() as clients:
        peers: dict[int, ClientConnection] = {}  # one per master
        while len(peers) < server.reactors:
            ran = server.output().count("callback runs")
            peer = clients.enter_context(server.connect())
            peer.send("go")
            wait_for(lambda ran=ran: server.output().count("callback runs") > ran, "the callback to run")  # type: ignore[misc]
            fd = int([line for line in server.lines() if "callback runs" in line][-1].split()[-1])
            peers[fd % server.reactors] = peer
        server.reload()
        os.kill(server.pids("master")[0], signal.SIGKILL)
        wait_for(lambda: any(peer.close_code is not None for peer in peers.values()), "a master's clients to be gone")
        (left,) = [peer for peer in peers.values() if peer.close_code is None]
        wait_for(lambda: len(server.pids("master")) == server.reactors, "the master's successor")
        server.write("go", "")
        assert left.recv(PATIENCE_S) == "finished"
    server.wait_line(f"worker ended {before}")


def test_close_runs_once_where_each_connection_is_if_the_only_master_dies_after_a_reload(serve: Serve) -> None:
    server = serve(STAYING, handover_timeout=NEVER_S, max_wait_time=NEVER_S)
    (before,) = server.pids("worker")
    server.write("there", "")
    with server.connect() as peer, server.connect() as idle:
        for client in (idle, peer):
            client.send("there")
            assert client.recv(PATIENCE_S) == "finished"
        peer.send("go")
        wait_for(lambda: server.output().count("callback runs") == 3, "the callback to run")
        server.reload()
        (after,) = [pid for pid in server.pids("worker") if pid != before]
        idle.send("there")
        assert idle.recv(PATIENCE_S) == "finished"
        os.kill(server.pids("master")[0], signal.SIGKILL)
        wait_for(lambda: peer.close_code is not None and idle.close_code is not None, "the connections to be gone")
        wait_for(lambda: len(server.pids("master")) == 1, "the master's successor")
        server.write("go", "")
        server.wait_line(f"worker ended {before}")
    first, second, *_ = [line.split()[-1] for line in server.lines() if line.startswith("callback runs")]
    wait_for(lambda: f"closed {first} 1006 {after}" in server.lines(), "the close in the new worker")
    closed = sorted(line for line in server.lines() if line.startswith("closed"))
    assert closed == sorted([f"closed {first} 1006 {after}", f"closed {second} 1006 {before}"])
    assert "callback cancelled" not in server.output()


@pytest.mark.parametrize("what", ["callback", "handler"])
def test_what_does_not_finish_is_cancelled_when_the_time_of_its_worker_is_over(serve: Serve, what: str) -> None:
    """An `async def` callback, and a handler whose client does not answer the server's close."""
    no_kill = f"from zwoole.supervisor.lifecycle import retirement\nretirement.KILL_GRACE_S = {NEVER_S}\n"
    server = serve(no_kill + STAYING, handover_timeout=0.1, max_wait_time=1.0, close_timeout=NEVER_S)
    (before,) = server.pids("worker")
    with RawClient(server.port) as client:
        client.upgrade("/stays" if what == "handler" else "/")
        client.send_frame(TEXT, b"never")
        wait_for(lambda: f"{what} runs" in server.output(), "it to run")
        server.reload()
        wait_for(lambda: f"{what} cancelled" in server.output(), "it to be cancelled")
        server.wait_line(f"worker ended {before}")
        wait_for(lambda: before not in server.pids("worker"), "the end of its process")
        code = 1011 if what == "callback" else 1012
        assert client.read_frames()[-1].payload[:2] == code.to_bytes(2, "big")
    assert f"(pid {before}) was replaced and has not finished in time" in server.log()
    assert "] ERROR" not in server.log()
