"""Callbacks of every kind: where each runs, in which order, and what their failures cost."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.client_frames import client_frame
from tests.process.conftest import Serve
from tests.process.raw_client import TEXT, RawClient, ServerFrame
from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for

# Where callbacks run.

LIFE = """
    import os
    from zwoole import Server

    server = Server()

    def note(event, *arguments):
        print(event, os.getpid(), *arguments)

    @server.on("start")
    def on_start(server):
        note("start", server.worker_id)

    @server.on("workerStart")  # Swoole's own spelling
    def on_worker_start(server, worker_id):
        note("worker_start", worker_id, server.worker_id)

    @server.on("worker_stop")
    {} on_worker_stop(server, worker_id):
        note("worker_stop", worker_id)

    @server.on("worker_error")
    def on_worker_error(server, worker_id, pid, exit_code, signal):
        note("worker_error", worker_id, pid, exit_code, signal)

    @server.on("before_shutdown")
    async def on_before_shutdown(server):
        note("before_shutdown")

    @server.on("shutdown")
    def on_shutdown(server):
        note("shutdown")

    @server.on("message")
    def on_message(server, frame):
        os._exit(int(frame.data))

    server.start()
    note("after start")
"""


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_where_callbacks_run(serve: Serve, kind: str) -> None:
    server = serve(LIFE.format(kind), workers=2)
    supervisor = server.process.pid
    workers = server.pids("worker")
    with server.connect() as client:
        client.send("7")
        with pytest.raises(ConnectionClosed, match="1011"):
            client.recv(PATIENCE_S)
    wait_for(lambda: any(line.startswith("worker_error") for line in server.lines()), "worker_error")
    server.wait_ready()
    replaced = server.pids("worker")
    assert server.stop() == 0
    lines = server.lines()

    assert lines.count(f"start {supervisor} None") == 1
    assert {f"worker_start {pid} {worker} {worker}" for worker, pid in enumerate(workers)} <= set(lines)
    (dead,) = set(workers) - set(replaced)
    worker_id = workers.index(dead)
    assert f"worker_error {supervisor} {worker_id} {dead} 7 0" in lines
    assert f"worker_start {replaced[worker_id]} {worker_id} {worker_id}" in lines
    assert sorted(line for line in lines if line.startswith("worker_stop")) == sorted(
        f"worker_stop {pid} {worker}" for worker, pid in enumerate(replaced)
    )
    ends = [line for line in lines if line.split()[0] in ("before_shutdown", "shutdown", "after")]
    assert ends == [f"before_shutdown {supervisor}", f"shutdown {supervisor}", f"after start {supervisor}"]
    assert lines.index(ends[0]) < min(lines.index(line) for line in lines if line.startswith("worker_stop"))


# Order.

KINDS = {
    "def": ("def", "time.sleep(0.001)"),
    "async": ("async def", "await asyncio.sleep(0.001)"),
}
ORDER = """
    import asyncio
    import time
    from zwoole import Server

    server = Server()

    @server.on("open")
    {open} on_open(server, request):
        {open_pause}
        server.push(request.fd, "open")

    @server.on("message")
    {message} on_message(server, frame):
        if int(frame.data) % 7 == 0:
            {message_pause}
        server.push(frame.fd, frame.data)

    @server.on("close")
    {close} on_close(server, fd, code):
        print("close", fd, code)

    server.start()
