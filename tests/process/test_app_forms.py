"""The forms that an app can have, and the folders it can be in: every worker finds it again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipapp
from collections.abc import Iterator

import pytest

from tests.process.server_process import ServerProcess
from tests.process.waiting import wait_for

APP = """
import os
from zwoole import Server

server = Server("127.0.0.1", 0, worker_num=1)

@server.on("worker_start")
def on_worker_start(server, worker_id):
    print("worker", os.getcwd(), flush=True)

@server.on("message")
def on_message(server, frame):
    server.push(frame.fd, frame.data)

def main():
    server.start()

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    """Return a server of the app that has not been started."""
    with ServerProcess(APP) as prepared:
        yield prepared


def serves(server: ServerProcess) -> None:
    """Check that a server serves, and that a worker of a reload finds the app too."""
    server.wait_log("listening on ")
    server.wait_ready()
    server.reload()
    with server.connect() as client:
        client.send("x")
        assert client.recv() == "x"
    assert server.stop() == 0


@pytest.mark.parametrize("archived", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize("imports", [False, True], ids=["server in __main__.py", "server beside it"])
def test_a_folder_or_an_archive_with_a_main(server: ServerProcess, archived: bool, imports: bool) -> None:
    app = server.folder / "app"
    app.mkdir()
    if imports:
        (app / "chat.py").write_text(APP)
        (app / "__main__.py").write_text("import chat\n\nchat.main()\n")
    else:
        (app / "__main__.py").write_text(APP)
    if archived:
        zipapp.create_archive(app, server.folder / "app.pyz")
        shutil.rmtree(app)
        app = server.folder / "app.pyz"
    server.command = [sys.executable, str(app)]
    serves(server.start({"RUNTIME_DIRECTORY": str(server.run_dir)}))


@pytest.mark.parametrize("command", [["-"], ["/dev/stdin"], ["-c", APP]], ids=["stdin", "its path", "text"])
def test_a_script_that_workers_cannot_run_again_is_refused(command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command], input=APP, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("start() needs a script that workers can run too: save it to a file and run that\n"), (
        done.stderr
    )


def test_a_path_and_an_argument_that_are_not_utf_8(server: ServerProcess) -> None:
    folder = server.folder / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    script = folder / os.fsdecode(b"\xfcber.py")
    script.write_text(APP)
    server.command = [
        *(sys.executable, "-m", "zwoole", "run", str(script)),
        *("--run-dir", str(server.run_dir), "--port", "0", os.fsdecode(b"\xff")),
    ]
    serves(server.start())


def test_the_current_folder_is_gone_when_a_worker_is_needed(server: ServerProcess) -> None:
    release = server.folder / "release"
    release.mkdir()
    server.launch(release, {**os.environ, "PWD": str(release)})
    server.wait_log("listening on ")
    server.wait_ready()
    release.rmdir()
    os.kill(server.pids()[0], signal.SIGKILL)
    log = server.wait_log("in which the server was started: No such file or directory")
    assert f"cannot enter the folder {str(release)!r}, in which the server was started" in log
    assert "Traceback" not in log
    release.mkdir()
    server.wait_ready()
    assert server.stop() == 0


def test_workers_follow_the_link_that_the_current_folder_was_entered_by(server: ServerProcess) -> None:
    releases = [server.folder / "1", server.folder / "2"]
    for release in releases:
        release.mkdir()
    current = server.folder / "current"
    current.symlink_to("1")
    server.launch(current, {**os.environ, "PWD": str(current)})
    server.wait_log("listening on ")
    server.wait_line(f"worker {releases[0]}")
    server.wait_ready()
    (server.folder / "next").symlink_to("2")
    (server.folder / "next").rename(current)
    shutil.rmtree(releases[0])
    server.reload()
    server.wait_line(f"worker {releases[1]}")
    wait_for(lambda: len(server.pids()) == 1, "the old worker's end")
    assert server.stop() == 0
