"""Pushes leave while their callback runs, and finished callbacks stay finished: tested by order, never by the clock.

A callback here continues only when its client confirms the push. If the push waited for the callback's end, the two
would wait for each other, and the client would time out.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError

from tests.process.conftest import Serve

APP = """
import asyncio
import hashlib
import threading
import time
from pathlib import Path

from zwoole import Server

server = Server()
GO = Path({go!r})


def wait(how):
    if how == "sleep":  # in C, with the interpreter lock released
        while not GO.exists():
            time.sleep(0.02)
    elif how == "compute":  # in Python
        while not GO.exists():
            sum(range(2000))
    elif how == "hash":  # in C, for long, with the interpreter lock released
        while not GO.exists():
            hashlib.sha256(bytes(16 << 20)).digest()
    else:  # in C, with the interpreter lock held, which is given back in between
        while not GO.exists():
            sorted(range(100_000, 0, -1))


def act(how, push):
    push("pushed")
    wait(how)
    push("done")

{serving}

server.start()
"""

THREADED = """
@server.on("message")
{kind} on_message(server, frame):
    def push(text):
        thread = threading.Thread(target=server.push, args=(frame.fd, text))
        thread.start()
        thread.join()
    act(frame.data, push)
"""

SERVING = {
    "def": """
@server.on("message")
def on_message(server, frame):
    act(frame.data, lambda text: server.push(frame.fd, text))
""",
    "async def": """
@server.on("message")
async def on_message(server, frame):
    act(frame.data, lambda text: server.push(frame.fd, text))
""",
    "handler": """
@server.handler("/")
async def serve(ws):
    async for how in ws:
        await ws.send("pushed")
        wait(how)
        await ws.send("done")
""",
    "thread": THREADED.format(kind="def"),
    "thread beside a coroutine": THREADED.format(kind="async def"),
    "task": """
@server.on("message")
async def on_message(server, frame):
    asyncio.create_task(later(frame))

async def later(frame):
    act(frame.data, lambda text: server.push(frame.fd, text))
""",
    "broadcast": """
@server.on("message")
def on_message(server, frame):
    act(frame.data, server.broadcast)
""",
}


@pytest.mark.parametrize("reactors", [1, 2])
@pytest.mark.parametrize("how", ["sleep", "compute", "hash", "locked"])
@pytest.mark.parametrize("serving", SERVING)
def test_a_push_leaves_while_its_callback_goes_on(
    serve: Serve, tmp_path: Path, serving: str, how: str, reactors: int
) -> None:
    if reactors > 1 and how != "sleep":
        return  # with two masters only the recipients differ, not what the callback does
    go = tmp_path / "go"
    server = serve(APP.format(go=str(go), serving=SERVING[serving]), reactor_num=reactors)
    with server.connect() as client:
        client.send(how)
        assert client.recv(60) == "pushed"
        go.touch()
        assert client.recv(60) == "done"


@pytest.mark.parametrize("serving", ["def", "async def"])
def test_a_callback_that_has_ended_is_not_undone_by_the_death_of_the_next_one(
    serve: Serve, tmp_path: Path, serving: str
) -> None:
    """The worker is killed in the second callback, after the first client has its answer: the first connection
    stays.
    """
    callback = f"""
@server.on("message")
{serving} on_message(server, frame):
    server.push(frame.fd, "answer")
    if frame.data == "stay":
        wait("sleep")
"""
    server = serve(APP.format(go=str(tmp_path / "go"), serving=callback))
    (worker,) = server.pids("worker")
    with server.connect() as first, server.connect() as second:
        first.send("end")
        assert first.recv(60) == "answer"
        second.send("stay")
        assert second.recv(60) == "answer"  # it was sent behind the acknowledgement of the first one
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(ConnectionClosedError):
            second.recv(60)
        first.send("end")
        assert first.recv(60) == "answer"


def test_one_slow_callback_after_the_other_answers_one_after_the_other(serve: Serve, tmp_path: Path) -> None:
    """Three messages in one batch; each answer arrives before the next callback ends."""
    serving = """
@server.on("message")
def on_message(server, frame):
    while not GO.with_name(frame.data).exists():
        time.sleep(0.01)
    server.push(frame.fd, frame.data)
"""
    server = serve(APP.format(go=str(tmp_path / "go"), serving=serving))
    with server.connect() as client:
        for name in ("first", "second", "third"):
            client.send(name)
        for name in ("first", "second", "third"):
            (tmp_path / name).touch()
            assert client.recv(60) == name
