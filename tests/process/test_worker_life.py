"""A worker from start to end: what works in worker_start, `retire`, and what is left at the end."""

from __future__ import annotations

import os
import signal

import pytest

from tests.process.conftest import Serve
from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for

# Retiring.

TIMERS = {
    "task": """
        @server.on("worker_start")
        async def on_worker_start(server, worker_id):
            server.timer = asyncio.create_task(tick())

        async def tick():
            number = 0
            while not server.retiring:
                number += 1
                print("tick", os.getpid(), number)
                await asyncio.sleep(0.005)
    """,
    "thread": """
        @server.on("worker_start")
        def on_worker_start(server, worker_id):
            server.timer = threading.Thread(target=tick)
            server.timer.start()

        def tick():
            number = 0
            while not server.retiring:
                number += 1
                print("tick", os.getpid(), number)
                time.sleep(0.005)
    """,
}
RETIRES = """
        import asyncio
        import os
        import threading
        import time
        from zwoole import Server

        server = Server()
        {timer}
        @server.on("retire")
        {kind} on_retire(server, worker_id):
            print("retire", os.getpid(), worker_id, server.worker_id, server.retiring)

        @server.on("worker_stop")
        def on_worker_stop(server, worker_id):
            print("stop", os.getpid(), server.retiring)

        @server.on("message")
        def on_message(server, frame):
            server.push(frame.fd, str(os.getpid()))

        @server.handler("/stays")
        async def stays(ws):
            async for message in ws:
                await ws.send(str(os.getpid()))

        server.start()
"""


@pytest.mark.parametrize(("timer", "kind"), [("task", "async def"), ("thread", "def")])
def test_a_timer_ends_at_a_reload_though_a_connection_keeps_its_worker(serve: Serve, timer: str, kind: str) -> None:
    server = serve(RETIRES.format(timer=TIMERS[timer], kind=kind))
    (old,) = server.pids("worker")
    with server.connect("/stays") as client:
        client.send("who are you?")
        assert client.recv(PATIENCE_S) == str(old)
        server.reload()
        server.wait_line(f"retire {old} 0 0 True")
        new = next(pid for pid in server.pids("worker") if pid != old)
        seen = ticks(server, new)
        wait_for(lambda: ticks(server, new) > seen + 20, "the successor's timer to go on")
        client.send("still you?")
        assert client.recv(PATIENCE_S) == str(old)
        lines = server.lines()
    behind = lines[lines.index(f"retire {old} 0 0 True") + 1 :]
    late = [line for line in behind if line.startswith(f"tick {old} ")]
    assert len(late) <= 1, "the tick that was under way"
    assert len(lines) == len(set(lines)), "nothing comes twice"
    server.wait_line(f"stop {old} True")
    assert server.stop() == 0
    lines = server.lines()
    assert lines.index(f"retire {new} 0 0 True") < lines.index(f"stop {new} True")


def ticks(server: ServerProcess, pid: int) -> int:
    """Return how often a worker's timer has run."""
    return sum(line.startswith(f"tick {pid} ") for line in server.lines())


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_retire_runs_before_worker_stop_whatever_the_reason(serve: Serve, kind: str) -> None:
    server = serve(
        f"""
        import os
        import sys
        from zwoole import Server

        server = Server()

        @server.on("retire")
        {kind} on_retire(server, worker_id):
            print("retire", os.getpid())
            raise ValueError("even that failed")

        @server.on("worker_stop")
        {kind} on_worker_stop(server):
            print("stop", os.getpid())

        @server.on("message")
        {kind} on_message(server, frame):
            sys.exit()

        server.start()
        """,
        workers=2,
    )
    given_up = server.pids("worker")[1]
    server.send_signal(signal.SIGTTOU)
    server.wait_line(f"stop {given_up}")
    (asked,) = [pid for pid in server.pids("worker") if pid != given_up]
    with server.connect() as client:
        client.send("exit")
        server.wait_line(f"stop {asked}")
    lines = server.lines()
    for pid in (given_up, asked):
        assert lines.index(f"retire {pid}") < lines.index(f"stop {pid}")
    assert server.log().count("the 'retire' callback failed") == 2


