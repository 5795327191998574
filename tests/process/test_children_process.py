"""Processes and threads that callbacks start: they behave as in plain Python, and end with their worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import Serve
from tests.process.server_process import ZWOOLE, ServerProcess, free_ports, is_alive
from tests.process.waiting import PATIENCE_S, wait_for
from tests.supervisor.system.test_reaper import state
from zwoole.shared.process.signals import SUPERVISOR_SIGNALS
from zwoole.supervisor.core.exit_codes import EXIT_FORCED
from zwoole.workers.server import COMMANDS

# Runs what a client sends, as the body of a function or coroutine, and answers with its result.
HEAD = """
    import asyncio
    import concurrent.futures
    import multiprocessing
    import os
    import signal
    import subprocess
    import sys
    import textwrap
    import threading
    import time
    import traceback
    import zwoole
    from zwoole import Server

    server = Server()
    saved = {}
    worker = os.getpid()

    def sleep(seconds=1000):
        time.sleep(seconds)

    def square(number):
        return number * number

    def forever(path):
        with open(path, "w") as file:
            file.write(str(os.getpid()))
        while True:
            time.sleep(1000)

    def define(source):
        kind = "async def" if "await" in source else "def"
        names = {}
        exec(f"{kind} body(server, frame):\\n" + textwrap.indent(textwrap.dedent(source), "    "), globals(), names)
        return names["body"]
"""
SYNC = (
    HEAD
    + """
    @server.on("message")
    def on_message(server, frame):
        answer = define(frame.data)(server, frame)
        if os.getpid() == worker:
            server.push(frame.fd, str(answer))

    if __name__ == "__main__":
        server.start()
    """
)
ASYNC = (
    HEAD
    + """
    @server.on("message")
    async def on_message(server, frame):
        answer = define(frame.data)(server, frame)
        answer = await answer if hasattr(answer, "__await__") else answer
        if os.getpid() == worker:
            server.push(frame.fd, str(answer))

    if __name__ == "__main__":
        server.start()
    """
)
HANDLER = (
    HEAD
    + """
    @server.handler("/")
    async def serve(ws):
        async for data in ws:
            answer = define(data)(server, ws)
            answer = await answer if hasattr(answer, "__await__") else answer
            if os.getpid() != worker:
                return
            await ws.send(str(answer))

    if __name__ == "__main__":
        server.start()
    """
)
KINDS = {"def": SYNC, "async def": ASYNC, "handler": HANDLER}


METHODS = [*((kind, "fork") for kind in KINDS), ("def", "spawn"), ("def", "forkserver")]

Shared = Callable[[str], ServerProcess]


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest) -> str:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """Return a function that provides a server of a kind, for tests that leave it unchanged; at the end it must
    stop.
    """
    with ExitStack() as stack:
        servers: dict[str, ServerProcess] = {}

        def serve(kind: str) -> ServerProcess:
            if kind not in servers:
                servers[kind] = stack.enter_context(ServerProcess(KINDS[kind])).serve()
            return servers[kind]

        yield serve
        for server in servers.values():
            assert server.stop() == 0


@pytest.fixture(params=KINDS)
def each(request: pytest.FixtureRequest, shared: Shared) -> ServerProcess:
    """A server of each kind, for tests that leave it unchanged."""
    return shared(request.param)


@pytest.fixture
def plain(shared: Shared) -> ServerProcess:
    """A server with a `def` callback, for tests that leave it unchanged."""
    return shared("def")


def ask(server: ServerProcess, source: str) -> str:
    """Let a callback run the body of a function, and return its result as text."""
    with server.connect(open_timeout=PATIENCE_S) as client:
        client.send(source)
        return str(client.recv(PATIENCE_S))


# What works as in plain Python.


@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_a_process_can_be_terminated(shared: Shared, kind: str, method: str) -> None:
    code = f"""
    process = multiprocessing.get_context("{method}").Process(target=sleep)
    process.start()
    process.terminate()
    process.join()
    return process.exitcode
    """
    assert ask(shared(kind), code) == str(-signal.SIGTERM)


@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_a_pool_works_and_ends_with_its_block(shared: Shared, kind: str, method: str) -> None:
    """Even while one of its processes is busy."""
    code = f"""
    with multiprocessing.get_context("{method}").Pool(1) as pool:
        answer = pool.apply(square, [7])
        pool.apply_async(forever, ["busy in {method}"])
        while not os.path.exists("busy in {method}"):
            time.sleep(0.01)
    return answer
    """
    assert ask(shared(kind), code) == "49"


@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_an_executor_works_and_stops_with_the_server(serve: Serve, kind: str, method: str) -> None:
    server = serve(KINDS[kind])
    code = f"""
    context = multiprocessing.get_context("{method}")
    saved["pool"] = concurrent.futures.ProcessPoolExecutor(2, mp_context=context)
    return list(saved["pool"].map(square, range(4)))
    """
    assert ask(server, code) == "[0, 1, 4, 9]"
    assert server.stop() == 0


@pytest.mark.parametrize("kind", ["async def", "handler"])
def test_a_coroutine_awaits_an_executor(shared: Shared, kind: str) -> None:
    server = shared(kind)
    code = """
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, square, 5)
    """
    assert ask(server, code) == "25"
    assert ask(server, "return await asyncio.to_thread(square, 6)") == "36"
    code = """
    process = await asyncio.create_subprocess_exec("echo", "there", stdout=subprocess.PIPE)
    return (await process.communicate())[0]
    """
    assert ask(server, code) == r"b'there\n'"


def test_a_daemon_process_does_not_hold_up_the_stop(serve: Serve, app: str) -> None:
    server = serve(app)
    code = """
    process = multiprocessing.get_context("fork").Process(target=sleep, daemon=True)
    process.start()
    return process.pid
    """
    ask(server, code)
    assert server.stop() == 0


START_ANOTHER = """
def start_another():
    process = multiprocessing.get_context("fork").Process(target=sleep)
    process.start()
    process.terminate()
    process.join()
    print(process.exitcode, flush=True)

