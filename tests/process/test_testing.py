"""zwoole.testing.serve, used as a user's test would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from websockets.sync.client import connect

from tests.process.server_process import EXAMPLES
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole import Server, testing
from zwoole.shared.errors import ZwooleError
from zwoole.shared.process import plan
from zwoole.testing import ServerFailed, is_alive, serve

README = EXAMPLES.parent / "README.md"


def test_a_script_is_served_and_gone_afterwards() -> None:
    with serve(EXAMPLES / "echo.py", worker_num=2) as server:
        with connect(server.url("/chat")) as client:
            client.send("Hello, server!")
            assert client.recv() == "Hello from zwoole server!"
        assert server.url() == f"ws://127.0.0.1:{server.port}/"
        assert server.url("chat?name=ann") == f"ws://127.0.0.1:{server.port}/chat?name=ann"
        wait_for(lambda: "Received message from 1: Hello, server!" in server.output(), "the app's output")
        assert "listening on ws://127.0.0.1" in server.log()
        assert server.status()["state"] == "serving"
        before = server.pids()
        assert (len(before), len(server.pids("master"))) == (2, 1)
        assert server.reload()["workers"] == 2
        wait_for(lambda: not set(before) & set(server.pids()), "the old workers to end")
        family = server.family()
    assert not any(is_alive(process) for process in family)
    assert not server.folder.exists()


def test_an_attribute_of_a_module_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop.py").write_text(
        "from zwoole import Server\n"
        "app = Server('0.0.0.0', 80, worker_num=1)\n"
        "app.on('message', lambda server, frame: server.push(frame.fd, frame.data.upper()))\n"
    )
    monkeypatch.chdir(tmp_path)
    with serve("shop:app", log_level="debug") as server, connect(server.url()) as client:
        client.send("x")
        assert client.recv() == "X"


def test_its_folder_is_in_the_temporary_folder_that_the_user_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="zw-", dir="/tmp") as place:
        monkeypatch.setenv("TMPDIR", place)
        with serve(EXAMPLES / "echo.py") as server:
            assert server.folder.parent == Path(place)
            assert server.status()["state"] == "serving"
        assert not server.folder.exists()


@pytest.mark.parametrize("kind", ["missing", "file", "too long", "empty"])
def test_a_temporary_folder_that_cannot_be_used_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / ("x" * 100)).mkdir()
    names = {"missing": "missing", "file": "file", "too long": "x" * 100}
    monkeypatch.setenv("TMPDIR", str(tmp_path / names[kind]) if kind in names else "")
    folder = testing.new_folder()
    assert folder.parent == Path("/tmp")
    folder.rmdir()


def test_no_temporary_folder_at_all_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/no")
    monkeypatch.setattr(testing, "TEMPORARY", (Path("/nor"),))
    with pytest.raises(ServerFailed) as caught:
        serve(EXAMPLES / "echo.py")
    assert str(caught.value) == (
        "no folder can be made for the server under test (/no: No such file or directory; /nor: No such file or"
        " directory); name a place with the variable TMPDIR"
    )


def test_settings_of_every_type_arrive() -> None:
    settings = {"worker_num": 2, "subprotocols": ("a", "b"), "ping_interval": 2.5, "websocket_compression": True}
    with serve(EXAMPLES / "echo.py", **settings) as server:
        effective = plan.read(server.run_dir).settings
        assert {name: getattr(effective, name) for name in settings} == settings
        assert len(server.pids()) == 2


def test_a_server_object_is_refused_with_the_reason() -> None:
    with pytest.raises(TypeError, match="not a Server: workers are processes of their own"):
        serve(Server())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not 7"):
        serve(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("import zwoole\nraise ValueError('on purpose')\n", 1, "ValueError: on purpose"),
        ("import zwoole\n", 3, "ended without reaching server.start()"),
    ],
)
def test_an_app_that_does_not_start_says_why(tmp_path: Path, source: str, code: int, said: str) -> None:
    (tmp_path / "app.py").write_text(source)
    server = serve(tmp_path / "app.py")
    with pytest.raises(ServerFailed, match=f"did not start but ended with code {code}") as caught, server:
        pytest.fail("it was said to serve")
    assert said in str(caught.value)
    assert not server.folder.exists()


def test_the_end_of_a_server_that_does_not_boot_is_noticed(tmp_path: Path) -> None:
    """It ends before it has answered; the timeout of `serve` is longer than this test's."""
    (tmp_path / "app.py").write_text(
        "from zwoole import Server\n"
        "server = Server()\n"
        "server.on('message', lambda server, frame: None)\n"
        "server.on('worker_start', lambda server: 1 / 0)\n"
        "server.start()\n"
    )
    source = (
        "from zwoole import testing\n"
        "testing.START_S = testing.ANSWER_S = 3600.0\n"
        "try:\n"
        "    testing.serve('app.py', worker_num=1).__enter__()\n"
        "except testing.ServerFailed as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert done.stdout.startswith("the server did not start but ended with code 3; its log:\n")


def test_a_bad_end_is_an_error_with_the_log() -> None:
    server = serve(EXAMPLES / "echo.py", worker_num=1)
    with pytest.raises(ServerFailed, match=r"ended with code -9; its log:[^$]*listening on"), server:
        psutil.Process(server.process.pid).kill()
    assert not any(is_alive(process) for process in server.family())
    assert not server.folder.exists()


def test_a_process_left_behind_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "GONE_S", 0.5)
    (tmp_path / "app.py").write_text(
        "import subprocess\n"
        "from zwoole import Server\n"
        "server = Server()\n"
        "server.on('message', lambda server, frame: None)\n"
        "server.on('worker_start', lambda server: subprocess.Popen(['sleep', '3600'], start_new_session=True))\n"
        "server.start()\n"
    )
    server = serve(tmp_path / "app.py", worker_num=1)
    with pytest.raises(ServerFailed, match="left processes"), server:
        left = server.family()
    assert len(left) == 3
    assert not any(is_alive(process) for process in left)


def test_what_fails_in_the_test_is_what_is_raised(capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(EXAMPLES / "echo.py", worker_num=1)
    with pytest.raises(ZeroDivisionError), server:
        family = server.family()
        raise ZeroDivisionError
    assert not any(is_alive(process) for process in family)
    assert not server.folder.exists()
    assert "listening on" in capsys.readouterr().err


def test_new_code_that_does_not_boot_is_said_by_reload(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text((EXAMPLES / "echo.py").read_text())
    with serve(app, worker_num=1) as server:
        app.write_text("import nobody\n")
        with pytest.raises(ZwooleError, match="the old workers stay in service"):
            server.reload()


def test_the_snippet_in_the_readme_is_a_test_that_passes(tmp_path: Path) -> None:
    section = README.read_text().split("\n## Testing your app\n")[1].split("\n## ")[0]
    snippet = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert snippet is not None
    (tmp_path / "test_echo.py").write_text(snippet[1])
    (tmp_path / "echo.py").write_text((EXAMPLES / "echo.py").read_text())
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_echo.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "NO_PROXY": "*"},
    )
    assert run.returncode == 0, run.stdout
    assert "1 passed" in run.stdout