"""


@pytest.mark.parametrize("kinds", ["def def def", "async async async", "def async def", "async def async"])
def test_order(serve: Serve, kinds: str) -> None:
    """Open, then the messages in order, then close, for every way to write callbacks."""
    fields: dict[str, str] = {}
    for name, kind in zip(("open", "message", "close"), kinds.split(), strict=True):
        fields[name], fields[f"{name}_pause"] = KINDS[kind]
    server = serve(ORDER.format(**fields))
    with server.connect() as one, server.connect() as two:
        for number in range(50):
            for client in (one, two):
                client.send(str(number))
        for client in (one, two):
            assert [client.recv(PATIENCE_S) for _ in range(51)] == ["open", *map(str, range(50))]
        one.close(4567)
    server.wait_line("close 1 4567")
    server.wait_line("close 2 1000")


def test_coroutines_of_different_connections_interleave(serve: Serve) -> None:
    server = serve(
        """
        import asyncio
        from zwoole import Server

        server = Server()
        gate = None

        @server.on("message")
        async def on_message(server, frame):
            global gate
            gate = gate or asyncio.Event()
            if frame.data == "wait":
                await gate.wait()
            else:
                gate.set()
            server.push(frame.fd, frame.data)

        server.start()
        """
    )
    with server.connect() as one, server.connect() as two:
        one.send("wait")
        two.send("open the gate")
        assert two.recv(PATIENCE_S) == "open the gate"
        assert one.recv(PATIENCE_S) == "wait"


# Failures.

FAILING = """
    import os
    from zwoole import Server

    server = Server()

    @server.on("open")
    {0} on_open(server, request):
        if request.path == "/fail":
            raise LookupError("no such room")

    @server.on("message")
    {0} on_message(server, frame):
        if frame.data == "fail":
            server.push(frame.fd, "pushed before it failed")
            raise ValueError("that went wrong")
        server.push(frame.fd, str(os.getpid()))

    @server.on("close")
    {0} on_close(server, fd, code, reason, initiator):
        print("close", fd, code, reason, initiator)
        if code == 4000:
            raise RuntimeError("even the end failed")

    server.start()