"""
NO_FORK_AT_EXIT = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="from 3.12 on Python forks nothing at its exit"
)


IN_FINALLY = (
    START_ANOTHER
    + """
if __name__ == "__main__":
    try:
        server.start()
    finally:
        if "zwoole.workers.worker_process" in sys.modules:
            start_another()
"""
)
AT_EXIT = (
    START_ANOTHER
    + """
import atexit
if "zwoole.workers.worker_process" in sys.modules:
    atexit.register(start_another)
if __name__ == "__main__":
    server.start()
"""
)


@pytest.mark.parametrize(
    "ending", [IN_FINALLY, pytest.param(AT_EXIT, marks=NO_FORK_AT_EXIT)], ids=["finally", "atexit"]
)
def test_a_process_can_be_terminated_at_the_very_end(serve: Serve, app: str, ending: str) -> None:
    """After the worker has said goodbye and its event loop is closed."""
    start = textwrap.indent('if __name__ == "__main__":\n    server.start()\n', "    ")
    assert start in app
    server = serve(app.replace(start, textwrap.indent(ending, "    ")))
    assert server.stop() == 0
    assert server.lines() == ["-15"]
    assert server.log().count("Traceback") == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM])
def test_a_program_ends_by_a_signal(plain: ServerProcess, number: signal.Signals) -> None:
    code = f"""
    program = subprocess.Popen(["sleep", "1000"])
    program.send_signal({int(number)})
    return program.wait()
    """
    assert ask(plain, code) == str(-number)


def signal_state(status: str) -> list[str]:
    """Return the signals that a process blocks, ignores and handles, from /proc/PID/status."""
    return re.findall(r"^Sig(?:Blk|Ign|Cgt):.*", status, re.MULTILINE)


PRINT_STATUS = "print(open('/proc/self/status').read())"


def test_a_program_starts_like_any_other(plain: ServerProcess) -> None:
    """With the same signal handlers and mask as if a plain Python program had started it."""
    command = [
        sys.executable,
        "-c",
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PRINT_STATUS!r}])",
    ]
    expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    code = f"return subprocess.run([sys.executable, '-c', {PRINT_STATUS!r}], capture_output=True, text=True).stdout"
    assert signal_state(ask(plain, code)) == signal_state(expected)


FORK_AND_RETURN_TEXT = """
pid = os.fork()
if pid == 0:
    with open("child", "w") as file:
        file.write({what})
    os._exit(0)
