"""What goes wrong before a server serves: reported in one clear line, with an exit code, and without zwoole's own
frames.
"""

from __future__ import annotations

import re
import socket
import sys
import textwrap

import pytest

from tests.process.conftest import Serve
from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S
from zwoole.supervisor.core.exit_codes import EXIT_BOOT_FAILED, EXIT_CANNOT_START

GOOD = """
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        pass

    server.start()
"""
USAGE = 2  # exit code of a command that was called wrongly


def fails(server: ServerProcess, code: int) -> str:
    """Start a server that cannot serve; return what it wrote to stderr."""
    server.start()
    assert server.wait() == code, server.log()
    server.assert_nothing_left()
    return without_our_frames(server.log())


def without_our_frames(text: str) -> str:
    """Return the text; the test fails if it contains traceback frames of zwoole."""
    frames = re.findall(r'^ *File ".*', text, re.MULTILINE)
    ours = [frame for frame in frames if re.search(r"\bzwoole/|runpy|/(reactor|workers|shared)/", frame)]
    assert not ours, f"frames of our own in:\n{text}"
    return text


def app(*lines: str) -> str:
    """Return an app with these lines between creating the server and starting it."""
    body = ["from zwoole import Server", "server = Server()", *lines, "server.start()"]
    return "\n".join(body) + "\n"


MESSAGE = "server.on('message', lambda server, frame: None)"

# The app: its source; the exit code; the only line on stderr, or the last.
MISTAKES = {
    "no callbacks": (app(), 1, "nothing to serve: register a 'message' callback or a handler before start()"),
    "unknown setting": (
        "from zwoole import Server\nServer(wroker_num=2)\n",
        1,
        "unknown setting 'wroker_num': did you mean 'worker_num'?",
    ),
    "setting of a wrong type": (app("server.set(worker_num='2')"), 1, "worker_num must be an integer, not '2'"),
    "setting out of bounds": (app("server.set(worker_num=0)"), 1, "worker_num must be from 1 to 1024, not 0"),
    "unknown event": (app("server.on('mesage', print)"), 1, "unknown event 'mesage': did you mean 'message'?"),
    "callback that is none": (app("server.on('message', 7)"), 1, "must be a function, not 7"),
    "callback that wants more": (
        app("server.on('message', lambda a, b, c: None)"),
        1,
        "the callback for 'message' wants more than (server, frame)",
    ),
    "callback with other arguments": (
        app("server.on('message', lambda frame: None)"),
        1,
        "the callback for 'message' is called with (server, frame), but has 'frame' in the place of 'server'",
    ),
    "second callback": (
        app(MESSAGE, MESSAGE),
        1,
        "'message' has a callback already: <lambda> (app.py:3); call the second, <lambda> (app.py:4), from it",
    ),
    "start in a loop": (
        app("import asyncio", MESSAGE, "async def main():", "    server.start()", "asyncio.run(main())"),
        1,
        "start() was called while an asyncio loop runs, as in `asyncio.run(main())`: call it from the script itself",
    ),
    "handler that is no coroutine": (
        app("server.handler('/')(lambda ws: None)"),
        1,
        "the handler for '/' must be an `async def` function",
    ),
    "never starts": ("import zwoole\n", EXIT_BOOT_FAILED, "ended without reaching server.start()"),
    "syntax error": ("def broken(:\n", 1, "app.py failed before it reached start()"),
    "ImportError": ("import no_such_module\n", 1, "app.py failed before it reached start()"),
    "exception": ("raise ValueError('mine')\n", 1, "app.py failed before it reached start()"),
}