# What works in worker_start.

COMMANDS = """
        import asyncio
        import os
        import threading
        from zwoole import NotServing, Server

        server = Server()
        calls = {{
            "push": lambda: server.push(1, "x"),
            "ping": lambda: server.ping(1),
            "broadcast": lambda: server.broadcast("x"),
            "disconnect": lambda: server.disconnect(1),
            "set_state": lambda: server.set_state(1, "x"),
            "send_message": lambda: server.send_message("x", 0),
            "exists": lambda: server.exists(1),
            "is_established": lambda: server.is_established(1),
            "buffered_amount": lambda: server.buffered_amount(1),
        }}

        @server.on("worker_start")
        {kind} on_worker_start(server, worker_id):
            for name, call in calls.items():
                try:
                    print(name, call())
                except NotServing as error:
                    print(name, "raises:", str(error)[:36])
            print("connections", server.stats()["total"]["connections"])
            {begin}

        def by_thread():
            server.broadcast(f"{{os.getpid()}} can push")

        async def by_task():
            {wait}
            server.broadcast(f"{{os.getpid()}} can push")

        @server.on("message")
        def on_message(server, frame):
            server.push(frame.fd, frame.data)

        server.start()
"""
THREAD = "threading.Thread(target=by_thread).start()"
TASK = "server.task = asyncio.create_task(by_task())"
EARLY = f"{TASK}; await asyncio.sleep(0.01)"


@pytest.mark.parametrize(
    ("kind", "begin", "wait"),
    [
        ("def", THREAD, "pass"),
        ("async def", THREAD, "pass"),
        ("async def", TASK, "pass"),
        ("async def", EARLY, "await server.drain()"),
    ],
)
@pytest.mark.parametrize("reactors", [1, 2])
def test_nothing_is_lost_in_worker_start(serve: Serve, kind: str, begin: str, wait: str, reactors: int) -> None:
    """A command raises there, and works in the threads and tasks that it starts; a new worker reaches all clients."""
    server = serve(COMMANDS.format(kind=kind, begin=begin, wait=wait), reactor_num=reactors)
    commands = ("push", "ping", "broadcast", "disconnect", "set_state", "send_message")
    looks = ("exists", "is_established", "buffered_amount")
    lines = server.lines()
    for name in (*commands, *looks):
        assert f"{name} raises: this worker does not serve yet: it c" in lines
    assert "connections 0" in lines
    (old,) = server.pids("worker")
    with server.connect() as client:
        client.send("open")
        while client.recv(PATIENCE_S) != "open":
            pass  # the first worker's broadcast, if it comes only now
        server.reload()
        seen = client.recv(PATIENCE_S)
        while seen == f"{old} can push":
            seen = client.recv(PATIENCE_S)
        assert str(seen).endswith(" can push")
    assert server.status()["stats"]["total"]["failures"] == {}


def test_what_works_in_worker_stop(serve: Serve) -> None:
    """In a replaced worker everything works. When the server stops, clients and the masters that carry messages are
    gone.
    """
    server = serve(
        """
        from zwoole import QueueFull, Server

        server = Server()

        @server.on("worker_stop")
        def on_worker_stop(server, worker_id):
            print("push", server.push(1, "x"))
            server.broadcast("the old worker goes")
            try:
                server.send_message("from the old worker", 0)
            except QueueFull as error:
                print(error)

        @server.on("pipe_message")
        def on_pipe_message(server, worker_id, message):
            print(message)

        @server.on("message")
        def on_message(server, frame):
            server.push(frame.fd, frame.data)

        server.start()
        """
    )
    with server.connect() as client:
        client.send("open")
        assert client.recv(PATIENCE_S) == "open"
        server.reload()
        assert client.recv(PATIENCE_S) == "x"
        assert client.recv(PATIENCE_S) == "the old worker goes"
        server.wait_line("from the old worker")
    assert server.stop() == 0
    assert server.lines()[-2:] == ["push False", "there is no master that could pass the message on"]