os.waitpid(pid, 0)
return open("child").read()
"""


def test_a_forked_child_has_the_default_handlers(each: ServerProcess) -> None:
    numbers = [int(number) for number in SUPERVISOR_SIGNALS]
    handlers = f"repr([signal.getsignal(number) for number in {numbers}])"
    expected = [
        signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL for number in SUPERVISOR_SIGNALS
    ]
    assert ask(each, FORK_AND_RETURN_TEXT.format(what=handlers)) == repr(expected)


def test_a_forked_child_gets_the_handlers_of_the_script(serve: Serve) -> None:
    server = serve(SYNC.replace("saved = {}", "saved = {}\n    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))"))
    code = """
    process = multiprocessing.get_context("fork").Process(target=sleep)
    process.start()
    process.terminate()
    process.join()
    return process.exitcode
    """
    assert ask(server, code) == "7"


def test_a_forked_child_has_a_name_of_its_own(plain: ServerProcess) -> None:
    (worker,) = plain.pids("worker")
    assert Path(f"/proc/{worker}/comm").read_text() == "zwoole worker 0\n"
    assert "zwoole" not in ask(plain, FORK_AND_RETURN_TEXT.format(what="open('/proc/self/comm').read()"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_keeps_none_of_the_servers_connections(serve: Serve, kind: str) -> None:
    """A master considers a worker ended only when both its process and its connection are gone."""
    server = serve(KINDS[kind])
    what = 'repr([os.readlink(entry) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry)])'
    listed = ask(server, FORK_AND_RETURN_TEXT.format(what=what))
    event_loops = 0 if kind == "def" else 2  # the pair of sockets by which asyncio's loop wakes itself
    assert listed.count("socket:") == event_loops, listed
    of_worker = ask(server, f"return {what}")
    assert of_worker.count("pipe:") - listed.count("pipe:") == 3  # the lifeline, and both ends of the mailbox's pipe


def test_a_killed_workers_connections_are_taken_over_while_a_forked_pool_lives(serve: Serve) -> None:
    """Processes that ignore SIGTERM stay alive meanwhile."""
    server = serve(SYNC, orphan_timeout=600)
    code = """
    def stay(path):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        forever(path)
    multiprocessing.get_context("fork").Process(target=stay, args=["pid"]).start()
    """
    with server.connect() as client:
        client.send(code)
        client.recv(PATIENCE_S)
        stubborn = psutil.Process(int(wait_for(lambda: read(server, "pid"), "the child")))
        (before,) = server.pids("worker")
        server.wait_acknowledged()
        os.kill(before, signal.SIGKILL)
        client.send("return os.getpid()")
        assert client.recv(PATIENCE_S) != str(before)
        assert is_alive(stubborn)
        stubborn.kill()
    server.wait_ready()


def read(server: ServerProcess, name: str) -> str:
    """Return the contents of a file in the server's folder; "" if there is none."""
    path = server.folder / name
    return path.read_text() if path.exists() else ""


def test_threads_push(each: ServerProcess) -> None:
    with each.connect() as client:
        client.send("threading.Thread(target=server.push, args=[frame.fd, 'from a thread']).start()")
        assert {client.recv(PATIENCE_S), client.recv(PATIENCE_S)} == {"from a thread", "None"}


# A child that returns to where zwoole called the app.