@pytest.mark.parametrize(("source", "code", "line"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_in_the_app(source: str, code: int, line: str) -> None:
    with ServerProcess(source) as server:
        last = fails(server, code).splitlines()[-1]
        assert last.startswith("zwoole: ")
        assert line in last


@pytest.mark.parametrize("command", [[], [sys.executable, "app.py"]], ids=["zwoole run", "python"])
@pytest.mark.parametrize(
    "name",
    [
        *("no callbacks", "unknown setting", "unknown event", "setting out of bounds", "callback that wants more"),
        *("second callback", "start in a loop"),
    ],
)
def test_a_mistake_that_zwoole_can_name_is_one_line_with_its_place(name: str, command: list[str]) -> None:
    """With the zwoole command and without it."""
    source, _, line = MISTAKES[name]
    with ServerProcess(source, command=command) as server:
        log = fails(server, 1)
        assert re.fullmatch(r"zwoole: app\.py:\d+: .*\n", log), log
        assert line in log


@pytest.mark.parametrize("name", ["syntax error", "ImportError", "exception"])
def test_the_users_own_traceback_is_shown(name: str) -> None:
    source, _, _ = MISTAKES[name]
    with ServerProcess(source) as server:
        log = fails(server, 1)
        assert "app.py" in log
        assert source.strip() in log
        assert {"syntax error": "SyntaxError", "ImportError": "No module named", "exception": "mine"}[name] in log


# The command line.

OPTIONS = {
    "unknown option": (["--wrokers", "2"], USAGE, "No such option"),
    "no number": (["--workers", "two"], USAGE, "'two' is not a valid integer"),
    "unknown setting": (["--set", "worker=2"], USAGE, "unknown setting 'worker': did you mean 'worker_num'?"),
    "no setting": (["--set", "worker_num"], USAGE, "--set takes NAME=VALUE, not 'worker_num'"),
    "port out of range": (["--port", "65536"], USAGE, "port must be from 0 to 65535, not 65536"),
    "no such host": (["--host", "no.such.host.invalid"], 1, "cannot listen on 'no.such.host.invalid'"),
    "two dots": (["--host", "127.0.0..1"], 1, "cannot listen on '127.0.0..1': no host has such a name"),
    "long name": (["--host", "a" * 64], 1, "no host has such a name"),
    "host with a port": (
        ["--host", "127.0.0.1:80"],
        USAGE,
        "without scheme and port: write '127.0.0.1', not '127.0.0.1:80'",
    ),
    "address of another machine": (["--host", "192.0.2.1"], 1, "this machine does not have that address"),
}


@pytest.mark.parametrize(("options", "code", "line"), OPTIONS.values(), ids=OPTIONS)
def test_mistake_on_the_command_line(options: list[str], code: int, line: str) -> None:
    with ServerProcess(GOOD, *options) as server:
        assert line in fails(server, code).splitlines()[-1]


TARGETS = {
    "missing.py": "there is no file 'missing.py'; give a script, or module:attribute",
    "module:server": "'server' in module 'module' is no Server: did you mean 'serve'?",
    "module:number": "'number' in module 'module' is no Server",
    "nomodule:server": "there is no module 'nomodule', neither in ",
    "module.none:server": "there is no module 'module.none', neither in ",
    "module.py:serve": "'module.py:serve' is neither a script nor module:attribute, such as main:server",
    ":server": "':server' is neither a script nor module:attribute, such as main:server",
    "module:": "'module:' is neither a script nor module:attribute, such as main:server",
    "..:server": "'..:server' is neither a script nor module:attribute, such as main:server",
    ".": "'.' is a folder; give a script, or module:attribute",
}


@pytest.mark.parametrize(("target", "line"), TARGETS.items(), ids=TARGETS)
def test_target_that_is_no_server(target: str, line: str) -> None:
    with ServerProcess(GOOD) as server:
        server.write("module.py", "from zwoole import Server\nserve = Server()\nnumber = 7\n")
        server.command[2] = target
        [said] = fails(server, 1).splitlines()
        assert line in said


def test_target_that_imports_what_is_not_there() -> None:
    with ServerProcess(GOOD) as server:
        server.write("module.py", "import nomodule\n")
        server.command[2] = "module:server"
        log = fails(server, 1)
    assert "ModuleNotFoundError: No module named 'nomodule'" in log
    assert log.endswith("zwoole: module:server failed before it reached start()\n")


def test_module_and_attribute() -> None:
    with ServerProcess(GOOD) as server:
        server.write("module.py", f"from zwoole import Server\nserver = Server()\n{MESSAGE}\n")
        server.command[2] = "module:server"
        server.serve()


# Ports and folders that are in use.


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with ServerProcess(GOOD, "--port", str(port)) as server:
            log = fails(server, EXIT_CANNOT_START)
    words = "the port is in use: stop the program that uses it, or take another port"
    assert log == f"zwoole: cannot listen on 127.0.0.1:{port}: {words}\n"


@pytest.mark.parametrize("reactors", [1, 2])
def test_port_in_use_by_another_zwoole(serve: Serve, reactors: int) -> None:
    """Even if both would share it with SO_REUSEPORT."""
    port = serve(GOOD, reactor_num=reactors).port
    with ServerProcess(GOOD, "--port", str(port), reactor_num=reactors) as server:
        assert f"cannot listen on 127.0.0.1:{port}: the port is in use" in fails(server, EXIT_CANNOT_START)


def test_run_directory_in_use(serve: Serve) -> None:
    first = serve(GOOD)
    with ServerProcess(GOOD, "--run-dir", str(first.run_dir)) as server:
        log = fails(server, EXIT_CANNOT_START)
    assert log == (
        f"zwoole: a server is running in {first.run_dir} already: `zwoole stop --run-dir {first.run_dir}` stops it\n"
    )
    assert first.is_ready(), "it did no harm to the first"


def test_run_directory_open_to_others() -> None:
    with ServerProcess(GOOD) as server:
        server.run_dir.mkdir(mode=0o755)
        server.start()
        assert server.wait() == EXIT_CANNOT_START
        path = server.run_dir
        assert server.log() == f"zwoole: the run directory {path} is open to others: chmod 700 {path}\n"


def test_run_directory_that_is_a_file() -> None:
    with ServerProcess(GOOD) as server:
        server.write("run", "")
        server.start()
        assert server.wait() == EXIT_CANNOT_START
        assert server.log() == f"zwoole: the run directory {server.run_dir} is not a directory\n"


def test_run_directory_that_is_a_symbolic_link() -> None:
    with ServerProcess(GOOD) as server:
        (server.folder / "real").mkdir(mode=0o700)
        server.run_dir.symlink_to(server.folder / "real")
        server.start()
        assert server.wait() == EXIT_CANNOT_START
        line = f"zwoole: the run directory {server.run_dir} is a symbolic link, which is not followed\n"
        assert server.log() == line


def test_run_directory_with_a_path_too_long() -> None:
    with ServerProcess(GOOD) as server:
        server.command += ["--run-dir", f"{server.folder}/{'x' * 90}"]
        log = fails(server, EXIT_CANNOT_START)
    assert re.fullmatch(r"zwoole: the run directory's path is too long for Unix sockets: .*; give a shorter .*\n", log)


NO_TEMPORARY_FOLDER = """
    import os
    import tempfile
    from pathlib import Path
    from zwoole.supervisor.system import run_directory

    run_directory.RUN = Path("/no/run")
    run_directory.TEMPORARY = (Path("/no/tmp"), Path("/no/var"))


    def none(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found")


    tempfile.gettempdir = tempfile._get_default_tempdir = none
    os.memfd_create = none  # as in a sandbox: files in the run directory stand in
"""


@pytest.mark.parametrize("given", [True, False])
def test_no_temporary_folder_at_all(given: bool) -> None:
    """None is needed if the run directory is named; otherwise one line says what to do."""
    source = textwrap.dedent(NO_TEMPORARY_FOLDER) + app(MESSAGE)
    with ServerProcess(source) as server:
        at = server.command.index("--run-dir")
        server.command = list(server.command) if given else [*server.command[:at], *server.command[at + 2 :]]
        environment = {"TMPDIR": "/no/such", "XDG_RUNTIME_DIR": "", "RUNTIME_DIRECTORY": ""}
        server.start(environment)
        if given:
            server.wait_log("listening on ")
            server.wait_ready()
            assert server.stop() == 0
            assert "Traceback" not in server.log()
        else:
            assert server.wait() == EXIT_CANNOT_START
            (line,) = server.log().splitlines()
            assert line.startswith("zwoole: cannot make the run directory /no/")
            assert line.endswith("; name another place with --run-dir or the variable RUNTIME_DIRECTORY")


# Workers that cannot serve.


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_worker_start_that_raises(kind: str) -> None:
    source = f"""
        from zwoole import Server

        server = Server()

        @server.on("worker_start")
        {kind} on_worker_start(server):
            raise ConnectionError("no database")

        @server.on("message")
        def on_message(server, frame):
            pass

        server.start()
    """
    with ServerProcess(source) as server:
        log = fails(server, EXIT_BOOT_FAILED)
    assert log.count("ConnectionError: no database") == 3
    assert log.count("worker_start failed: this worker cannot serve") == 3
    assert "the app does not boot: giving up after 3 tries; the reason is above" in log.splitlines()[-1]


NO_BOOT = {
    "worker_start": "worker_start failed: this worker cannot serve",
    "import": "the app failed before it reached",
}


@pytest.mark.parametrize("where", NO_BOOT)
def test_a_traceback_is_shown_once_however_often_a_boot_fails(where: str) -> None:
    """As further lines of its record. If it repeats, one line says so, and names the exception."""
    source = f"""
        import os
        from zwoole import Server

        def connect(server=None):
            raise ConnectionError("no database")

        server = Server()
        server.on("message", lambda server, frame: None)
        if {where!r} == "worker_start":
            server.on("worker_start", connect)
        elif os.path.exists("second time"):
            connect()
        open("second time", "w").close()
        server.start()
    """
    with ServerProcess(source, "--workers", "2") as server:
        log = fails(server, EXIT_BOOT_FAILED)
    failures = [line for line in log.splitlines() if NO_BOOT[where] in line]
    again = [
        line for line in failures if line.endswith(", with the same traceback as before: ConnectionError: no database")
    ]
    assert len(failures) >= 3
    assert len(again) == len(failures) - 1
    assert log.count("Traceback (most recent call last)") == 1
    assert all(line.startswith(("[", "    ")) for line in log.splitlines())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("lambda server: coroutine()", "returned a coroutine, but the worker has no asyncio loop"),
        ("lambda server: asyncio.get_running_loop()", "cannot serve: the worker has an asyncio loop only if some"),
    ],
)
def test_worker_start_that_needs_a_loop(body: str, words: str) -> None:
    source = f"""
        import asyncio
        from zwoole import Server

        async def coroutine():
            pass

        server = Server()
        server.on("message", lambda server, frame: None)
        server.on("worker_start", {body})
        server.start()
    """
    with ServerProcess(source) as server:
        log = fails(server, EXIT_BOOT_FAILED)
    assert log.count(words) == 3


