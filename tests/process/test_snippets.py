"""Every command and snippet of README and docs/, run unchanged, or checked as far as this machine allows.

A block that cannot be run has a comment before it that says why; its commands are still parsed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.process.conftest import Serve
from tests.process.doc_sandbox import DocSandbox, listens
from tests.process.server_process import EXAMPLES, ZWOOLE, ServerProcess, free_ports
from tests.process.waiting import PATIENCE_S, wait_for
from tests.snippets import ROOT, Snippet, commands, snippets, spans
from zwoole import testing
from zwoole.cli import zwoole

LANGUAGES = {"python", "sh", "console", "text", "ini", "dockerfile", "nginx", "logrotate", "yaml", "html"}
PLACEHOLDERS = {"FD": "1", "PID": "1", "SECONDS": "1", "SHELL": "bash", "NAME=VALUE": "close_timeout=2"}
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD"}
AS_IT_IS = re.compile("zwoole runs uncompiled|but the kernel keeps|this machine's limit of open files")


def ids(found: Sequence[Snippet]) -> list[str]:
    return [str(one) for one in found]


@pytest.fixture
def sandbox() -> Iterator[DocSandbox]:
    with DocSandbox() as sandbox:
        yield sandbox


def only(language: str) -> Snippet:
    """Return the only block in a language."""
    (found,) = snippets(language)
    return found


def test_every_block_says_what_it_is_and_there_are_some_of_each() -> None:
    assert {found.language for found in snippets()} == LANGUAGES


# Python.

PYTHON = [found for found in snippets("python") if not found.why_not]
APPS = [found for found in PYTHON if "server.start()" in found.text]
PROGRAMS = [found for found in PYTHON if found not in APPS]


@pytest.mark.parametrize("app", APPS, ids=ids(APPS))
def test_an_app_serves(app: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers, reloads, answers again, and ends silently."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = tmp_path / "app.py"
    path.write_text(app.text.replace("8085", str(free_ports(1)[0])))
    route = re.search(r'@server\.handler\("(.+?)"\)|# A client: ws://127\.0\.0\.1:8080(/\S*)', app.text)
    target = (route[1] or route[2]) if route else "/"
    with testing.serve(path, worker_num=2) as server, connect(server.url(target)) as client:
        client.send("Hello, server!")
        assert client.recv(PATIENCE_S)
        server.reload()
        with connect(server.url(target)) as another:
            another.send("Hello, server!")
            assert another.recv(PATIENCE_S)
        assert server.status()["stats"]["total"]["failures"] == {}
        server.finish()
        log = server.log()
    said = [line for line in log.splitlines() if " INFO " not in line and not AS_IT_IS.search(line)]
    assert said == [], "it has nothing to complain of"
    assert "task(s) of the app" not in log


def test_python_that_is_not_run_could_be() -> None:
    for found in snippets("python"):
        compile(found.text, str(found), "exec")


@pytest.mark.parametrize("program", PROGRAMS, ids=ids(PROGRAMS))
def test_a_program_runs(program: Snippet, sandbox: DocSandbox) -> None:
    """A test runs under pytest, everything else beside a server that has a client."""
    if "def test_" in program.text:
        sandbox.write("test_it.py", program.text)
        assert re.search(
            r"[1-9]\d* passed", sandbox.run(f"{sys.executable} -m pytest -q -p no:cacheprovider test_it.py")
        )
        return
    sandbox.serve("zwoole run app.py")
    sandbox.write("program.py", program.text)
    with connect(sandbox.here("ws://127.0.0.1:8080/")):
        assert sandbox.run(f"{sys.executable} program.py")


# Commands.

BLOCKS = snippets("sh", "console")
RUN = [found for found in BLOCKS if not found.why_not]
NOT_RUN = [found for found in BLOCKS if found.why_not]


def serves(command: str) -> bool:
    """Return whether a command is a server that runs until it is stopped."""
    in_front = command.startswith(("zwoole run ", "python app.py")) and "--daemon" not in command
    return in_front or command.endswith("&")


def shape(line: str) -> str:
    """Return a line without the numbers and units that differ between runs and machines."""
    return " ".join(re.sub(r"[\d.,]+( ?[num]?s\b| process(es)?| cores?)?", "N", line).split())


def check(command: str) -> None:
    """Check that what a command calls exists, without calling it: a target of make, or zwoole with such options."""
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command) if word not in ("...", "&")]
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= TARGETS
    elif Path(words[0]).name == "zwoole" and len(words) > 1 and words[1] not in ("--help", "COMMAND"):
        group = click.Context(zwoole, **zwoole.context_settings)
        subcommand = zwoole.get_command(group, words[1])
        assert subcommand is not None, f"there is no command {words[1]}"
        try:
            subcommand.make_context(words[1], words[2:], parent=group)
        except click.MissingParameter:
            pass  # named within a sentence, without its arguments
        except click.exceptions.Exit as done:  # --help
            assert done.exit_code == 0


@pytest.mark.parametrize("block", RUN, ids=ids(RUN))
def test_a_block_of_commands_runs(block: Snippet, sandbox: DocSandbox) -> None:
    """One after the other, beside a server if none of them starts one."""
    found = commands(block)
    if not any(serves(command) or command.startswith("make ") for command, _ in found[:1]):
        sandbox.serve("zwoole run app.py")
    for command, printed in found:
        if command.startswith("make "):
            check(command)
            subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, check=True, capture_output=True)
        elif serves(command):
            sandbox.serve(command.removesuffix("&"))
        else:
            said = sandbox.run(re.sub(r"--(drain|duration) \d+", r"--\1 1", command))
            lines = {shape(line) for line in said.splitlines()}
            assert [line for line in printed.splitlines() if shape(sandbox.here(line)) not in lines] == [], said


@pytest.mark.parametrize("block", NOT_RUN, ids=ids(NOT_RUN))
def test_what_is_not_run_could_be(block: Snippet) -> None:
    assert len(block.why_not) > 10
    for command, _ in commands(block):
        check(command)
        for word in shlex.split(command):
            assert not word.startswith("examples/") or (ROOT / word).exists()


@pytest.mark.parametrize(
    "command", [span for _, span in spans()], ids=[f"{page.name}-{span}" for page, span in spans()]
)
def test_a_command_within_a_sentence_is_one(command: str) -> None:
    check(command)


# Configuration of other programs.


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_units_and_what_the_page_adds_to_them_are_verified(tmp_path: Path) -> None:
    for unit in EXAMPLES.glob("zwoole.s*"):
        text = unit.read_text().replace("/srv/app/.venv/bin/zwoole", str(ZWOOLE))
        (tmp_path / unit.name).write_text(text)
    added = tmp_path / "zwoole.service.d" / "stop.conf"
    added.parent.mkdir()
    added.write_text(only("ini").text.replace("/srv/app/.venv/bin/zwoole", str(ZWOOLE)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "zwoole.service"), str(tmp_path / "zwoole.socket")],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
    )
    ours = [line for line in done.stderr.splitlines() if "zwoole" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_commands_of_the_units_are_ones() -> None:
    lines = (EXAMPLES / "zwoole.service").read_text() + only("ini").text
    found = re.findall(r"^Exec\w+=(.+)$", lines, re.MULTILINE)
    assert len(found) == 3
    for command in found:
        check(command)


def test_the_dockerfile_has_instructions_and_commands_that_are_some() -> None:
    lines = only("dockerfile").text.splitlines()
    assert {line.split()[0] for line in lines} == INSTRUCTIONS
    lists = [json.loads(line[line.index("[") :]) for line in lines if line.startswith(("CMD", "HEALTHCHECK"))]
    assert len(lists) == 2
    for words in lists:
        check(shlex.join(words))


PROXY = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {text}
}}
"""
TELLS = """
    from zwoole import Server

    server = Server()

    @server.on("message")
    def on_message(server, frame):
        pass

    @server.on("open")
    def on_open(server, request):
        server.push(request.fd, f"{request.headers['X-Forwarded-For']} {request.headers['X-Forwarded-Proto']}")

    server.start()
"""


needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


@contextmanager
def proxied(folder: Path, serve: Serve, text: str) -> Iterator[str]:
    """Run nginx with this configuration in front of a server, and yield its address."""
    (port,) = free_ports(1)
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{serve(TELLS).port}").replace(
        "listen 80;", f"listen 127.0.0.1:{port};"
    )
    (folder / "nginx.conf").write_text(PROXY.format(folder=folder, text=text))
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with subprocess.Popen(command) as nginx:
        try:
            wait_for(lambda: listens(port), "nginx to listen")
            yield f"127.0.0.1:{port}"
        finally:
            nginx.terminate()


@needs_nginx
def test_nginx_lets_browsers_through(tmp_path: Path, serve: Serve) -> None:
    """A page from the host that nginx serves may connect, and the client's address reaches a callback."""
    with proxied(tmp_path, serve, only("nginx").text) as address:
        page = Origin(f"http://{address}")
        with connect(f"ws://{address}/", origin=page, compression=None) as client:
            assert client.recv(PATIENCE_S) == "127.0.0.1 http"


@needs_nginx
@pytest.mark.parametrize(("line", "status"), [("Host $http_host", 403), ("Upgrade $http_upgrade", 426)])
def test_nginx_needs_the_lines_that_the_page_explains(line: str, status: int, tmp_path: Path, serve: Serve) -> None:
    text = only("nginx").text.replace(f"proxy_set_header {line};", "")
    with proxied(tmp_path, serve, text) as address:
        page = Origin(f"http://{address}")
        with pytest.raises(InvalidStatus) as refused, connect(f"ws://{address}/", origin=page):
            pass
        assert refused.value.response.status_code == status


def test_nginx_waits_longer_than_pings_take() -> None:
    found = re.search(r"proxy_read_timeout (\d+)s;", only("nginx").text)
    assert found is not None
    assert int(found[1]) > 2 * 20


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed")
def test_logrotate_moves_the_log_and_has_it_opened_anew() -> None:
    with ServerProcess(TELLS) as server:
        path = server.folder / "zwoole.log"
        server.command += ["--log-file", str(path), "--pid-file", str(server.folder / "zwoole.pid")]
        server.start()
        wait_for(server.is_ready, "it to serve")
        text = only("logrotate").text.replace("/var/log", str(server.folder)).replace("/run", str(server.folder))
        configuration = server.write("logrotate.conf", text)
        state = server.folder / "state"
        subprocess.run(["logrotate", "-f", "-s", str(state), str(configuration)], check=True, capture_output=True)
        wait_for(lambda: path.exists() and "the log file was reopened" in path.read_text(), "a new file")
        assert "listening on ws://" in (server.folder / "zwoole.log.1").read_text()


def test_prometheus_is_sent_to_the_admin_listener() -> None:
    yaml = pytest.importorskip("yaml", reason="no parser of YAML is installed")
    (job,) = yaml.safe_load(only("yaml").text)["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:9090"]}]
    assert job["authorization"]["type"] == "Bearer"