# Failures outside of callbacks.


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_failed_worker_stop_says_so(serve: Serve, kind: str) -> None:
    server = serve(
        f"""
        from zwoole import Server

        server = Server()

        @server.on("worker_stop")
        {kind} on_worker_stop(server):
            raise ValueError("cannot clean up")

        @server.on("message")
        def on_message(server, frame):
            pass

        server.start()
        """
    )
    assert server.stop() == 0
    log = server.log()
    assert "the 'worker_stop' callback failed" in log
    assert "ValueError: cannot clean up" in log
    assert "start()" not in log.replace("server.start()", "")


TASKS = """
        import asyncio
        import os
        import sys
        import threading
        import time
        from zwoole import Server

        server = Server()
        kept = []

        async def fails():
            raise ValueError("mine")

        async def exits():
            raise SystemExit

        async def runs():
            await asyncio.Event().wait()

        async def never_ends():
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass

        async def awaited():
            try:
                await asyncio.create_task(fails())
            except ValueError:
                print("awaited")

        def thread_fails():
            raise ValueError("mine")

        def thread_exits():
            sys.exit("the thread ends")

        class Unraisable:
            def __del__(self):
                raise ValueError("mine")

        def waits():
            while not os.path.exists("go"):
                time.sleep(0.01)

        @server.on("message")
        async def on_message(server, frame):
            if frame.data == "thread_exits":
                thread = threading.Thread(target=thread_exits)
                thread.start()
                thread.join()
            elif frame.data == "thread":
                threading.Thread(target=thread_fails, name="helper").start()
            elif frame.data == "callback":
                asyncio.get_running_loop().call_soon(thread_fails)
            elif frame.data == "unraisable":
                Unraisable()
            elif frame.data == "waits":
                threading.Thread(target=waits, name="patient").start()
            elif frame.data == "forget":
                asyncio.create_task(fails())
            else:
                kept.append(asyncio.create_task(globals()[frame.data](), name="job"))
            server.push(frame.fd, str(os.getpid()))

        server.start()
"""


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("fails", "the task job (fails) failed"),
        ("forget", " (fails) failed"),
        ("thread", "the thread helper failed"),
        ("callback", "asyncio: Exception in callback"),
        ("unraisable", "an exception could not be raised: Exception ignored in: <function Unraisable.__del__"),
    ],
)
def test_what_fails_outside_of_callbacks_is_logged(serve: Serve, what: str, words: str) -> None:
    server = serve(TASKS)
    with server.connect() as client:
        for text in ("awaited", what):
            client.send(text)
            client.recv(PATIENCE_S)
        log = server.wait_log("ValueError: mine")
    assert words in log
    assert server.stop() == 0
    assert server.log().count("ValueError: mine") == 1, "once, and not what somebody has awaited"
    assert "awaited" in server.lines()


def test_a_task_that_raises_system_exit_has_its_worker_replaced(serve: Serve) -> None:
    server = serve(TASKS)
    with server.connect() as client:
        client.send("exits")
        first = client.recv(PATIENCE_S)

        def replaced() -> bool:
            client.send("awaited")
            return client.recv(PATIENCE_S) != first

        wait_for(replaced, "the successor on the same connection")
    log = server.log()
    assert "is replaced: a task raised SystemExit" in log
    assert "Traceback" not in log


def test_system_exit_in_a_thread_ends_the_thread_only(serve: Serve) -> None:
    server = serve(TASKS)
    (first,) = server.pids("worker")
    with server.connect() as client:
        for text in ("thread_exits", "awaited"):
            client.send(text)
            assert client.recv(PATIENCE_S) == str(first)
    assert server.stop() == 0
    assert "is replaced" not in server.log()
    assert "failed" not in server.log()