def test_app_that_fails_in_workers_only() -> None:
    source = """
        import os
        from zwoole import Server

        if os.path.exists("second time"):
            raise OSError("only the first process may")
        open("second time", "w").close()
        server = Server()
        server.on("message", lambda server, frame: None)
        server.start()
    """
    with ServerProcess(source) as server:
        log = fails(server, EXIT_BOOT_FAILED)
    assert log.count("OSError: only the first process may") == 3
    assert "the app failed before it reached start()" in log


def test_app_that_exits_in_workers_only() -> None:
    """It is retried as rarely as one that raises, even if its exit code signals success."""
    source = """
        import os
        import sys
        from zwoole import Server

        if os.path.exists("second time"):
            sys.exit(0)
        open("second time", "w").close()
        server = Server()
        server.on("message", lambda server, frame: None)
        server.start()
    """
    with ServerProcess(source) as server:
        log = fails(server, EXIT_BOOT_FAILED)
    assert log.count("the app exited before it reached start(): SystemExit(0)") == 3


def test_system_exit_in_worker_start_is_a_failed_boot() -> None:
    source = """
        import sys
        from zwoole import Server

        server = Server()
        server.on("message", lambda server, frame: None)

        @server.on("worker_start")
        def on_worker_start(server):
            sys.exit(0)

        server.start()
    """
    with ServerProcess(source) as server:
        log = fails(server, EXIT_BOOT_FAILED)
    assert log.count("worker_start failed: this worker cannot serve") == 3