"""


@pytest.fixture(scope="module", params=["def", "async def"])
def failing(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with ServerProcess(FAILING.format(request.param)) as server:
        yield server.serve()


def test_exception_in_message(failing: ServerProcess) -> None:
    with failing.connect() as other, RawClient(failing.port) as client:
        other.send("who are you?")
        pid = other.recv(PATIENCE_S)
        client.upgrade()
        client.send(*(client_frame(TEXT, text) for text in (b"fail", b"never run", b"fail")))
        message, close = client.read_frames()
        assert message == ServerFrame(TEXT, b"pushed before it failed")
        assert (close.close_code, close.payload[2:]) == (1011, b"callback failed")
        other.send("still you?")
        assert other.recv(PATIENCE_S) == pid, "the worker lives on"
    log = failing.wait_log("ValueError: that went wrong")
    assert "the 'message' callback failed for fd " in log
    assert 'raise ValueError("that went wrong")' in log
    wait_for(lambda: any(line.endswith("1011 callback failed server") for line in failing.lines()), "close callback")


def test_exception_in_open(failing: ServerProcess) -> None:
    with failing.connect("/fail") as client, pytest.raises(ConnectionClosed, match="1011"):
        client.recv(PATIENCE_S)
    failing.wait_log("the 'open' callback failed for fd ")


def test_exception_in_close(failing: ServerProcess) -> None:
    with failing.connect() as client:
        client.close(4000)
    failing.wait_log("the 'close' callback failed for fd ")
    with failing.connect() as client:
        client.send("who are you?")
        assert int(client.recv(PATIENCE_S)) == failing.pids("worker")[0]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_start_in_a_callback_is_a_failure_of_that_callback(serve: Serve, kind: str) -> None:
    """Its connection is closed, and the worker serves the others as before."""
    server = serve(f"""
        import os
        from zwoole import Server

        server = Server()

        @server.on("message")
        {kind} on_message(server, frame):
            if frame.data == "again":
                server.start()
            if frame.data == "other":
                other = Server(port=0)
                other.on("message", print)
                other.start()
            server.push(frame.fd, str(os.getpid()))

        server.start()
    """)
    with server.connect() as bystander:
        bystander.send("pid")
        pid = bystander.recv(PATIENCE_S)
        for what in ("again", "other"):
            with server.connect() as client, pytest.raises(ConnectionClosed) as info:
                client.send(what)
                client.recv(PATIENCE_S)
            assert info.value.rcvd is not None
            assert info.value.rcvd.code == 1011
        bystander.send("pid")
        assert bystander.recv(PATIENCE_S) == pid
    assert server.log().count("WrongProcess: start() was called while this process serves already, ") == 2
    assert server.stop() == 0


def test_system_exit_recycles_the_worker(serve: Serve) -> None:
    server = serve(
        """
        import os
        import sys
        from zwoole import Server

        server = Server()

        @server.on("message")
        def on_message(server, frame):
            server.push(frame.fd, str(os.getpid()))
            if frame.data == "exit":
                sys.exit()

        server.start()
        """
    )
    (first,) = server.pids("worker")
    with server.connect() as client:
        client.send("exit")
        assert client.recv(PATIENCE_S) == str(first)

        def answered_by_another() -> bool:
            client.send("who are you?")
            return client.recv(PATIENCE_S) != str(first)

        wait_for(answered_by_another, "the successor on the same connection")
    assert "is replaced: a callback raised SystemExit" in server.log()


EXITS = """
    import os
    import sys
    from zwoole import Server

    server = Server()
    leaving = []

    @server.on("handshake")
    {0} on_handshake(server, request):
        if request.path == "/exit/handshake":
            sys.exit("in handshake")

    @server.on("open")
    {0} on_open(server, request):
        server.push(request.fd, str(os.getpid()))
        if request.path == "/exit/open":
            sys.exit("in open")

    @server.on("message")
    {0} on_message(server, frame):
        server.push(frame.fd, f"{{frame.data}} {{os.getpid()}}")
        if frame.data == "exit":
            sys.exit("in message")

    @server.on("close")
    {0} on_close(server, fd, code):
        print("close", os.getpid(), code)
        if code == 4000:
            sys.exit("in close")

    {1}
    @server.on("retire")
    {0} on_retire(server, worker_id):
        print("retire", os.getpid())
        sys.exit("in retire")

    @server.on("worker_stop")
    {0} on_worker_stop(server, worker_id):
        print("stop", os.getpid())
        sys.exit("in worker_stop")

    @server.on("worker_error")
    def on_worker_error(server):
        print("worker_error")

    server.start()
"""


EXITING_HANDLER = """
    @server.handler("/exit/handler")
    async def handler(ws):
        await ws.recv()
        sys.exit("in handler")
