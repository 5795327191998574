"""Help while an app is written: workers that follow changed files, and a debugger."""

from __future__ import annotations

import os
import pty
import time

from tests.process.server_process import ServerProcess
from tests.process.waiting import PATIENCE_S, wait_for

APP = """
from zwoole import Server
from answers import ANSWER

server = Server()

@server.on("message")
def on_message(server, frame):
    server.push(frame.fd, ANSWER)

server.start()
"""


def change(server: ServerProcess, source: str) -> None:
    """Write the module until the change is noticed: the first write may come before the watches exist."""

    def is_seen() -> bool:
        server.write("answers.py", source)
        time.sleep(0.2)
        return "changed: answers.py" in server.log()

    wait_for(is_seen, "the change to be seen")


def test_reload_follows_the_files() -> None:
    """The connection stays; after a mistake the old code serves until the mistake is corrected."""
    with ServerProcess(APP, "--reload") as server:
        server.write("answers.py", "ANSWER = 'one'\n")
        server.start().wait_ready()
        with server.connect() as client:

            def answer() -> str:
                client.send("?")
                return str(client.recv(PATIENCE_S))

            assert answer() == "one"
            change(server, "ANSWER = 'another'\n")
            server.wait_log("reload: done in ")
            wait_for(lambda: answer() == "another", "the new code to serve")
            server.write("answers.py", "ANSWER = 'a third\n")
            log = server.wait_log("reload failed, the old workers stay in service")
            assert "SyntaxError" in log
            assert answer() == "another"
            server.write("answers.py", "ANSWER = 'the third'\n")
            wait_for(lambda: answer() == "the third", "the mended code to serve")


def test_a_file_of_another_kind_does_not_reload() -> None:
    with ServerProcess(APP, "--reload") as server:
        server.write("answers.py", "ANSWER = 'one'\n")
        server.start().wait_ready()
        server.write("notes.txt", "ANSWER = 'one'\n")
        change(server, "ANSWER = 'two'\n")
        server.wait_log("reload: done")
        assert "notes.txt" not in server.log()


def test_a_change_while_the_server_starts_reloads_when_it_has_started() -> None:
    slow = APP.replace(
        "server.start()",
        """

@server.on("worker_start")
def on_worker_start(server):
    open("booting", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)

server.start()
""",
    )
    with ServerProcess(f"import os, time\n{slow}", "--reload") as server:
        server.write("answers.py", "ANSWER = 'one'\n")
        server.start()
        wait_for((server.folder / "booting").exists, "a worker that starts")
        change(server, "ANSWER = 'another'\n")
        server.write("go", "")
        log = server.wait_log("reload: done in ")
        assert "no reload: " not in log
        with server.connect() as client:
            client.send("?")
            assert client.recv(PATIENCE_S) == "another"


def test_a_mistake_at_the_start_is_waited_out() -> None:
    with ServerProcess(APP, "--reload") as server:
        server.write("answers.py", "ANSWER = 'one\n")
        server.start()
        log = server.wait_log("failed before it reached start(); waiting for a change")
        assert "SyntaxError" in log
        change(server, "ANSWER = 'one'\n")
        server.wait_ready()
        with server.connect() as client:
            client.send("?")
            assert client.recv(PATIENCE_S) == "one"


def test_reload_without_watchfiles_says_what_to_do() -> None:
    with ServerProcess(APP, "--reload") as server:
        server.write("watchfiles.py", "raise ImportError\n")
        server.start({"PYTHONPATH": str(server.folder)})
        assert server.wait() == 1
        assert server.log() == "zwoole: --reload needs the watchfiles package: pip install 'zwoole[reload]'\n"


def test_breakpoint() -> None:
    """On a terminal: the worker stops, is inspected, and continues, however long that takes."""
    app = """
        from zwoole import Server

        server = Server(worker_num=3, worker_timeout=3)

        @server.on("message")
        def on_message(server, frame):
            answer = "unchanged"
            breakpoint()
            server.push(frame.fd, answer)

        server.start()
    """
    terminal, its_end = pty.openpty()
    with ServerProcess(app, "--debug") as server:
        del server.command[server.command.index("--workers") : server.command.index("--workers") + 2]
        server.start(stdin=its_end).wait_ready()
        assert len(server.pids("worker")) == 1
        with server.connect() as client:
            client.send("go")
            wait_for(lambda: "(Pdb)" in server.stdout.read_text(), "the prompt")
            begun = time.monotonic()
            wait_for(lambda: time.monotonic() - begun > 5, "more than worker_timeout")
            os.write(terminal, b"answer = 'changed'\ncontinue\n")
            assert client.recv(PATIENCE_S) == "changed"
        assert "hangs" not in server.log()
    os.close(terminal)
    os.close(its_end)