BEHIND = """
    import sys
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        pass

    @server.on({event!r})
    {kind} callback(server):
        raise {error}

    try:
        server.start()
    finally:
        {behind}
"""


def test_what_fails_behind_start_is_not_said_to_have_failed_before_it() -> None:
    with ServerProcess(
        BEHIND.format(event="open", kind="def", error="ValueError", behind="raise ValueError('mine')")
    ) as server:
        server.serve()
        server.stop()
        log = server.log()
    assert log.splitlines()[-1] == f"zwoole: {server.app} failed after start() had returned"
    assert "the app failed after start()" in log
    assert "before" not in log


def test_stats_after_the_end_are_an_error_and_no_zeros() -> None:
    behind = "print(server.stats())"
    with ServerProcess(BEHIND.format(event="open", kind="def", error="ValueError", behind=behind)) as server:
        server.serve()
        server.stop()
        last = server.log().splitlines()[-1]
    assert last.endswith("stats() works in the processes of a running server")


@pytest.mark.parametrize(
    ("event", "kind", "error"),
    [
        ("start", "def", "SystemExit(7)"),
        ("start", "async def", "KeyboardInterrupt"),
        ("before_shutdown", "def", "KeyboardInterrupt"),
        ("before_shutdown", "async def", "SystemExit(7)"),
        ("shutdown", "async def", "ValueError('mine')"),
        ("shutdown", "def", "SystemExit(7)"),
    ],
)
def test_a_callback_that_fails_in_the_supervisor_ends_nothing(event: str, error: str, kind: str) -> None:
    with ServerProcess(BEHIND.format(event=event, kind=kind, error=error, behind="print('the end')")) as server:
        server.serve()
        assert server.stop() == 0
        log = server.log()
        assert "the end" in server.lines()
    assert log.count(f"the {event!r} callback failed") == 1
    assert error.split("(")[0] in log