ENDS = {
    "sys.exit": ("sys.exit(5)", 5),
    "sys.exit of nothing": ("sys.exit()", 0),
    "sys.exit of text": ("sys.exit('the reason')", 1),
    "exception": ("raise ValueError('of the child')", 1),
    "return": ("return 'of the child'", 0),
}
FORKS = """
{await_}
print("parent and child have", end=" ", flush=True)
pid = os.fork()
if pid == 0:
    print("one end", end="")
    {end}
return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS)
def test_a_forked_child_that_goes_on_ends(shared: Shared, kind: str, end: str) -> None:
    server = shared(kind)
    (worker,) = server.pids("worker")
    printed, logged = len(server.output()), len(server.log())
    code, expected = ENDS[end]
    await_ = "" if kind == "def" else "await asyncio.sleep(0)"
    assert ask(server, FORKS.format(end=code, await_=await_)) == str(expected)
    assert ask(server, "return os.getpid()") == str(worker)
    assert server.output()[printed:] == "parent and child have one end"
    log = server.log()[logged:]
    assert log.count("ValueError: of the child") == (1 if end == "exception" else 0)
    assert log.count("the reason") == (1 if end == "sys.exit of text" else 0)
    assert "callback" not in log


EVENTS = """
import os
import sys
import zwoole
from zwoole import Server

server = Server()
pipes = {}

def fork_in(event):
    def callback(*arguments):
        pid = os.fork()
        if pid == 0:
            COMES_TO_ITS_END
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(event, code, flush=True)
        return True
    return callback

for event in ("handshake", "open", "message", "close", "worker_start", "worker_stop", "pipe_message",
              "start", "before_shutdown", "shutdown", "worker_error"):
    server.on(event, fork_in(event))

@server.on("adopt")
DEF on_adopt(server, request):
    server.send_message("to myself", server.worker_id)
    fork_in("adopt")()

