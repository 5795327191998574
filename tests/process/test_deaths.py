"""Killed processes: what their clients see, what is lost, and how the server continues."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.process.conftest import Serve
from tests.process.raw_client import TEXT, RawClient, ServerFrame
from tests.process.server_process import ServerProcess, is_alive
from tests.process.waiting import PATIENCE_S, wait_for

APP = """
    import os
    import time
    from zwoole import Server

    server = Server()

    @server.on("worker_error")
    def on_worker_error(server, worker_id, pid, exit_code, signal):
        print("worker_error", os.getpid(), worker_id, pid, exit_code, signal, flush=True)

    @server.on("message")
    {0} on_message(server, frame):
        if frame.data == "sleep":
            print("sleeping", os.getpid())
            time.sleep(3600)
        server.push(frame.fd, str(os.getpid()))

    @server.on("close")
    {0} on_close(server, fd, code, reason, initiator):
        print("close", fd, code, initiator)

    server.start()
"""
SYNC = APP.format("def")
KINDS = {"def": SYNC, "async def": APP.format("async def")}


def who_serves(client: ClientConnection) -> int:
    """Return the process id of the worker that answers."""
    client.send("who are you?")
    return int(client.recv(PATIENCE_S))


def close_code(client: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(PATIENCE_S)
    assert closed.value.rcvd is not None, "a bare end of the stream"
    return closed.value.rcvd.code


# A worker.


@pytest.mark.parametrize("app", KINDS.values(), ids=KINDS)
def test_idle_worker_is_killed(serve: Serve, app: str) -> None:
    """No connection is closed: the next worker takes them over."""
    server = serve(app)
    (pid,) = server.pids("worker")
    with server.connect() as one, server.connect() as two:
        assert who_serves(one) == who_serves(two) == pid
        os.kill(pid, signal.SIGKILL)
        log = server.wait_log("SIGKILL")
        assert f"worker 0 (pid {pid}) was ended by SIGKILL (9): out of memory?" in log
        server.wait_line(f"worker_error {server.process.pid} 0 {pid} 0 9")
        successor = who_serves(one)
        assert successor == who_serves(two) != pid
    assert server.pids("worker") == [successor]


@pytest.mark.parametrize("app", KINDS.values(), ids=KINDS)
def test_worker_is_killed_in_a_callback(serve: Serve, app: str) -> None:
    """Only the connection whose message was being handled is closed."""
    server = serve(app)
    (pid,) = server.pids("worker")
    with server.connect() as other, server.connect() as client:
        assert who_serves(other) == who_serves(client) == pid
        client.send("sleep")
        server.wait_line(f"sleeping {pid}")
        os.kill(pid, signal.SIGKILL)
        assert close_code(client) == 1011
        assert who_serves(other) != pid
        server.wait_line(f"worker_error {server.process.pid} 0 {pid} 0 9")
        server.wait_line("close 2 1011 server")


def test_the_other_worker_notices_nothing(serve: Serve) -> None:
    server = serve(SYNC, workers=2)
    with server.connect() as one, server.connect() as two:
        dead, living = who_serves(one), who_serves(two)
        assert dead != living
        os.kill(dead, signal.SIGKILL)
        for _ in range(100):
            assert who_serves(two) == living
        assert who_serves(one) not in (dead, living)


def test_messages_wait_for_the_next_worker(serve: Serve) -> None:
    """Messages sent while there is no worker are answered, in order, by the next one."""
    server = serve(SYNC)
    (pid,) = server.pids("worker")
    with RawClient(server.port) as client:
        client.upgrade()
        client.send_frame(TEXT, b"who are you?")
        assert int(client.read_frame().payload) == pid
        os.kill(pid, signal.SIGKILL)
        server.wait_log("SIGKILL")
        for _ in range(20):
            client.send_frame(TEXT, b"who are you?")
        replies = [client.read_frame() for _ in range(20)]
    (successor,) = server.pids("worker")
    assert replies == [ServerFrame(TEXT, b"%d" % successor)] * 20


def test_connection_opened_while_no_worker_is_there(serve: Serve) -> None:
    server = serve(SYNC)
    (pid,) = server.pids("worker")
    os.kill(pid, signal.SIGKILL)
    server.wait_log("SIGKILL")
    with server.connect() as client:
        assert who_serves(client) != pid


# The master.


NO_BATCH = """
    import os
    import socket
    from zwoole import Server

    server = Server(log_level="info")

    @server.on("message")
    def on_message(server, frame):
        for entry in os.listdir("/proc/self/fd"):
            if os.readlink(f"/proc/self/fd/{entry}").startswith("socket:"):
                found = socket.socket(fileno=int(entry))
                if found.family == socket.AF_UNIX and "/w" in str(found.getpeername()):
                    found.send(b"\\0\\x08no batch")
                found.detach()

    server.start()
    """


def test_worker_sends_what_is_no_batch(serve: Serve) -> None:
    server = serve(NO_BATCH)
    (pid,) = server.pids()
    with server.connect() as client:
        client.send("x")
        log = server.wait_log("was ended by zwoole with SIGKILL: ")
    reason = re.search(rf"ERROR killing worker 0 \(pid {pid}\): (.+)\n", log)
    assert reason is not None
    assert f"worker 0 (pid {pid}) was ended by zwoole with SIGKILL: {reason[1]}\n" in log
    assert "out of memory" not in log
    wait_for(lambda: server.is_ready() and server.pids() != [pid], "the next worker")


def test_master_is_killed(serve: Serve) -> None:
    """Its clients see the end of TCP. Clients that connect meanwhile wait and are served; none is refused."""
    server = serve(SYNC, workers=2)
    (pid,) = server.pids("master")
    port = server.port
    with RawClient(port) as client:
        client.upgrade()
        os.kill(pid, signal.SIGKILL)
        with suppress(ConnectionResetError):  # there is no master to send a close frame
            assert client.read_rest() == b""
        with RawClient(port) as late:
            late.upgrade()
            late.send_frame(TEXT, b"who are you?")
            assert int(late.read_frame().payload) > 0
    assert f"master 0 (pid {pid}) was ended by SIGKILL" in server.log()
    server.wait_ready()
    assert server.pids("master") != [pid]
    assert server.port == port


def test_master_is_killed_twice(serve: Serve) -> None:
    """A master that dies early is replaced too, and its workers connect to the next one."""
    server = serve(SYNC)
    for _ in range(2):
        (pid,) = server.pids("master")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: server.pids("master") not in ([pid], []), "the next master")
    server.wait_ready()
    with server.connect() as client:
        assert who_serves(client) == server.pids("worker")[0]


def test_master_is_killed_while_a_worker_boots(serve: Serve) -> None:
    """The worker was started for the dead master, and still finds its successor."""
    slow_boot = "while os.path.exists('slow boot'):\n        time.sleep(0.01)\n"
    server = serve(SYNC.replace("server = Server()", f"{slow_boot}    server = Server()"))
    (master,) = server.pids("master")
    (worker,) = server.pids("worker")
    server.write("slow boot", "")
    os.kill(worker, signal.SIGKILL)
    server.wait_log(f"(pid {worker}) was ended by SIGKILL")
    os.kill(master, signal.SIGKILL)
    server.wait_log(f"(pid {master}) was ended by SIGKILL")
    wait_for(lambda: server.pids("master") not in ([master], []), "the next master")
    (server.folder / "slow boot").unlink()
    server.wait_ready()
    with server.connect() as client:
        assert who_serves(client) == server.pids("worker")[0]


def test_master_is_killed_during_a_reload(serve: Serve) -> None:
    """Its successor hears first from a worker of the new code, which is not active yet; no client is refused."""
    wait = "while worker_id and os.path.exists('slow boot'):\n            time.sleep(0.01)\n"
    start = f"@server.on('worker_start')\n    def on_start(server, worker_id):\n        {wait}"
    server = serve(SYNC.replace("server.start()", f"{start}\n    server.start()"), workers=2)
    (master,) = server.pids("master")
    old = set(server.pids("worker"))
    server.write("slow boot", "")
    server.send_signal(signal.SIGHUP)

    def has_booted() -> bool:
        processes = server.report()["processes"]
        return any(row["role"] == "worker" and row["ready"] and row["pid"] not in old for row in processes)

    def is_known_to_the_next_master() -> bool:
        rows = [row for master in server.report()["masters"] for row in master["workers"]]
        return any(row["ready"] and row["pid"] not in old for row in rows)

    wait_for(has_booted, "a worker of the new code")
    for pid in old:
        os.kill(pid, signal.SIGSTOP)
    os.kill(master, signal.SIGKILL)
    server.wait_log(f"(pid {master}) was ended by SIGKILL")
    with server.connect_later() as connecting:
        wait_for(is_known_to_the_next_master, "the next master, and its hello")
        assert not connecting.done()
        for pid in old:
            os.kill(pid, signal.SIGCONT)
        with connecting.result(PATIENCE_S) as client:
            assert who_serves(client) in old
            (server.folder / "slow boot").unlink()
            wait_for(lambda: who_serves(client) not in old, "the new code")


def test_numbers_go_on_behind_a_dead_master(serve: Serve) -> None:
    server = serve(SYNC)
    (pid,) = server.pids("master")
    with server.connect() as client:
        who_serves(client)
    server.wait_line("close 1 1000 client")
    os.kill(pid, signal.SIGKILL)
    server.wait_log(f"(pid {pid}) was ended by SIGKILL")
    with server.connect() as client:
        who_serves(client)
    wait_for(lambda: sum(line.startswith("close") for line in server.lines()) == 2, "the second close")
    assert int(server.lines()[-1].split()[1]) > 1 << 20


# The supervisor.


@pytest.mark.parametrize("app", KINDS.values(), ids=KINDS)
def test_supervisor_is_killed(serve: Serve, app: str) -> None:
    """Clients are closed with 1001, and all processes end."""
    server = serve(app, workers=2)
    with server.connect() as client:
        who_serves(client)
        server.send_signal(signal.SIGKILL)
        assert close_code(client) == 1001
    assert server.wait() == -signal.SIGKILL
    server.assert_nothing_left(within=PATIENCE_S)
    server.wait_line("close 1 1001 server")
    assert "the supervisor is gone: stopping" in server.log()


@pytest.mark.parametrize("reactors", [1, 2])
def test_a_server_that_is_started_at_once_after_a_killed_one_serves(serve: Serve, reactors: int) -> None:
    """The processes of the killed server live on for seconds, and use the same run directory."""
    server = serve(SYNC, reactor_num=reactors)
    with server.connect() as client:
        client.send("sleep")
        wait_for(lambda: any(line.startswith("sleeping") for line in server.lines()), "the callback")
        left = server.family()
        server.send_signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        server.start()
        server.wait_log("listening on ")
        server.wait_ready()
    wait_for(lambda: not any(is_alive(process) for process in left), "the end of its predecessor's processes")
    server.reload()
    with server.connect() as client:
        assert who_serves(client) in server.pids("worker")
    assert "was made again" not in server.log()
    assert server.stop() == 0


def test_supervisor_is_killed_while_a_callback_runs(serve: Serve) -> None:
    server = serve(SYNC)
    with server.connect() as client:
        client.send("sleep")
        wait_for(lambda: any(line.startswith("sleeping") for line in server.lines()), "the callback")
        server.send_signal(signal.SIGKILL)
        assert close_code(client) == 1001
    server.assert_nothing_left(within=PATIENCE_S)
    server.wait()


def test_a_new_server_takes_the_place_of_a_killed_one() -> None:
    """What a whole server killed at once leaves in the run directory disturbs nobody."""
    with ServerProcess(SYNC) as server:
        server.serve()
        for process in (server.process, *server.family()):
            process.kill()
        server.wait()
        assert server.run_dir.exists()
        server.serve()
        with server.connect() as client:
            who_serves(client)
        assert server.stop() == 0


def test_the_port_is_free_after_the_end(serve: Serve) -> None:
    server = serve(SYNC)
    port = server.port
    assert server.stop() == 0
    with socket.create_server(("127.0.0.1", port)):
        pass