def test_tasks_that_are_left_at_the_end_are_cancelled_and_named(serve: Serve) -> None:
    server = serve(TASKS)
    with server.connect() as client:
        for _ in range(2):
            client.send("runs")
            client.recv(PATIENCE_S)
    assert server.stop() == 0
    assert (
        "2 task(s) of the app still ran when this worker ended, and were cancelled: job (runs), job (runs)"
        in server.log()
    )


CANCELLED = """
        import asyncio
        from zwoole import Server

        server = Server()
        timers = []
        shutting = asyncio.Event()

        async def waits():
            await asyncio.Event().wait()

        async def cleans_up():
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.wait([asyncio.create_task(asyncio.sleep(0.01))])
                print("cleaned up")

        async def fails():
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("while it cleaned up")

        async def is_told():
            await shutting.wait()

        async def goes_on():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.Event().wait()

        @server.on("worker_start")
        async def on_worker_start(server, worker_id):
            timers.append(asyncio.create_task({task}(), name="timer"))

        @server.on("{event}")
        def on_end(server, worker_id):
            shutting.set()
            if {cancels}:
                for timer in timers:
                    timer.cancel()

        @server.on("message")
        def on_message(server, frame):
            server.push(frame.fd, frame.data)

        server.start()
"""


@pytest.mark.parametrize("event", ["retire", "worker_stop"])
@pytest.mark.parametrize("task", ["waits", "cleans_up", "is_told"])
def test_a_task_that_the_app_ends_ends_in_silence(serve: Serve, task: str, event: str) -> None:
    """Whether the app cancels it (it may clean up then) or ends it in another way; at a reload and at a stop."""
    server = serve(CANCELLED.format(task=task, event=event, cancels=task != "is_told"))
    (old,) = server.pids("worker")
    server.reload()
    wait_for(lambda: old not in server.pids("worker"), "the old worker to end")
    assert server.stop() == 0
    assert "task(s)" not in server.log()
    assert server.lines().count("cleaned up") == (2 if task == "cleans_up" else 0)


def test_a_task_that_fails_when_the_app_has_cancelled_it_is_logged(serve: Serve) -> None:
    server = serve(CANCELLED.format(task="fails", event="worker_stop", cancels=True))
    assert server.stop() == 0
    assert "the task timer (fails) failed" in server.log()
    assert "task(s)" not in server.log()


def test_a_task_that_goes_on_when_the_app_has_cancelled_it_is_cancelled_again_and_named(serve: Serve) -> None:
    server = serve(CANCELLED.format(task="goes_on", event="worker_stop", cancels=True))
    assert server.stop() == 0
    words = "1 task(s) of the app still ran when this worker ended, and were cancelled: timer (goes_on)"
    assert words in server.log()


def test_a_task_that_cannot_be_cancelled_holds_nothing_up(serve: Serve) -> None:
    server = serve(TASKS)
    with server.connect() as client:
        client.send("never_ends")
        client.recv(PATIENCE_S)
    assert server.stop() == 0
    assert "1 task(s) went on after they were cancelled: job (never_ends)" in server.log()


def test_a_thread_that_the_end_waits_for_is_named(serve: Serve) -> None:
    server = serve(TASKS, max_wait_time=60)
    with server.connect() as client:
        client.send("waits")
        client.recv(PATIENCE_S)
    server.send_signal(signal.SIGTERM)
    server.wait_log("this worker has ended, but waits for 1 thread(s): patient")
    server.write("go", "")
    assert server.wait() == 0


