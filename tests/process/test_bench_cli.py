"""The command `zwoole bench`: its arguments, its output, its files, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from tests.bench.bench_parts import closed_port, echo, echo_but, websocket_server
from tests.process.waiting import PATIENCE_S
from tests.zwoole.command import Command
from zwoole.bench.loadtest import run
from zwoole.bench.loadtest.cli import bench
from zwoole.bench.loadtest.plan import Plan


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys, "bench")


async def hear(connection: ServerConnection) -> None:
    """Receive messages without answering."""
    async for _ in connection:
        pass


def test_a_server_that_does_not_reply_is_said_before_the_run_is_over(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "NO_REPLY_S", 0.5)
    with websocket_server(hear) as target:
        code, out, err = command(str(target), "-c", "2", "--processes", "1", "--duration", "3600", "--warmup", "0")
    assert (code, out) == (1, "")
    assert f"zwoole: no reply from {target}: --mode echo needs a server that sends every message back" in err


def test_without_messages_no_reply_is_needed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "NO_REPLY_S", 0.0)
    arguments = ["--mode", "idle", "-c", "2", "--processes", "1", "--duration", "0.6", "--warmup", "0"]
    with websocket_server(hear) as target:
        code, out, _ = command(str(target), *arguments)
    assert (code, "no reply" in out) == (0, False)


def test_a_run_prints_a_table_and_writes_files(command: Command, tmp_path: Path) -> None:
    json_file, html_file = tmp_path / "result.json", tmp_path / "result.html"
    with websocket_server(echo) as target:
        code, out, err = command(
            str(target),
            "-c",
            "2",
            "--duration",
            "1.2",
            "--warmup",
            "0",
            "--json",
            str(json_file),
            "--html",
            str(html_file),
        )
    assert code == 0, out + err
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0].startswith("echo of 64 B text on 2 connections")
    assert lines[1].startswith("closed loop, 1 outstanding on each")
    result = json.loads(json_file.read_text())["result"]
    assert f"messages/s {result['rate']:,.0f} {result['messages']:,} right replies in 1.20 s" in lines
    assert "errors none" in lines
    assert result["messages"] > 0
    assert html_file.read_text().startswith("<!doctype html>")
    assert "errors 0  0 s left" in err  # a progress line


def test_a_wrong_reply_is_exit_code_1(command: Command) -> None:
    async def shorten(connection: ServerConnection, message: str | bytes) -> None:
        await connection.send(message[:-1])

    with websocket_server(echo_but(1, shorten)) as target:
        code, out, _ = command(str(target), "-c", "2", "--messages", "5")
    assert code == 1
    assert ["length", "2", "a", "reply's", "length", "differed"] in [line.split()[:6] for line in out.splitlines()]


def test_why_there_is_no_result_is_one_line(command: Command) -> None:
    def forbid(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.FORBIDDEN, "not with\nthat token\n")

    with (
        websocket_server(echo, process_request=forbid) as refusing,
        websocket_server(echo, secure=True) as secure,
        websocket_server(echo) as plain,
    ):
        for url, reason in [
            (str(closed_port()), "Connection refused"),
            (str(refusing), "HTTP status 403 Forbidden: not with that token"),
            (str(secure), "TLS: certificate not accepted: self-signed certificate (--insecure does not verify it)"),
            (f"ws://no.such.host.invalid:{plain.port}/", ""),
        ]:
            code, out, err = command(url, "-c", "1")
            assert (code, out) == (1, "")
            assert err.startswith(f"zwoole: cannot open a connection to {url}: {reason}")
            assert err.count("\n") == 1
        code, out, err = command(str(plain), "--compress")
        assert (code, out) == (1, "")
        assert err.endswith("the server does not agree to permessage-deflate\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["h:1"], "bad URL 'h:1'"),
        (["ws://h/", "--size", "64:80,"], "neither a number of bytes nor a mix"),
        (["ws://h/", "--mode", "nonsense"], "nonsense"),
        (["ws://h/", "--rate", "5", "--depth", "2"], "--depth is for the closed loop"),
        (["ws://h/", "--rate", "0"], "--rate"),
        (["ws://h/", "--mode", "idle", "--rate", "5"], "mode idle sends no messages"),
        (["ws://h/", "--header", "no colon"], "'no colon' is not of the form 'Name: value'"),
        (["ws://h/", "--header", "A: b\r\nC: d"], "is not of the form"),
        (["ws://h/", "--json", "/no/such/folder/x.json"], "there is no folder /no/such/folder"),
        (["ws://h/", "--sources", "255"], "--sources"),
        (["ws://h/", "--no-such-option"], "--no-such-option"),
        ([], "URL"),
    ],
)
def test_bad_usage_is_exit_code_2(command: Command, arguments: list[str], reason: str) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert reason in err


def test_options_become_a_plan(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr("zwoole.bench.loadtest.cli._run", lambda plan, *files: plans.append(plan) or 0)
    options = "-c 8 --processes 3 --mode fanout --senders 2 --size 64:80,4096:20 --rate 50 --duration 2 --warmup 0.5"
    options += " --binary --subprotocol a --subprotocol b --compress --insecure --sources 4"
    assert command("wss://h/x", *options.split(), "--header", "X-A: 1", "--header", "X-B:2")[0] == 0
    assert plans == [
        Plan(
            plans[0].target,
            connections=8,
            processes=3,
            size=((64, 80), (4096, 20)),
            duration_s=2.0,
            warmup_s=0.5,
            binary=True,
            mode="fanout",
            senders=2,
            rate=50.0,
            headers=(("X-A", "1"), ("X-B", "2")),
            subprotocols=("a", "b"),
            insecure=True,
            compress=True,
            sources=4,
        )
    ]
    assert str(plans[0].target) == "wss://h:443/x"
    assert command("ws://h/")[0] == 0
    assert plans[1].depth == 1
    assert plans[1].processes >= 1


def test_help_lists_every_option(command: Command) -> None:
    code, out, _ = command("--help")
    assert code == 0
    assert out.startswith("Usage: zwoole bench [OPTIONS] URL")
    for parameter in bench.params:
        assert parameter.human_readable_name == "URL" or parameter.opts[0] in out


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_the_other_commands_do_not_load_it() -> None:
    ran = python("import sys, zwoole.cli; print([name for name in sys.modules if name.startswith('zwoole.bench')])")
    assert ran.stdout == "[]\n", ran.stderr


def test_what_is_not_installed_is_said_with_the_command_that_installs_it() -> None:
    ran = python(
        "import sys; sys.modules['hdrh'] = None; sys.argv = ['zwoole', 'bench', 'ws://127.0.0.1:1/'];"
        "import zwoole.cli; zwoole.cli.main()"
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "zwoole: the load tester needs hdrhistogram: pip install 'zwoole[bench]'\n"