server.start()
"""


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(("end", "code"), [("return True", 0), ("sys.exit(6)", 6), ("raise KeyError(pid)", 1)])
def test_a_child_ends_with_any_callback(serve: Serve, kind: str, end: str, code: int) -> None:
    source = EVENTS.replace("COMES_TO_ITS_END", end).replace("DEF", kind)
    server = serve(source)
    with server.connect() as client:
        client.send("")
        server.wait_line(f"message {code}")
        server.wait_acknowledged()
        (worker,) = server.pids("worker")
        os.kill(worker, signal.SIGKILL)
        server.wait_line(f"pipe_message {code}")
    server.wait_line(f"close {code}")
    assert server.stop() == 0
    lines = server.lines()
    for event in ("handshake", "open", "message", "adopt", "pipe_message", "close", "worker_start", "worker_stop"):
        assert lines.count(f"{event} {code}") == (2 if event == "worker_start" else 1), event
    for event in ("start", "worker_error", "before_shutdown", "shutdown"):
        assert lines.count(f"{event} {code}") == 1, event


def test_a_child_ends_with_a_callback_for_a_dead_masters_client(serve: Serve) -> None:
    server = serve(EVENTS.replace("COMES_TO_ITS_END", "return True").replace("DEF", "def"))
    with server.connect() as client:
        client.send("")
        server.wait_line("message 0")
        os.kill(server.pids("master")[0], signal.SIGKILL)
        server.wait_line("close 0")
    server.wait_ready()


TASKS = {
    "returns": ("", 0),
    "exits": ("sys.exit(4)", 4),
    "raises": ("raise ValueError('of the child')", 1),
    "awaits": ("await asyncio.Future(loop=loop)", 1),
}


@pytest.mark.parametrize("way", TASKS)
def test_a_child_that_a_task_forks_does_nothing_of_the_event_loops(shared: Shared, way: str) -> None:
    server = shared("async def")
    printed, logged = len(server.output()), len(server.log())
    end, expected = TASKS[way]
    code = f"""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    async def other():
        while not done.done():
            print("other", os.getpid(), flush=True)
            await asyncio.sleep(0)
    async def job():
        pid = os.fork()
        if pid == 0:
            print("child", os.getpid(), flush=True)
            {end or "return"}
        done.set_result(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    saved["tasks"] = [asyncio.create_task(other()), asyncio.create_task(job())]
    return await done
    """
    assert ask(server, code) == str(expected)
    (child,) = [line.split()[1] for line in server.output()[printed:].splitlines() if line.startswith("child")]
    assert f"other {child}" not in server.lines()
    assert ("cannot await anything" in server.log()[logged:]) == (way == "awaits")
    assert ("of the child" in server.log()[logged:]) == (way == "raises")


@pytest.mark.parametrize("kind", ["async def", "handler"])
def test_a_forked_child_that_awaits_ends(shared: Shared, kind: str) -> None:
    server = shared(kind)
    logged = len(server.log())
    code = """
    future = asyncio.get_running_loop().create_future()
    pid = os.fork()
    if pid == 0:
        await future
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """
    assert ask(server, code) == "1"
    assert "cannot await anything: the event loop is its parent's" in server.log()[logged:]


def test_a_child_forked_by_a_thread_ends_with_it(each: ServerProcess) -> None:
    code = """
    codes = []
    def run():
        pid = os.fork()
        if pid:
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return codes
    """
    assert ask(each, code) == "[0]"


FORKS_AT_IMPORT = """
import os
import sys
from zwoole import Server

server = Server()

@server.on("message")
def on_message(server, frame):
    server.push(frame.fd, f"{server.worker_id} {code}")

code = None
if "zwoole.workers.worker_process" in sys.modules:
    pid = os.fork()
    if pid:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    else:
        print("child", flush=True)
        COMES_TO_ITS_END
server.start()
"""


@pytest.mark.parametrize(("end", "code"), [("pass", 1), ("sys.exit(6)", 6), ("raise KeyError('of the child')", 1)])
def test_a_child_forked_at_import_becomes_no_worker(serve: Serve, end: str, code: int) -> None:
    server = serve(FORKS_AT_IMPORT.replace("COMES_TO_ITS_END", end))
    assert ask(server, "") == f"0 {code}"
    assert server.lines() == ["child"]
    assert ("start() was reached in a process that a worker" in server.log()) == (end == "pass")
    assert "before it reached start()" not in server.log()


# What does not work in a forked child.


def test_every_command_says_what_to_do_instead(each: ServerProcess) -> None:
    code = """
    def attempt(name, *arguments):
        try:
            return repr(getattr(server, name)(*arguments))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    fd = frame.fd
    early = server.push
    pid = os.fork()
    if pid == 0:
        with open("child", "w") as file:
            for name, *arguments in (
                ("push", fd, "text"), ("ping", fd), ("broadcast", "text"), ("disconnect", fd), ("set_state", fd, 1),
                ("send_message", "text", 0), ("exists", fd), ("is_established", fd), ("buffered_amount", fd),
                ("drain",), ("stats",),
            ):
                print(attempt(name, *arguments), file=file)
            try:
                early(fd, "text")
            except Exception as error:
                print(f"{type(error).__name__}: {error}", file=file)
        os._exit(0)
    os.waitpid(pid, 0)
    return open("child").read()
    """
    lines = ask(each, code).splitlines()
    assert len(lines) == 12
    for name, line in zip([*COMMANDS, "push"], lines, strict=True):
        assert line == (
            f"WrongProcess: {name}() does not work in a process that a callback has forked: give the result back to"
            " the worker, as pools do, and call it there; or use zwoole.Control"
        )


def test_control_works_in_a_forked_child(plain: ServerProcess) -> None:
    with plain.connect() as client:
        client.send(f"""
            pid = os.fork()
            if pid == 0:
                zwoole.Control({str(plain.run_dir)!r}).push(frame.fd, "from the child")
                return
            saved["child"] = pid
        """)
        assert {client.recv(PATIENCE_S), client.recv(PATIENCE_S)} == {"from the child", "None"}


def test_a_pools_result_is_pushed_by_the_worker(plain: ServerProcess) -> None:
    with plain.connect() as client:
        client.send("""
            saved["pool"] = concurrent.futures.ProcessPoolExecutor(1)
            job = saved["pool"].submit(square, 9)
            job.add_done_callback(lambda job: server.push(frame.fd, str(job.result())))
        """)
        assert {client.recv(PATIENCE_S), client.recv(PATIENCE_S)} == {"81", "None"}


# What a worker leaves behind.

PROGRAM = """
program = subprocess.Popen(["sleep", "1000"]{options})
saved["programs"] = [*saved.get("programs", []), program]
return program.pid
"""


def start_program(server: ServerProcess, options: str = "") -> psutil.Process:
    return psutil.Process(int(ask(server, PROGRAM.format(options=options))))


def kill_worker(server: ServerProcess) -> None:
    os.kill(server.pids("worker")[0], signal.SIGKILL)


def reload(server: ServerProcess) -> None:
    server.reload()


def stop(server: ServerProcess) -> None:
    server.process.terminate()
    assert server.wait() == 0


def stop_at_once(server: ServerProcess) -> None:
    server.process.send_signal(signal.SIGQUIT)
    assert server.wait() == EXIT_FORCED


def kill_supervisor(server: ServerProcess) -> None:
    server.process.kill()
    server.process.wait()


WAYS = [kill_worker, reload, stop, stop_at_once, kill_supervisor]


@pytest.mark.parametrize(
    ("kind", "end"), [*(("def", end) for end in WAYS), ("async def", kill_supervisor), ("handler", stop)]
)
def test_what_a_worker_started_ends_with_it(kind: str, end: Callable[[ServerProcess], None]) -> None:
    with ServerProcess(KINDS[kind]) as server:
        server.serve()
        programs = [start_program(server), start_program(server, ", preexec_fn=os.getpid")]
        end(server)
        wait_for(lambda: not any(map(is_alive, programs)), "the programs to end")
        if server.process.poll() is None:
            server.wait_ready()
            assert server.stop() == 0
        else:
            wait_for(lambda: not server.alive(), "all to end")


@pytest.mark.parametrize("end", WAYS)
def test_a_session_or_group_of_its_own_is_left_alone(end: Callable[[ServerProcess], None]) -> None:
    with ServerProcess(SYNC) as server:
        server.serve()
        options = (", start_new_session=True", ", preexec_fn=os.setpgrp", "")
        *programs, other = [start_program(server, option) for option in options]
        end(server)
        wait_for(lambda: not is_alive(other), "the program that has none to end")
        assert all(map(is_alive, programs))
        for program in programs:
            program.kill()
        wait_for(lambda: not any(map(is_alive, programs)), "their end")


STUBBORN = """
def stay():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    forever("pid")
process = multiprocessing.get_context("fork").Process(target=stay, daemon=True)
process.start()
"""


@pytest.mark.parametrize("end", [kill_worker, kill_supervisor])
def test_what_does_not_end_is_killed(end: Callable[[ServerProcess], None]) -> None:
    with ServerProcess(SYNC, orphan_timeout=0.2) as server:
        server.serve()
        ask(server, STUBBORN)
        stubborn = psutil.Process(int(wait_for(lambda: read(server, "pid"), "the child")))
        end(server)
        wait_for(lambda: not is_alive(stubborn), "it to be killed")
        if end is kill_worker:
            server.wait_log(" did not end in time, killed: ")
            server.wait_ready()
            assert server.stop() == 0


def test_what_does_not_end_holds_up_no_second_signal(serve: Serve) -> None:
    server = serve(SYNC, orphan_timeout=600)
    ask(server, STUBBORN)
    stubborn = psutil.Process(int(wait_for(lambda: read(server, "pid"), "the child")))
    kill_worker(server)
    server.wait_log("left 1 process(es) behind, which are ended: ")
    server.wait_ready()
    assert is_alive(stubborn)
    assert server.stop(signal.SIGQUIT) == EXIT_FORCED
    wait_for(lambda: not is_alive(stubborn), "it to be killed")


def test_what_does_not_end_holds_up_no_stop(serve: Serve) -> None:
    """For longer than max_wait_time."""
    server = serve(SYNC, orphan_timeout=600, max_wait_time=0.5)
    ask(server, STUBBORN)
    stubborn = psutil.Process(int(wait_for(lambda: read(server, "pid"), "the child")))
    kill_worker(server)
    server.wait_log("left 1 process(es) behind, which are ended: ")
    server.wait_ready()
    assert server.stop() == 0
    assert not is_alive(stubborn)


def test_a_worker_leads_a_group_but_with_a_debugger(serve: Serve) -> None:
    server = serve(SYNC)
    (worker,) = server.pids("worker")
    assert os.getpgid(worker) == worker
    assert os.getsid(worker) == os.getsid(server.process.pid)
    with ServerProcess(SYNC, "--debug") as server:
        server.serve()
        (worker,) = server.pids("worker")
        assert os.getpgid(worker) == server.process.pid
        program = start_program(server)
        kill_worker(server)
        server.wait_ready()
        assert is_alive(program)
        program.kill()


def test_process_1_ends_what_a_worker_left_and_reaps_strangers_meanwhile() -> None:
    become = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    with ServerProcess(SYNC, orphan_timeout=600) as server:
        server.command = [sys.executable, "-c", become, str(ZWOOLE), *server.command[1:]]
        server.serve()
        ask(server, STUBBORN)
        stubborn = psutil.Process(int(wait_for(lambda: read(server, "pid"), "the child")))
        left = start_program(server)
        kill_worker(server)
        wait_for(lambda: state(left.pid) == "gone", "the first to be ended and reaped")
        server.wait_ready()
        stranger = int(ask(server, "return subprocess.getoutput('sleep 0.1 >/dev/null 2>&1 & echo $!')"))
        wait_for(lambda: state(stranger) == "gone", "a stranger to be reaped")
        assert is_alive(stubborn)
        stubborn.kill()
        wait_for(lambda: state(stubborn.pid) == "gone", "the other to be reaped")
        assert server.stop() == 0


# What a callback in the supervisor starts.

IN_SUPERVISOR = """
import os
import signal
import time
from zwoole import Server

server = Server()

@server.on("message")
def on_message(server, frame):
    server.push(frame.fd, frame.data)

@server.on("start")
def on_start(server):
    pid = os.fork()
    if pid == 0:
        with open("child", "w") as file:
            open_files = [os.readlink(e) for e in os.scandir("/proc/self/fd") if os.path.lexists(e)]
            handlers = {signal.getsignal(number) for number in (15, 3, 1, 10, 34, 17)}
            try:
                server.stats()
            except Exception as error:
                stats = type(error).__name__
            file.write(f"{os.getpid()} {open_files} {handlers} {stats}\\n")
        time.sleep(1000)

server.start()
"""


def test_a_supervisors_forked_child_keeps_nothing_of_it() -> None:
    """Neither the lock, nor the port, nor the lifeline of masters and workers."""
    with ServerProcess(IN_SUPERVISOR, pid_file="pid", admin_port=free_ports(1)[0]) as server:
        server.command = [word if word != "0" else str(free_ports(1)[0]) for word in server.command]
        server.serve()
        written = wait_for(lambda: read(server, "child") if read(server, "child").endswith("\n") else "", "the child")
        child = psutil.Process(int(written.split()[0]))
        try:
            assert "socket:" not in written
            assert "pipe:" not in written
            assert "lock" not in written
            assert written.endswith(f"{{{signal.SIG_DFL!r}}} WrongProcess\n")
            server.family()
            server.process.kill()
            server.process.wait()
            wait_for(lambda: [left.pid for left in server.alive()] == [child.pid], "masters and workers to end")
            server.serve()
            server.process.terminate()
            assert server.wait() == 0
        finally:
            child.kill()