def test_start_in_a_process_of_a_pool(serve: Serve) -> None:
    """A spawned process runs the script again; there start() says what to do instead of serving."""
    server = serve(
        """
        import multiprocessing
        from zwoole import Server

        server = Server()

        @server.on("message")
        def on_message(server, frame):
            child = multiprocessing.get_context("spawn").Process(target=print)
            child.start()
            child.join()
            server.push(frame.fd, str(child.exitcode))

        server.start()
        """
    )
    with server.connect() as client:
        client.send("spawn")
        assert client.recv(PATIENCE_S) == "1"
    log = without_our_frames(server.log())
    assert 'put it under `if __name__ == "__main__":`' in log
    assert "Traceback" not in log


SERVED = """
    from zwoole import Server

    server = Server(port=0)
    other = Server(port=0)
    {message}
    {other}
    server.start()
    {again}.start()
"""


@pytest.mark.parametrize("again", ["server", "other"])
def test_a_second_start_is_an_error(again: str) -> None:
    source = SERVED.format(message=MESSAGE, other=MESSAGE.replace("server.", "other."), again=again)
    with ServerProcess(source) as server:
        server.serve()
        assert server.stop() == EXIT_CANNOT_START
        log = without_our_frames(server.log())
    assert log.splitlines()[-1].startswith("zwoole: start() was called a second time: ")
    assert "Traceback" not in log
    assert log.count("listening on ") == 1


def test_a_module_that_starts_the_server_itself_is_served_once() -> None:
    with ServerProcess(GOOD) as server:
        server.write("module.py", f"from zwoole import Server\nserver = Server()\n{MESSAGE}\nserver.start()\n")
        server.command[2] = "module:server"
        server.serve()
        assert server.stop() == 0
        assert server.log().count("listening on ") == 1


def test_a_wrong_name_is_said_before_the_module_starts_the_server_itself() -> None:
    with ServerProcess(GOOD) as server:
        server.write("module.py", f"from zwoole import Server\nserver = Server()\n{MESSAGE}\nserver.start()\n")
        server.command[2] = "module:sevrer"
        log = fails(server, 1)
    assert log == "zwoole: 'sevrer' in module 'module' is no Server: did you mean 'server'?\n"


def test_a_module_may_take_its_server_from_one_that_starts_it() -> None:
    """The name does not exist yet when `start()` is called, but will."""
    with ServerProcess(GOOD) as server:
        server.write("other.py", f"from zwoole import Server\nserver = Server()\n{MESSAGE}\nserver.start()\n")
        server.write("module.py", "from other import server\n")
        server.command[2] = "module:server"
        server.serve()
        assert server.stop() == 0


def test_start_in_a_callback_of_the_supervisor(serve: Serve) -> None:
    server = serve(
        """
        from zwoole import Server

        server = Server()

        @server.on("start")
        def on_start(server):
            server.start()

        @server.on("message")
        def on_message(server, frame):
            server.push(frame.fd, frame.data)

        server.start()
        """
    )
    server.wait_log("the 'start' callback failed")
    with server.connect() as client:
        client.send("served")
        assert client.recv(PATIENCE_S) == "served"
    assert server.log().count("start() was called while this process serves already") == 1
    assert server.stop() == 0


@pytest.mark.parametrize("begin", [3, 5])
def test_app_that_closes_descriptors_which_are_not_its_own(begin: int) -> None:
    with ServerProcess(f"import os\nos.closerange({begin}, 1000)\n{textwrap.dedent(GOOD)}") as server:
        log = fails(server, EXIT_BOOT_FAILED)
    line = "zwoole: worker 0 cannot serve: its app has closed descriptors that zwoole needs, as os.closerange does; "
    assert log.count(f"{line}close only what the app has opened\n") == 3