def test_a_job_in_a_thread_of_the_loop_that_the_end_waits_for_is_named(serve: Serve) -> None:
    server = serve(
        """
        import asyncio
        import os
        import time
        from zwoole import Server

        server = Server()

        def job():
            while not os.path.exists("go"):
                time.sleep(0.01)

        @server.on("message")
        async def on_message(server, frame):
            asyncio.get_running_loop().run_in_executor(None, job)
            server.push(frame.fd, "started")

        server.start()
        """,
        max_wait_time=60,
    )
    with server.connect() as client:
        client.send("start")
        client.recv(PATIENCE_S)
    server.send_signal(signal.SIGTERM)
    server.wait_log("this worker has ended, but waits for 1 thread(s): asyncio_0")
    server.write("go", "")
    assert server.wait() == 0


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_exception_of_a_signal_handler_ends_the_worker_and_says_so(serve: Serve, kind: str) -> None:
    server = serve(
        f"""
        import os
        import signal
        from zwoole import Server

        server = Server()

        def interrupt(number, frame):
            raise ValueError("from a signal handler")

        @server.on("worker_start")
        def on_worker_start(server):
            signal.signal(signal.SIGUSR2, interrupt)

        @server.on("message")
        {kind} on_message(server, frame):
            server.push(frame.fd, str(os.getpid()))

        server.start()
        """
    )
    (first,) = server.pids("worker")
    os.kill(first, signal.SIGUSR2)
    log = server.wait_log(f"worker 0 (pid {first}) exited with code 1")
    assert "an exception ended this worker's loop" in log
    assert "ValueError: from a signal handler" in log
    assert "start()" not in log.replace("server.start()", "")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_signal_handler_that_exits_has_its_worker_replaced(serve: Serve, kind: str) -> None:
    """The worker goes on until its successor is there, with its connections, and ends as any other."""
    server = serve(
        f"""
        import os
        import signal
        import sys
        from zwoole import Server

        server = Server()

        @server.on("worker_start")
        def on_worker_start(server):
            signal.signal(signal.SIGUSR2, lambda number, frame: sys.exit(0))

        @server.on("message")
        {kind} on_message(server, frame):
            server.push(frame.fd, str(os.getpid()))

        @server.on("worker_stop")
        def on_worker_stop(server):
            print("worker_stop", flush=True)

        server.start()
        """
    )
    with server.connect() as client:
        client.send("a")
        first = client.recv(PATIENCE_S)
        os.kill(int(str(first)), signal.SIGUSR2)

        def replaced() -> bool:
            client.send("a")
            return client.recv(PATIENCE_S) != first

        wait_for(replaced, "the successor on the same connection")
    wait_for(lambda: "worker_stop" in server.lines(), "the first to end")
    assert "raised SystemExit" in server.wait_log("worker 0 is replaced: a ")
    assert "before it reached start()" not in server.log()
    assert "exited with code" not in server.log()


# A timer that runs in one worker only.

ONCE = """
        import asyncio
        import fcntl
        from zwoole import Server

        server = Server()
        lock = open("ticks", "a+")
        timers = []

        async def tick():
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    lock.seek(0)
                    number = len(lock.read())
                    lock.write("x")
                    lock.flush()
                    server.broadcast(str(number))
                except BlockingIOError:
                    pass
                await asyncio.sleep(0.005)

        @server.on("worker_start")
        async def on_worker_start(server, worker_id):
            timers.append(asyncio.create_task(tick()))

        @server.on("retire")
        def on_retire(server, worker_id):
            for timer in timers:
                timer.cancel()
            fcntl.flock(lock, fcntl.LOCK_UN)

        @server.handler("/stays")
        async def stays(ws):
            await ws.wait_closed()

        server.start()
"""


def test_a_timer_with_a_lock_ticks_once_for_all_workers_also_over_a_reload(serve: Serve) -> None:
    """The connection keeps its old worker alive, and sees each tick once."""
    server = serve(ONCE, workers=2)
    old = server.pids("worker")
    with server.connect("/stays") as client:
        numbers = [int(client.recv(PATIENCE_S)) for _ in range(20)]
        server.reload()
        wait_for(lambda: len(set(server.pids("worker")) & set(old)) == 1, "one old worker to end and one to stay")
        numbers += [int(client.recv(PATIENCE_S)) for _ in range(200)]
    assert sorted(numbers) == list(range(numbers[0], numbers[0] + 220))