"""
EXITING = [(event, kind) for event in ("handshake", "open", "message", "close") for kind in ("def", "async def")]


@pytest.mark.parametrize(("event", "kind"), [*EXITING, ("handler", "async def")])
def test_system_exit_in_a_callback_ends_no_connection(serve: Serve, event: str, kind: str) -> None:
    """The event counts as finished, and the worker serves until its successor is there; then its connections move."""
    server = serve(EXITS.format(kind, EXITING_HANDLER if event == "handler" else ""))
    (first,) = server.pids("worker")

    def has_moved(client: ClientConnection) -> bool:
        client.send("who are you?")
        return client.recv(PATIENCE_S) != f"who are you? {first}"

    with server.connect() as other:
        assert other.recv(PATIENCE_S) == str(first)
        if event == "handshake":
            with pytest.raises(InvalidStatus) as refused, server.connect("/exit/handshake"):
                pass
            assert refused.value.response.status_code == 503
        elif event == "close":
            with server.connect() as client:
                client.close(4000)
        elif event == "handler":
            with server.connect("/exit/handler") as client, pytest.raises(ConnectionClosed, match="1000"):
                client.send("exit")
                client.recv(PATIENCE_S)
        else:
            with server.connect("/exit/open" if event == "open" else "/") as client:
                assert client.recv(PATIENCE_S) == str(first)
                if event == "message":
                    client.send("exit")
                    assert client.recv(PATIENCE_S) == f"exit {first}"
                wait_for(lambda: has_moved(client), "the connection to move")
        wait_for(lambda: has_moved(other), "the other connection to move")
    server.wait_line(f"stop {first}")
    stats = server.status()["stats"]["total"]
    assert server.stop() == 0
    log = server.log()
    assert stats["failures"] == {}, "it is no failure"
    assert "worker_error" not in server.lines(), "it is no death"
    assert "is replaced: a callback raised SystemExit" in log
    where = "" if event == "handler" else " callback"
    assert re.search(rf"the '?{event}'?{where} raised SystemExit for fd \d+: this worker will be replaced", log)
    assert log.count("raised SystemExit for") == 1
    assert "failed" not in log


def test_slow_callback_is_reported(serve: Serve) -> None:
    server = serve(
        """
        import time
        from zwoole import Server

        server = Server()

        @server.on("message")
        def on_message(server, frame):
            time.sleep(float(frame.data))

        server.start()
        """,
        slow_callback_s=0.1,
    )
    with server.connect() as client:
        client.send("0.15")
        log = server.wait_log("the 'message' callback took ")
    assert "WARNING" in log


def test_program_started_from_a_callback_is_no_worker(serve: Serve) -> None:
    """The environment does not assign roles: a zwoole app that a callback starts is a separate server."""
    server = serve(
        """
        import subprocess
        import sys
        from zwoole import Server

        server = Server()

        @server.on("message")
        def on_message(server, frame):
            child = [sys.executable, "-c", "import zwoole; print(zwoole.Server().worker_id)"]
            server.push(frame.fd, subprocess.run(child, capture_output=True, text=True).stdout)

        server.start()
        """
    )
    with server.connect() as client:
        client.send("run it")
        assert client.recv(PATIENCE_S) == "None\n"


def test_a_busy_worker_does_not_stop_the_other(serve: Serve) -> None:
    server = serve(
        """
        import os
        import time
        from zwoole import Server

        server = Server()

        @server.on("message")
        def on_message(server, frame):
            while frame.data == "wait" and not os.path.exists("go"):
                time.sleep(0.01)
            server.push(frame.fd, frame.data)

        server.start()
        """,
        workers=2,
    )
    with server.connect() as slow, server.connect() as quick:
        slow.send("wait")
        for _ in range(20):
            quick.send("x")
            assert quick.recv(PATIENCE_S) == "x"
        server.write("go", "")
        assert slow.recv(PATIENCE_S) == "wait"


def test_lines_of_workers_are_whole() -> None:
    """Workers share one stdout; their lines do not mix, even if PYTHONUNBUFFERED forbids buffering."""
    app = """
        from zwoole import Server

        server = Server()

        @server.on("message")
        def on_message(server, frame):
            for _ in range(500):
                print("one", "line", "of", "worker", server.worker_id)
            server.push(frame.fd, "done")

        server.start()
    """
    with ServerProcess(app, workers=2) as server:
        server.start({"PYTHONUNBUFFERED": "1"})
        server.wait_log("listening on ")
        server.wait_ready()
        with server.connect() as one, server.connect() as two:
            one.send("go")
            two.send("go")
            assert one.recv(PATIENCE_S) == two.recv(PATIENCE_S) == "done"
        assert sorted(set(server.lines())) == ["one line of worker 0", "one line of worker 1"]
        assert len(server.lines()) == 1000


BLOCKS = """
import time

from zwoole import Server

server = Server()


@server.on("message")
async def on_message(server, frame):
    time.sleep(0.2)  # twice what asyncio lets pass


server.start()
"""


def test_asyncio_logs_a_step_that_blocks() -> None:
    with ServerProcess(BLOCKS) as server:
        server.start({"PYTHONASYNCIODEBUG": "1"})
        server.wait_ready()
        with server.connect() as client:
            client.send("a")
            server.wait_log("WARNING Executing <Task")
